//! Messages of a company's conversations: stored before it is sent to the room, and changed by its author alone. Messages are plain
//! text: a client must show them as text, never as HTML.

use hubbub_sdk::{
    Event, Message, Refusal, Result, User, bus, clock,
    emitter::Emits,
    payload::{Id, PublishedId},
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crm::{NAMESPACE, company, company_of, is_known, make_known, not_found, room_of_conversation};

/// The most characters of a message that a client sends; a longer or an empty one is `invalid`, "Invalid message". Inbound ones
/// are taken as they are: they have been said already.
const MAX_CHARACTERS: usize = 10_000;

pub(crate) const NEW: Emits<New> = Emits::new(NAMESPACE, "message:new");
pub(crate) const UPDATED: Emits<Updated> = Emits::new(NAMESPACE, "message:updated");
pub(crate) const DELETED: Emits<Deleted> = Emits::new(NAMESPACE, "message:deleted");

/// `message:send`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Send {
    conversation_id: Id,
    content: String,
}

/// `message:sent`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Sent {
    id: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct New {
    id: String,
    content: String,
    /// The user, or whom an inbound message is from.
    from_user_id: PublishedId,
    /// RFC 3339.
    timestamp: String,
    conversation_id: PublishedId,
}

/// `message:edit`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edit {
    message_id: Id,
    content: String,
}

/// `message:delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delete {
    message_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Updated {
    id: Id,
    content: String,
    updated_at: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Deleted {
    id: Id,
}

/// `message.received`: an inbound message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Received {
    conversation_id: PublishedId,
    from: PublishedId,
    content: String,
}

/// `message.sent`: for the figures.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counted<'a> {
    company_id: &'a str,
    conversation_id: &'a str,
    message_id: &'a str,
    user_id: &'a str,
}

/// A message as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    conversation_id: PublishedId,
    from: From,
    content: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
}

/// Who said it. A contact may have the same id as a user, and is not that user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum From {
    User(PublishedId),
    Contact(PublishedId),
}

impl From {
    fn id(&self) -> &PublishedId {
        match self {
            Self::User(id) | Self::Contact(id) => id,
        }
    }
}

fn message_key(company: &str, message: &str) -> String {
    key(["crm", company, "messages", message])
}

fn check(content: &str) -> Result<()> {
    let fits = !content.trim().is_empty() && content.chars().count() <= MAX_CHARACTERS;
    if fits { Ok(()) } else { Err(Refusal::invalid("Invalid message")) }
}

/// Stored first, then told to the room.
fn say(company: &str, id: &str, message: Stored) -> Result<()> {
    store::put(&message_key(company, id), &message)?;
    let room = room_of_conversation(&message.conversation_id);
    let new = New {
        id: id.to_owned(),
        from_user_id: message.from.id().clone(),
        content: message.content,
        timestamp: message.timestamp,
        conversation_id: message.conversation_id,
    };
    Ok(NEW.to_room(&room, &new)?)
}

/// Who sends need not have joined: that the conversation is the company's is enough.
pub(crate) fn send(user: &User, event: &Event, Send { conversation_id, content }: Send) -> Result<Sent> {
    let company = company(user)?;
    check(&content)?;
    if !is_known(company, &conversation_id)? {
        return Err(not_found());
    }
    let counted = Counted { company_id: company, conversation_id: &conversation_id, message_id: &event.id, user_id: &user.id };
    bus::publish_keyed("message.sent", &conversation_id, &counted)?;
    let timestamp = clock::rfc3339(clock::now());
    let (conversation_id, from) = (conversation_id.into(), From::User(user.id.clone().into()));
    say(company, &event.id, Stored { conversation_id, from, content, timestamp, updated_at: None })?;
    Ok(Sent { id: event.id.clone() })
}

/// A message may overtake the conversation it belongs to, and so makes it known.
pub(crate) fn received(message: &Message, received: Received) -> Result<()> {
    let company = company_of(message)?;
    let Received { conversation_id, from, content } = received;
    make_known(company, &conversation_id)?;
    let timestamp = clock::rfc3339(message.at);
    let from = From::Contact(from);
    say(company, &message.id, Stored { conversation_id, from, content, timestamp, updated_at: None })
}

/// The user's own message. That of another company is as unknown as one that never was.
fn own(user: &User, company: &str, message: &str) -> Result<Stored> {
    let stored: Option<Stored> = store::get(&message_key(company, message))?;
    let stored = stored.ok_or_else(|| Refusal::not_found("Message not found"))?;
    match &stored.from {
        From::User(id) if **id == *user.id => Ok(stored),
        _ => Err(Refusal::forbidden("Not authorized")),
    }
}

pub(crate) fn edit(user: &User, Edit { message_id, content }: Edit) -> Result<()> {
    let company = company(user)?;
    check(&content)?;
    let updated_at = clock::rfc3339(clock::now());
    let stored = own(user, company, &message_id)?;
    let room = room_of_conversation(&stored.conversation_id);
    let edited = Stored { content: content.clone(), updated_at: Some(updated_at.clone()), ..stored };
    store::put(&message_key(company, &message_id), &edited)?;
    Ok(UPDATED.to_room(&room, &Updated { id: message_id, content, updated_at })?)
}

pub(crate) fn delete(user: &User, Delete { message_id }: Delete) -> Result<()> {
    let company = company(user)?;
    let stored = own(user, company, &message_id)?;
    store::delete(&message_key(company, &message_id))?;
    Ok(DELETED.to_room(&room_of_conversation(&stored.conversation_id), &Deleted { id: message_id })?)
}
