//! Conversations of teams in `/`, as a product's backend publishes them: of a tenant, or of the users without one. This page is the
//! list of what clients and backends may say and what happens then; it must never hold a rule of its own.

mod conversations;
mod members;
mod messages;
mod news;
mod place;
mod unread;

use hubbub_sdk::{Caller, Json, Message, Result, plugin};

/// The sentence for a visitor: that of the namespace's door, which another plugin owns.
const NEEDS_USER: &str = "Authentication error";

/// The plugin, without settings.
#[derive(Default)]
pub struct Conversations;

#[plugin(name = "conversations", tenancy = "optional")]
#[tenant_keys("teams//", with = "teams/{tenant}/")]
#[takes("chat", prefix = "teams/")]
#[namespace("/")]
#[room("/", "conversation:{id}")]
#[room("/", "open:{id}")]
#[room("/", "everyone")]
#[emits(news::CREATED, news::UPDATED, news::DELETED, conversations::TYPING)]
#[emits(messages::CREATED, messages::READ, messages::DELIVERED)]
#[emits(unread::UNREAD)]
impl Conversations {
    #[on_connect("/")]
    fn enter_team(caller: &Caller) -> Result<()> {
        conversations::enter(caller)
    }

    #[on("join_conversation", namespace = "/")]
    fn join_conversation(caller: &Caller, conversation: conversations::ConversationId) -> Result<()> {
        conversations::join(caller.user_or(NEEDS_USER)?, &conversation)
    }

    #[on("leave_conversation", namespace = "/")]
    fn leave_conversation(caller: &Caller, conversation: conversations::ConversationId) -> Result<()> {
        caller.user_or(NEEDS_USER)?;
        conversations::leave(&conversation)
    }

    #[on("typing", namespace = "/")]
    fn typing_in_conversation(caller: &Caller, conversation: conversations::ConversationId) -> Result<()> {
        conversations::typing(caller.user_or(NEEDS_USER)?, conversation)
    }

    #[on("mark_read", namespace = "/")]
    fn mark_read(caller: &Caller, read: messages::Read) -> Result<()> {
        messages::mark_read(caller.user_or(NEEDS_USER)?, &read)
    }

    #[on("delivered", namespace = "/")]
    fn delivered(caller: &Caller, delivered: messages::Read) -> Result<()> {
        messages::delivered(caller.user_or(NEEDS_USER)?, delivered)
    }

    #[on_message("conversation.created")]
    fn conversation_created(message: &Message, conversation: Json<conversations::Conversation>) -> Result<()> {
        conversations::upserted(message, &conversation, news::News::Created)
    }

    #[on_message("conversation.updated")]
    fn conversation_updated(message: &Message, conversation: Json<conversations::Conversation>) -> Result<()> {
        conversations::upserted(message, &conversation, news::News::Updated)
    }

    #[on_message("conversation.deleted")]
    fn conversation_deleted(message: &Message, conversation: Json<conversations::Conversation>) -> Result<()> {
        conversations::deleted(message, &conversation)
    }

    #[on_message("message.created")]
    fn message_created(message: &Message, created: Json<messages::Created>) -> Result<()> {
        messages::created(message, &created)
    }

    #[on_message("message.read")]
    fn message_read(message: &Message, read: messages::Published) -> Result<()> {
        messages::read(message, read)
    }

    // Continuations, where one call cannot reach thousands of members.

    #[on_message("conversation.told")]
    fn conversation_told(message: &Message, told: news::Told) -> Result<()> {
        news::told(message, &told)
    }

    #[on_message("conversation.unread")]
    fn conversation_unread(message: &Message, unread: unread::Unread) -> Result<()> {
        unread::told(message, &unread)
    }

    #[on_message("conversation.dismissed")]
    fn conversation_dismissed(message: &Message, dismissed: members::Dismissed) -> Result<()> {
        members::dismissed(message, &dismissed)
    }

    #[on_message("conversation.forgotten")]
    fn conversation_forgotten(message: &Message, forgotten: messages::Forgotten) -> Result<()> {
        messages::forgotten(message, &forgotten)
    }
}

#[cfg(test)]
mod tests;
