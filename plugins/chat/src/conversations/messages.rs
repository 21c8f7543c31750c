//! What the backend says of a conversation's messages, and what their readers' clients say. No message is stored: of each of the
//! last thousand of a conversation, its number and its author are.

use hubbub_sdk::{
    Json, Message, Refusal, Result, User, bus,
    emitter::Emits,
    payload::{Id, published_id},
    store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NAMESPACE, as_written::AsWritten, members::Stored, place::Place, unread};

/// How many messages of a conversation are remembered. An older one counts as read, and its delivery is told nobody.
pub(super) const REMEMBERED: u64 = 1000;

/// The most messages that are read at once. More are refused (`invalid`), or buried where they come from the bus.
const MAX_READ: usize = 1000;

/// The most messages that are delivered at once, each of which is an emit. More are refused (`invalid`).
const MAX_DELIVERED: usize = 200;

/// How many messages one call forgets, at two effects each.
const FORGOTTEN: u64 = 100;

pub(crate) const CREATED: Emits<Json<Created>> = Emits::new(NAMESPACE, "message_created");
pub(crate) const READ: Emits<Read> = Emits::new(NAMESPACE, "message_read");
pub(crate) const DELIVERED: Emits<Delivered> = Emits::new(NAMESPACE, "message_delivered");

/// A message as published, with whatever else it carries.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Created {
    #[serde(deserialize_with = "published_id")]
    id: Id,
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
    /// Absent where nobody said it.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    user_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    tenant: Option<Id>,
    #[serde(rename = "companyId", skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    company_id: Option<Id>,
}

/// `mark_read` and `delivered`, from a client: the ids are strings.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Mark {
    conversation_id: Id,
    message_ids: Vec<Id>,
}

/// `message_read`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Read {
    conversation_id: AsWritten,
    message_ids: Vec<AsWritten>,
}

/// `message.read`.
#[derive(Deserialize)]
pub(crate) struct Published {
    conversation_id: AsWritten,
    message_ids: Vec<AsWritten>,
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
    #[serde(default, deserialize_with = "published_id")]
    tenant: Option<Id>,
    #[serde(rename = "companyId", default, deserialize_with = "published_id")]
    company_id: Option<Id>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Delivered {
    conversation_id: AsWritten,
    message_id: AsWritten,
    /// To whom.
    user_id: String,
}

/// `conversation.forgotten`: the plugin's own message to itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Forgotten {
    place: Place,
    from: u64,
}

/// What is stored of a message.
#[derive(Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The first of a conversation is 1.
    pub(super) number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Id>,
}

/// How many messages a conversation has had. Read where it is counted up too: messages of one conversation are handled one after
/// another, those of others beside them.
pub(super) fn total(place: &Place) -> Result<u64> {
    Ok(store::counter(&place.key("total"))?.unsigned_abs())
}

pub(super) fn remembered(place: &Place, message: &str) -> Result<Option<Remembered>> {
    Ok(store::get(&place.key_of("message", message))?)
}

/// Each number's place among the remembered, where the one before is found.
fn slot_key(place: &Place, number: u64) -> String {
    place.key_of("slot", &(number % REMEMBERED).to_string())
}

/// A message that is published twice is told twice and counted once.
pub(crate) fn created(message: &Message, published: &Json<Created>) -> Result<()> {
    let Created { id, conversation_id, user_id, tenant, company_id } = published.value()?;
    let place = Place::published(&conversation_id, tenant.or(company_id), message);
    let (place, stored) = place.about(user_id.as_ref())?;
    if let Some(stored) = &stored {
        CREATED.to_room(&place.room(stored.reach()), published)?;
    }
    if remembered(&place, &id)?.is_some() {
        return Ok(());
    }
    let number = remember(&place, &id, user_id.clone())?;
    match stored {
        Some(stored) => unread::grow(&place, &stored, user_id.as_ref(), number),
        None => Ok(()),
    }
}

/// The message's number. It takes the place of one that is a thousand messages old.
fn remember(place: &Place, id: &Id, author: Option<Id>) -> Result<u64> {
    let number = total(place)? + 1;
    store::add(&place.key("total"), 1)?;
    let slot = slot_key(place, number);
    if let Some(old) = store::get::<Id>(&slot)? {
        store::delete(&place.key_of("message", &old))?;
    }
    store::put(&slot, id)?;
    store::put(&place.key_of("message", id), &Remembered { number, author })?;
    Ok(number)
}

/// `mark_read`. The room gets the conversation's id as the backend writes it.
pub(crate) fn mark_read(user: &User, Mark { conversation_id, message_ids }: Mark) -> Result<()> {
    let (place, stored) = Place::of_user(user, &conversation_id)?;
    at_most(MAX_READ, message_ids.len())?;
    let message_ids = message_ids.into_iter().map(AsWritten::text).collect::<Result<_>>()?;
    tell_read(&place, &stored, &user.id, &Read { conversation_id: stored.id.clone(), message_ids })
}

/// `message.read`.
pub(crate) fn read(message: &Message, published: Published) -> Result<()> {
    let Published { conversation_id, message_ids, user_id, tenant, company_id } = published;
    let place = Place::published(conversation_id.id(), tenant.or(company_id), message);
    let read = Read { conversation_id, message_ids };
    match place.about(Some(&user_id))? {
        (place, Some(stored)) => tell_read(&place, &stored, &user_id, &read),
        (_, None) => Ok(()),
    }
}

fn tell_read(place: &Place, stored: &Stored, reader: &str, read: &Read) -> Result<()> {
    at_most(MAX_READ, read.message_ids.len())?;
    READ.to_room(&place.room(stored.reach()), read)?;
    unread::read(place, stored, reader, read.message_ids.iter().map(AsWritten::id))
}

fn at_most(most: usize, ids: usize) -> Result<()> {
    if ids <= most {
        return Ok(());
    }
    Err(Refusal::invalid(format!("message_ids: more than {most}")))
}

/// To each message's author, on all devices, as long as the author takes part.
pub(crate) fn delivered(user: &User, mark: Mark) -> Result<()> {
    let (place, stored) = Place::of_user(user, &mark.conversation_id)?;
    at_most(MAX_DELIVERED, mark.message_ids.len())?;
    for message_id in mark.message_ids {
        let author = remembered(&place, &message_id)?.and_then(|known| known.author);
        let Some(author) = author.filter(|author| **author != *user.id && stored.has(author)) else { continue };
        let message_id = AsWritten::text(message_id)?;
        let delivered = Delivered { conversation_id: stored.id.clone(), message_id, user_id: user.id.clone() };
        place.to_users(DELIVERED, &[&author], &delivered)?;
    }
    Ok(())
}

/// A deleted conversation's messages, in further calls: they may be a thousand.
pub(super) fn forget(place: &Place) -> Result<()> {
    let slots = total(place)?.min(REMEMBERED - 1);
    store::delete(&place.key("total"))?;
    for from in (0..=slots).step_by(FORGOTTEN as usize) {
        bus::publish_keyed("conversation.forgotten", place.id(), &Forgotten { place: place.clone(), from })?;
    }
    Ok(())
}

/// Unless the conversation is there again.
pub(crate) fn forgotten(Forgotten { place, from }: &Forgotten) -> Result<()> {
    if place.stored()?.is_some() {
        return Ok(());
    }
    for number in *from..from.saturating_add(FORGOTTEN) {
        let slot = slot_key(place, number);
        if let Some(id) = store::get::<Id>(&slot)? {
            store::delete(&place.key_of("message", &id))?;
            store::delete(&slot)?;
        }
    }
    Ok(())
}
