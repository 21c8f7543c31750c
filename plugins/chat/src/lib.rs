//! Chat, of five kinds: the courses' stored Q&A chats in `/chat`, the videos' live chats and the teams' conversations in `/`, the
//! support desk's threads in `/hub` and `/portal`, and the CRM's conversations in `/conversations`. This page is the list of what
//! clients and backends may say and what happens then; it must never hold a rule of its own.

mod conversations;
mod crm;
mod live;
mod lms;
mod participants;
mod sanitize;
mod tenants;
mod threads;

use hubbub_sdk::{Caller, Event, Json, Message, Result, payload::IdOr, plugin, rooms};
use serde::Deserialize;

/// The operator's settings, `[plugins.chat.config]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Messages a minute and user, in each of the courses' and the videos' chats. 0: no limit.
    messages_per_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { messages_per_minute: 10 }
    }
}

/// The plugin: its settings, and nothing that changes.
pub struct Chat {
    config: Config,
}

#[plugin(name = "chat")]
#[door("/chat", token = "required", missing = "Authentication error", invalid = "Invalid token")]
#[door("/", token = "optional", missing = "Authentication error", invalid = "Invalid token")]
#[door("/hub", token = "required", roles = ["ATTENDANT", "ADMIN"], missing = "Token invalido", invalid = "Token invalido",
    forbidden = "Token invalido")]
#[door("/portal", token = "required", missing = "Token invalido", invalid = "Token invalido", forbidden = "Token invalido")]
#[door("/conversations", token = "required", claims = ["userId", "companyId"], missing = "Authentication required",
    invalid = "Invalid or expired token")]
#[room("/chat", "chat:{chatId}")]
#[room("/", "chat:{videoId}")]
#[room("/hub", "thread:{id}")]
#[room("/portal", "thread:{id}")]
#[room("/conversations", "company:{id}")]
#[room("/conversations", "conversation:{id}")]
#[room("/conversations", "member:{id}")]
#[room("/", "conversation:{id}")]
#[room("/", "open:{id}")]
#[room("/", "member:{id}")]
#[room("/", "everyone")]
#[emits(lms::JOINED, lms::LEFT, lms::MESSAGE, lms::TYPING)]
#[emits(live::MESSAGE, live::TYPING, live::USER_COUNT)]
#[emits(threads::TYPING, threads::CURSOR, threads::MESSAGE, threads::STATUS, threads::ACCEPTED, threads::ENDED)]
#[emits(threads::TYPING_PORTAL, threads::CURSOR_PORTAL, threads::MESSAGE_PORTAL)]
#[emits(threads::STATUS_PORTAL, threads::ACCEPTED_PORTAL, threads::ENDED_PORTAL)]
#[emits(crm::UPDATED, crm::TYPING, crm::messages::NEW, crm::messages::UPDATED, crm::messages::DELETED)]
#[emits(conversations::news::CREATED, conversations::news::UPDATED, conversations::news::DELETED, conversations::TYPING)]
#[emits(conversations::messages::CREATED, conversations::messages::READ, conversations::messages::DELIVERED)]
#[emits(conversations::unread::UNREAD)]
impl Chat {
    fn init(config: Config) -> Self {
        Self { config }
    }

    #[on("chat:join", namespace = "/chat", reply)]
    fn join(caller: &Caller, chat: lms::ChatId) -> Result<lms::Joined> {
        lms::join(caller.user()?, chat)
    }

    #[on("chat:message", namespace = "/chat", invalid = "Invalid message")]
    fn message(&self, caller: &Caller, event: &Event, said: lms::Said) -> Result<()> {
        lms::message(caller.user()?, &event.id, said, self.config.messages_per_minute)
    }

    #[on("chat:typing", namespace = "/chat")]
    fn typing(caller: &Caller, chat: lms::ChatId) -> Result<()> {
        lms::typing(caller.user()?, chat)
    }

    #[on("chat:leave", namespace = "/chat", reply)]
    fn leave(caller: &Caller, chat: lms::ChatId) -> Result<lms::ChatId> {
        lms::leave(caller.user()?, chat)
    }

    #[on("chat:history", namespace = "/chat", reply)]
    fn history(caller: &Caller, asked: lms::history::Asked) -> Result<lms::history::Page> {
        lms::history::page(caller.user()?, asked)
    }

    #[on("chat:read", namespace = "/chat", reply)]
    fn read(caller: &Caller, chat: lms::ChatId) -> Result<lms::unread::Count> {
        lms::unread::read(caller.user()?, chat)
    }

    #[on_message("chat.upserted")]
    fn upserted(message: &Message, chat: participants::Upserted) -> Result<()> {
        participants::upserted(message, &chat)
    }

    #[on_message("chat.deleted")]
    fn deleted(message: &Message, chat: participants::Deleted) -> Result<()> {
        participants::deleted(message, chat)
    }

    #[on_message("chat.removed")]
    fn removed(message: &Message, batch: participants::Removed) -> Result<()> {
        participants::removed(message, &batch)
    }

    #[on("chat:join", namespace = "/")]
    fn join_live(video: live::VideoId) -> Result<()> {
        live::join(video)
    }

    #[on("chat:leave", namespace = "/")]
    fn leave_live(video: live::VideoId) -> Result<()> {
        live::leave(&video)
    }

    #[on("chat:message", namespace = "/", invalid = "Invalid message")]
    fn message_live(&self, caller: &Caller, event: &Event, said: live::Said) -> Result<()> {
        live::message(caller, &event.id, said, self.config.messages_per_minute)
    }

    #[on("chat:typing", namespace = "/")]
    fn typing_live(caller: &Caller, typing: live::Typing) -> Result<()> {
        live::typing(caller, typing)
    }

    #[on_message("room.counted")]
    fn counted(counted: rooms::Counted) -> Result<()> {
        live::counted(&counted)
    }

    // The support desk: attendants in `/hub`, customers in `/portal`.

    #[on("join:thread", namespace = "/hub")]
    #[on("join:thread", namespace = "/portal")]
    fn join_thread(caller: &Caller, thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::join(caller, thread)
    }

    #[on("leave:thread", namespace = "/hub")]
    #[on("leave:thread", namespace = "/portal")]
    fn leave_thread(thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::leave(&thread)
    }

    #[on("typing:start", namespace = "/hub")]
    #[on("typing:start", namespace = "/portal")]
    fn start_typing(caller: &Caller, thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::typing(caller.user()?, thread, true)
    }

    #[on("typing:stop", namespace = "/hub")]
    #[on("typing:stop", namespace = "/portal")]
    fn stop_typing(caller: &Caller, thread: IdOr<threads::ThreadId>) -> Result<()> {
        threads::typing(caller.user()?, thread, false)
    }

    #[on("cursor:move", namespace = "/hub")]
    #[on("cursor:move", namespace = "/portal")]
    fn move_cursor(caller: &Caller, cursor: threads::Cursor) -> Result<()> {
        threads::cursor(caller.user()?, cursor)
    }

    #[on("thread:send", namespace = "/hub", invalid = "Invalid message")]
    #[on("thread:send", namespace = "/portal", invalid = "Invalid message")]
    fn send_to_thread(caller: &Caller, event: &Event, message: threads::Send) -> Result<()> {
        threads::send(caller.user()?, event, message)
    }

    #[on_message("thread.upserted")]
    fn thread_upserted(thread: threads::Upserted) -> Result<()> {
        threads::upserted(thread)
    }

    #[on_message("thread.message")]
    fn thread_message(message: &Message, said: threads::Published) -> Result<()> {
        threads::message(message, said)
    }

    #[on_message("thread.status")]
    fn thread_status(status: threads::Status) -> Result<()> {
        threads::status(&status)
    }

    #[on_message("chat.accepted")]
    fn chat_accepted(accepted: threads::Accepted) -> Result<()> {
        threads::accepted(&accepted)
    }

    #[on_message("chat.ended")]
    fn chat_ended(ended: threads::Ended) -> Result<()> {
        threads::ended(&ended)
    }

    // The CRM: `/conversations`.

    #[on_connect("/conversations")]
    fn enter_company(caller: &Caller) -> Result<()> {
        crm::enter(caller)
    }

    #[on("join:conversation", namespace = "/conversations")]
    fn join_crm(caller: &Caller, conversation: IdOr<crm::ConversationId>) -> Result<()> {
        crm::join(caller.user()?, &conversation)
    }

    #[on("leave:conversation", namespace = "/conversations")]
    fn leave_crm(caller: &Caller, conversation: IdOr<crm::ConversationId>) -> Result<()> {
        crm::leave(caller.user()?, &conversation)
    }

    #[on("conversation:typing", namespace = "/conversations")]
    fn typing_crm(caller: &Caller, conversation: IdOr<crm::ConversationId>) -> Result<()> {
        crm::typing(caller.user()?, &conversation)
    }

    #[on("message:send", namespace = "/conversations", reply = "message:sent", on_failure = "Failed to send message")]
    fn send_crm(caller: &Caller, event: &Event, message: crm::messages::Send) -> Result<crm::messages::Sent> {
        crm::messages::send(caller.user()?, event, message)
    }

    #[on("message:edit", namespace = "/conversations")]
    fn edit_crm(caller: &Caller, edit: crm::messages::Edit) -> Result<()> {
        crm::messages::edit(caller.user()?, edit)
    }

    #[on("message:delete", namespace = "/conversations")]
    fn delete_crm(caller: &Caller, message: crm::messages::Delete) -> Result<()> {
        crm::messages::delete(caller.user()?, message)
    }

    #[on_message("conversation.upserted")]
    fn crm_upserted(message: &Message, conversation: Json<crm::Conversation>) -> Result<()> {
        crm::upserted(message, &conversation)
    }

    #[on_message("message.received")]
    fn crm_received(message: &Message, received: crm::messages::Received) -> Result<()> {
        crm::messages::received(message, received)
    }

    #[on_message("crm.event")]
    fn crm_event(message: &Message, event: crm::Any) -> Result<()> {
        crm::any(message, &event)
    }

    // The teams' conversations: `/`.

    #[on_connect("/")]
    fn enter_team(caller: &Caller) -> Result<()> {
        conversations::enter(caller)
    }

    #[on("join_conversation", namespace = "/")]
    fn join_conversation(caller: &Caller, conversation: conversations::ConversationId) -> Result<()> {
        conversations::join(caller.user()?, &conversation)
    }

    #[on("leave_conversation", namespace = "/")]
    fn leave_conversation(caller: &Caller, conversation: conversations::ConversationId) -> Result<()> {
        conversations::leave(caller.user()?, &conversation)
    }

    #[on("typing", namespace = "/")]
    fn typing_in_conversation(caller: &Caller, conversation: conversations::ConversationId) -> Result<()> {
        conversations::typing(caller.user()?, conversation)
    }

    #[on("mark_read", namespace = "/")]
    fn mark_read(caller: &Caller, read: conversations::messages::Read) -> Result<()> {
        conversations::messages::mark_read(caller.user()?, &read)
    }

    #[on("delivered", namespace = "/")]
    fn delivered(caller: &Caller, delivered: conversations::messages::Read) -> Result<()> {
        conversations::messages::delivered(caller.user()?, delivered)
    }

    #[on_message("conversation.created")]
    fn conversation_created(message: &Message, conversation: Json<conversations::Conversation>) -> Result<()> {
        conversations::upserted(message, &conversation, conversations::news::News::Created)
    }

    #[on_message("conversation.updated")]
    fn conversation_updated(message: &Message, conversation: Json<conversations::Conversation>) -> Result<()> {
        conversations::upserted(message, &conversation, conversations::news::News::Updated)
    }

    #[on_message("conversation.deleted")]
    fn conversation_deleted(message: &Message, conversation: Json<conversations::Conversation>) -> Result<()> {
        conversations::deleted(message, &conversation)
    }

    #[on_message("message.created")]
    fn message_created(message: &Message, created: Json<conversations::messages::Created>) -> Result<()> {
        conversations::messages::created(message, &created)
    }

    #[on_message("message.read")]
    fn message_read(message: &Message, read: conversations::messages::Published) -> Result<()> {
        conversations::messages::read(message, read)
    }

    // What one call cannot do for thousands of members, continued.

    #[on_message("conversation.told")]
    fn conversation_told(told: conversations::news::Told) -> Result<()> {
        conversations::news::told(&told)
    }

    #[on_message("conversation.unread")]
    fn conversation_unread(unread: conversations::unread::Unread) -> Result<()> {
        conversations::unread::told(&unread)
    }

    #[on_message("conversation.dismissed")]
    fn conversation_dismissed(dismissed: conversations::members::Dismissed) -> Result<()> {
        conversations::members::dismissed(&dismissed)
    }

    #[on_message("conversation.forgotten")]
    fn conversation_forgotten(forgotten: conversations::messages::Forgotten) -> Result<()> {
        conversations::messages::forgotten(&forgotten)
    }
}
