//! Conversations of a CRM in `/conversations`, each of one company, which is the tenant. This page is the list of what clients and
//! backends may say and what happens then; it must never hold a rule of its own.

mod crm;
mod messages;

use hubbub_sdk::{Caller, Event, Json, Message, Result, payload::IdOr, plugin};

/// The plugin, without settings.
#[derive(Default)]
pub struct Crm;

#[plugin(name = "crm", tenancy = "required")]
#[takes("chat", prefix = "crm/")]
#[door("/conversations", token = "required", claims = ["userId", "companyId"], missing = "Authentication required",
    invalid = "Invalid or expired token")]
#[room("/conversations", "company:{id}")]
#[room("/conversations", "conversation:{id}")]
#[emits(crm::UPDATED, crm::TYPING, messages::NEW, messages::UPDATED, messages::DELETED)]
impl Crm {
    #[on_connect("/conversations")]
    fn enter_company(caller: &Caller) -> Result<()> {
        crm::enter(caller)
    }

    #[on("join:conversation", namespace = "/conversations")]
    fn join_crm(caller: &Caller, conversation: IdOr<crm::ConversationId>) -> Result<()> {
        crm::join(caller.user()?, &conversation)
    }

    #[on("leave:conversation", namespace = "/conversations")]
    fn leave_crm(conversation: IdOr<crm::ConversationId>) -> Result<()> {
        crm::leave(&conversation)
    }

    #[on("conversation:typing", namespace = "/conversations")]
    fn typing_crm(caller: &Caller, conversation: IdOr<crm::ConversationId>) -> Result<()> {
        crm::typing(caller.user()?, &conversation)
    }

    #[on("message:send", namespace = "/conversations", reply = "message:sent", on_failure = "Failed to send message")]
    fn send_crm(caller: &Caller, event: &Event, message: messages::Send) -> Result<messages::Sent> {
        messages::send(caller.user()?, event, message)
    }

    #[on("message:edit", namespace = "/conversations")]
    fn edit_crm(caller: &Caller, edit: messages::Edit) -> Result<()> {
        messages::edit(caller.user()?, edit)
    }

    #[on("message:delete", namespace = "/conversations")]
    fn delete_crm(caller: &Caller, message: messages::Delete) -> Result<()> {
        messages::delete(caller.user()?, message)
    }

    #[on_message("conversation.upserted")]
    fn crm_upserted(message: &Message, conversation: Json<crm::Conversation>) -> Result<()> {
        crm::upserted(message, &conversation)
    }

    #[on_message("message.received")]
    fn crm_received(message: &Message, received: messages::Received) -> Result<()> {
        messages::received(message, received)
    }

    #[on_message("crm.event")]
    fn crm_event(message: &Message, event: crm::Any) -> Result<()> {
        crm::any(message, &event)
    }
}

#[cfg(test)]
mod tests;
