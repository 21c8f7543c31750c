//! Messages of a company's conversations. A message is stored before it is sent, and only its author changes it. Messages are plain text:
//! a client must show them as text, never as HTML.

use hubbub_sdk::{
    Event, Message, Refusal, Result, User, bus, clock,
    emitter::Emits,
    payload::{Id, PublishedId},
    plugin,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Crm, NAMESPACE,
    conversations::{CONVERSATION, company, company_of, is_known, make_known, not_found},
    history,
};

/// The most characters of a message that a client sends. Inbound messages have no limit here: the contact has sent them already.
const MAX_CHARACTERS: usize = 10_000;

const NEW: Emits<New> = Emits::new(NAMESPACE, "message:new");
const UPDATED: Emits<Updated> = Emits::new(NAMESPACE, "message:updated");
const DELETED: Emits<Deleted> = Emits::new(NAMESPACE, "message:deleted");

/// `message:send`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Send {
    conversation_id: Id,
    content: String,
    /// A repeat with the same one takes effect once.
    #[schemars(length(min = 1, max = 64))]
    client_id: Option<String>,
}

/// `message:sent`.
#[derive(Serialize, JsonSchema)]
struct Sent {
    id: String,
}

/// `message:new`, and a message of the history.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct New {
    id: String,
    content: String,
    /// The user, or the contact of an inbound message.
    from_user_id: PublishedId,
    /// RFC 3339.
    timestamp: String,
    conversation_id: PublishedId,
    /// Only in the history, and only for an edited message.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    /// The sender's, if one was sent. Not in the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
}

/// `message:edit`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Edit {
    message_id: Id,
    content: String,
}

/// `message:delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Delete {
    message_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Updated {
    id: Id,
    content: String,
    updated_at: String,
}

#[derive(Serialize, JsonSchema)]
struct Deleted {
    id: Id,
}

/// `message.received`: an inbound message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    conversation_id: PublishedId,
    from: PublishedId,
    content: String,
}

/// `message.sent`, which other plugins count.
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
pub(crate) struct Stored {
    conversation_id: PublishedId,
    from: Author,
    content: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
}

/// The author. A contact may have the same id as a user, and is not that user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Author {
    User(PublishedId),
    Contact(PublishedId),
}

impl Author {
    fn id(&self) -> &PublishedId {
        match self {
            Self::User(id) | Self::Contact(id) => id,
        }
    }
}

#[plugin(part, namespace = "/conversations")]
#[emits(NEW, UPDATED, DELETED)]
impl Crm {
    /// The sender need not have joined the room. The conversation must be the company's.
    #[on("message:send", once = "clientId", reply = "message:sent", on_failure = "Failed to send message")]
    fn send(user: &User, event: &Event, Send { conversation_id, content, client_id }: Send) -> Result<Sent> {
        let company = company(user)?;
        check(&content)?;
        if !is_known(company, &conversation_id)? {
            return Err(not_found());
        }
        let counted =
            Counted { company_id: company, conversation_id: &conversation_id, message_id: &event.id, user_id: &user.id };
        bus::publish_keyed("message.sent", &conversation_id, &counted)?;
        let timestamp = clock::rfc3339(clock::now());
        let (conversation_id, from) = (conversation_id.into(), Author::User(user.id.clone().into()));
        store_and_send(company, &event.id, Stored { conversation_id, from, content, timestamp, updated_at: None }, client_id)?;
        Ok(Sent { id: event.id.clone() })
    }

    #[on("message:edit")]
    fn edit(user: &User, Edit { message_id, content }: Edit) -> Result<()> {
        let company = company(user)?;
        check(&content)?;
        let updated_at = clock::rfc3339(clock::now());
        let stored = own(user, company, &message_id)?;
        let room = CONVERSATION.of(&stored.conversation_id);
        let edited = Stored { content: content.clone(), updated_at: Some(updated_at.clone()), ..stored };
        store::put(&message_key(company, &message_id), &edited)?;
        UPDATED.to_room(&room, &Updated { id: message_id, content, updated_at })
    }

    #[on("message:delete")]
    fn delete(user: &User, Delete { message_id }: Delete) -> Result<()> {
        let company = company(user)?;
        let stored = own(user, company, &message_id)?;
        store::delete(&message_key(company, &message_id))?;
        DELETED.to_room(&CONVERSATION.of(&stored.conversation_id), &Deleted { id: message_id })
    }

    /// Stores the conversation too, because its own message may arrive later.
    #[on_message("message.received")]
    fn received(message: &Message, received: Received) -> Result<()> {
        let company = company_of(message)?;
        let Received { conversation_id, from, content } = received;
        make_known(company, &conversation_id)?;
        let timestamp = clock::rfc3339(message.at);
        let from = Author::Contact(from);
        store_and_send(company, &message.id, Stored { conversation_id, from, content, timestamp, updated_at: None }, None)
    }
}

fn check(content: &str) -> Result<()> {
    let fits = !content.trim().is_empty() && content.chars().count() <= MAX_CHARACTERS;
    if fits { Ok(()) } else { Err(Refusal::invalid("Invalid message")) }
}

fn store_and_send(company: &str, id: &str, message: Stored, client_id: Option<String>) -> Result<()> {
    store::put(&message_key(company, id), &message)?;
    let room = CONVERSATION.of(&message.conversation_id);
    history::append(company, &message.conversation_id, id)?;
    NEW.to_room(&room, &New { client_id, ..message.into_new(id.to_owned()) })
}

impl Stored {
    /// The message as clients get it.
    pub(crate) fn into_new(self, id: String) -> New {
        New {
            id,
            from_user_id: self.from.id().clone(),
            content: self.content,
            timestamp: self.timestamp,
            conversation_id: self.conversation_id,
            updated_at: self.updated_at,
            client_id: None,
        }
    }
}

/// A message that the user has written. A message of another company is not found.
fn own(user: &User, company: &str, message: &str) -> Result<Stored> {
    let stored: Option<Stored> = store::get(&message_key(company, message))?;
    let stored = stored.ok_or_else(|| Refusal::not_found("Message not found"))?;
    match &stored.from {
        Author::User(id) if **id == *user.id => Ok(stored),
        _ => Err(Refusal::forbidden("Not authorized")),
    }
}

pub(crate) fn message_key(company: &str, message: &str) -> String {
    key(["crm", company, "messages", message])
}
