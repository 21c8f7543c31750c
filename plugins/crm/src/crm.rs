//! A company's conversations, their rooms, and the product's own events. Every key names its company, and the host keeps the rooms
//! and users of companies apart, so nothing here crosses from one to another, though they share ids.

use hubbub_sdk::{
    Caller, Json, Message, Refusal, Result, User,
    emitter::{self, Emits},
    payload::{Id, published_id},
    rooms,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) const NAMESPACE: &str = "/conversations";

pub(crate) const UPDATED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation:updated");
pub(crate) const TYPING: Emits<Typing> = Emits::new(NAMESPACE, "conversation:typing");

/// The bare id, or `{conversationId}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationId {
    conversation_id: Id,
}

impl From<Id> for ConversationId {
    fn from(conversation_id: Id) -> Self {
        Self { conversation_id }
    }
}

/// `conversation.upserted`, passed on as published: with whatever else it carries.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conversation {
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Typing {
    user_id: String,
    user_name: String,
}

/// `crm.event`: any event of the product's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Any {
    event: String,
    to: To,
    data: Option<Json<serde::de::IgnoredAny>>,
}

/// `{company: true}`, `{conversation: id}` or `{user: id}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum To {
    Company(bool),
    Conversation(#[serde(deserialize_with = "published_id")] Id),
    User(#[serde(deserialize_with = "published_id")] Id),
}

/// What is known of a conversation: that it is the company's.
#[derive(Serialize, Deserialize)]
struct Known {}

/// The company of a user. The host refuses a caller without one.
pub(crate) fn company(user: &User) -> Result<&str> {
    user.tenant.as_deref().ok_or_else(|| Refusal::unauthenticated("Invalid or expired token"))
}

/// The company that a message is about. The host hands on no message without one.
pub(crate) fn company_of(message: &Message) -> Result<&str> {
    message.tenant.as_deref().ok_or_else(|| Refusal::invalid("companyId: missing"))
}

fn room_of_company(company: &str) -> String {
    format!("company:{company}")
}

pub(crate) fn room_of_conversation(conversation: &str) -> String {
    format!("conversation:{conversation}")
}

fn conversation_key(company: &str, conversation: &str) -> String {
    key(["crm", company, "conversations", conversation])
}

pub(crate) fn not_found() -> Refusal {
    Refusal::not_found("Conversation not found")
}

pub(crate) fn is_known(company: &str, conversation: &str) -> Result<bool> {
    Ok(store::get::<Known>(&conversation_key(company, conversation))?.is_some())
}

/// Writes only what is new: an upsert or a message of a known conversation leaves it alone.
pub(crate) fn make_known(company: &str, conversation: &str) -> Result<()> {
    if is_known(company, conversation)? {
        return Ok(());
    }
    Ok(store::put(&conversation_key(company, conversation), &Known {})?)
}

/// On connect.
pub(crate) fn enter(caller: &Caller) -> Result<()> {
    Ok(rooms::join(&room_of_company(company(caller.user()?)?))?)
}

pub(crate) fn upserted(message: &Message, published: &Json<Conversation>) -> Result<()> {
    let conversation = published.value()?;
    let company = company_of(message)?;
    make_known(company, &conversation.conversation_id)?;
    Ok(UPDATED.to_room(&room_of_company(company), published)?)
}

pub(crate) fn join(user: &User, conversation: &ConversationId) -> Result<()> {
    let company = company(user)?;
    if !is_known(company, &conversation.conversation_id)? {
        return Err(not_found());
    }
    Ok(rooms::join(&room_of_conversation(&conversation.conversation_id))?)
}

pub(crate) fn leave(conversation: &ConversationId) -> Result<()> {
    Ok(rooms::leave(&room_of_conversation(&conversation.conversation_id))?)
}

/// Straight to the room, the sender too: no store, no bus. Who has not joined is told what one of another company is told.
pub(crate) fn typing(user: &User, conversation: &ConversationId) -> Result<()> {
    let room = room_of_conversation(&conversation.conversation_id);
    if !rooms::joined(&room)? {
        return Err(not_found());
    }
    let user_name = user.email.as_deref().unwrap_or(user.display_name()).to_owned();
    Ok(TYPING.volatile().to_room(&room, &Typing { user_id: user.id.clone(), user_name })?)
}

/// An event that only the product knows. A name that Socket.IO keeps for itself is a failure, which the log explains.
pub(crate) fn any(message: &Message, Any { event, to, data }: &Any) -> Result<()> {
    let room = match to {
        To::Company(true) => room_of_company(company_of(message)?),
        To::Company(false) => return Err(Refusal::invalid("to.company: must be true")),
        To::Conversation(id) => room_of_conversation(id),
        To::User(id) => return Ok(emitter::to_user(NAMESPACE, id, event, data)?),
    };
    Ok(emitter::to_room(NAMESPACE, &room, event, data)?)
}
