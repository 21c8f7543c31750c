//! A CRM's conversations in `/conversations`, each of one company. Every key and every room names its company, so nothing here
//! ever crosses from one to another, whatever ids they share. Messages are plain text: a client must show them as text, never as
//! HTML.

use hubbub_sdk::{
    Caller, Json, Message, Refusal, Result, User,
    emitter::{self, Emits},
    payload::{Id, published_id},
    rooms,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tenants;

pub(crate) mod messages;

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
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    company_id: Option<Id>,
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
    #[serde(default, deserialize_with = "published_id")]
    company_id: Option<Id>,
    event: String,
    to: To,
    data: Option<Json<serde::de::IgnoredAny>>,
}

/// `{company: true}`, `{conversation: id}` or `{user: id}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum To {
    Company(bool),
    #[serde(deserialize_with = "published_id")]
    Conversation(Id),
    #[serde(deserialize_with = "published_id")]
    User(Id),
}

/// What is known of a conversation: that it is the company's.
#[derive(Serialize, Deserialize)]
struct Known {}

/// The company of a user. The door lets nobody in without one.
fn company(user: &User) -> Result<&str> {
    user.tenant.as_deref().ok_or_else(|| Refusal::unauthenticated("Invalid or expired token"))
}

/// The company that a message is about: its own word, or the bus's.
fn company_of<'a>(named: Option<&'a Id>, message: &'a Message) -> Result<&'a str> {
    named.map(|id| &**id).or(message.tenant.as_deref()).ok_or_else(|| Refusal::invalid("companyId: missing"))
}

fn room_of_company(company: &str) -> String {
    format!("company:{company}")
}

fn room_of_conversation(company: &str, conversation: &str) -> String {
    tenants::room("conversation", company, conversation)
}

fn room_of_member(company: &str, user: &str) -> String {
    tenants::room("member", company, user)
}

fn conversation_key(company: &str, conversation: &str) -> String {
    key(["crm", company, "conversations", conversation])
}

fn not_found() -> Refusal {
    Refusal::not_found("Conversation not found")
}

fn is_known(company: &str, conversation: &str) -> Result<bool> {
    Ok(store::get::<Known>(&conversation_key(company, conversation))?.is_some())
}

/// Writes only what is new: an upsert or a message of a known conversation leaves it alone.
fn make_known(company: &str, conversation: &str) -> Result<()> {
    if is_known(company, conversation)? {
        return Ok(());
    }
    Ok(store::put(&conversation_key(company, conversation), &Known {})?)
}

/// On connect.
pub(crate) fn enter(caller: &Caller) -> Result<()> {
    let user = caller.user()?;
    let company = company(user)?;
    rooms::join(&room_of_company(company))?;
    Ok(rooms::join(&room_of_member(company, &user.id))?)
}

pub(crate) fn upserted(message: &Message, published: &Json<Conversation>) -> Result<()> {
    let conversation = published.value()?;
    let company = company_of(conversation.company_id.as_ref(), message)?;
    make_known(company, &conversation.conversation_id)?;
    Ok(UPDATED.to_room(&room_of_company(company), published)?)
}

pub(crate) fn join(user: &User, conversation: &ConversationId) -> Result<()> {
    let company = company(user)?;
    if !is_known(company, &conversation.conversation_id)? {
        return Err(not_found());
    }
    Ok(rooms::join(&room_of_conversation(company, &conversation.conversation_id))?)
}

pub(crate) fn leave(user: &User, conversation: &ConversationId) -> Result<()> {
    Ok(rooms::leave(&room_of_conversation(company(user)?, &conversation.conversation_id))?)
}

/// Straight to the room, the sender too: no store, no bus. Who has not joined is told what one of another company is told.
pub(crate) fn typing(user: &User, conversation: &ConversationId) -> Result<()> {
    let room = room_of_conversation(company(user)?, &conversation.conversation_id);
    if !rooms::joined(&room)? {
        return Err(not_found());
    }
    let user_name = user.email.as_deref().unwrap_or(user.display_name()).to_owned();
    Ok(TYPING.volatile().to_room(&room, &Typing { user_id: user.id.clone(), user_name })?)
}

/// An event that only the product knows. A name that Socket.IO keeps for itself is a failure, which the log explains.
pub(crate) fn any(message: &Message, Any { company_id, event, to, data }: &Any) -> Result<()> {
    let company = company_of(company_id.as_ref(), message)?;
    let room = match to {
        To::Company(true) => room_of_company(company),
        To::Company(false) => return Err(Refusal::invalid("to.company: must be true")),
        To::Conversation(id) => room_of_conversation(company, id),
        To::User(id) => room_of_member(company, id),
    };
    Ok(emitter::to_room(NAMESPACE, &room, event, data)?)
}

#[cfg(test)]
mod tests;
