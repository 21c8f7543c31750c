//! What the backend says of a conversation's messages, and what their readers' clients say. No message is stored: of each of the
//! last thousand of a conversation, its number and its author are.

use hubbub_sdk::{
    Json, Message, Refusal, Result, User, bus,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    conversations::{NAMESPACE, Tenant},
    members::Stored,
    place::Place,
    unread,
};

/// How many messages of a conversation are remembered. An older one counts as read, and its delivery is told nobody.
pub(crate) const REMEMBERED: u64 = 1000;

/// The most messages that are read at once. More are refused (`invalid`), or buried where they come from the bus.
const MAX_READ: usize = 1000;

/// The most messages that are delivered at once, each of which is an emit. More are refused (`invalid`).
const MAX_DELIVERED: usize = 200;

/// How many messages one call forgets, at two effects each.
const FORGOTTEN: u64 = 100;

pub(crate) const CREATED: Emits<Json<Created>> = Emits::new(NAMESPACE, "message_created");
pub(crate) const READ: Emits<IsRead> = Emits::new(NAMESPACE, "message_read");
pub(crate) const DELIVERED: Emits<Delivered> = Emits::new(NAMESPACE, "message_delivered");

/// A message as published, with whatever else it carries.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Created {
    id: PublishedId,
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
    /// Absent where nobody said it.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    user_id: Option<Id>,
    #[serde(flatten)]
    _tenant: Tenant,
}

/// `mark_read` and `delivered`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Read {
    conversation_id: Id,
    message_ids: Vec<Id>,
}

/// `message_read`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct IsRead {
    conversation_id: PublishedId,
    message_ids: Vec<PublishedId>,
}

/// `message.read`.
#[derive(Deserialize)]
pub(crate) struct Published {
    conversation_id: PublishedId,
    message_ids: Vec<PublishedId>,
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
    #[serde(flatten)]
    _tenant: Tenant,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Delivered {
    conversation_id: PublishedId,
    message_id: PublishedId,
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
pub(crate) struct Remembered {
    /// The first of a conversation is 1.
    pub(crate) number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Id>,
    /// As the backend writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<PublishedId>,
}

/// How many messages a conversation has had. Read where it is counted up too: messages of one conversation are handled one after
/// another, those of others beside them.
pub(crate) fn total(place: &Place) -> Result<u64> {
    Ok(store::counter(&place.key("total"))?.unsigned_abs())
}

pub(crate) fn remembered(place: &Place, message: &str) -> Result<Option<Remembered>> {
    Ok(store::get(&place.key_of("message", message))?)
}

/// The same of several at once: one wait for storage, and not one for each.
pub(crate) fn remembered_all<'a>(place: &Place, messages: impl Iterator<Item = &'a Id>) -> Result<Vec<Option<Remembered>>> {
    let keys: Vec<_> = messages.map(|message| place.key_of("message", message)).collect();
    Ok(store::get_many(&keys)?)
}

/// Each number's place among the remembered, where the one before is found.
fn slot_key(place: &Place, number: u64) -> String {
    place.key_of("slot", &(number % REMEMBERED).to_string())
}

/// A message that is published twice is told twice and counted once.
pub(crate) fn created(message: &Message, published: &Json<Created>) -> Result<()> {
    let Created { id, conversation_id, user_id, .. } = published.value()?;
    let place = Place::published(&conversation_id, message);
    let stored = place.stored()?;
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
fn remember(place: &Place, id: &PublishedId, author: Option<Id>) -> Result<u64> {
    let number = total(place)? + 1;
    store::add(&place.key("total"), 1)?;
    let slot = slot_key(place, number);
    if let Some(old) = store::get::<Id>(&slot)? {
        store::delete(&place.key_of("message", &old))?;
    }
    store::put(&slot, id.id())?;
    store::put(&place.key_of("message", id), &Remembered { number, author, id: Some(id.clone()) })?;
    Ok(number)
}

/// `mark_read`.
pub(crate) fn mark_read(user: &User, read: &Read) -> Result<()> {
    let (place, stored) = Place::of_user(user, &read.conversation_id)?;
    let message_ids = read.message_ids.iter().cloned().map(PublishedId::from).collect();
    tell_read(&place, &stored, &user.id, &IsRead { conversation_id: read.conversation_id.clone().into(), message_ids })
}

/// `message.read`.
pub(crate) fn read(message: &Message, published: Published) -> Result<()> {
    let Published { conversation_id, message_ids, user_id, .. } = published;
    let place = Place::published(conversation_id.id(), message);
    let Some(stored) = place.stored()? else { return Ok(()) };
    tell_read(&place, &stored, &user_id, &IsRead { conversation_id, message_ids })
}

fn tell_read(place: &Place, stored: &Stored, reader: &str, read: &IsRead) -> Result<()> {
    at_most(MAX_READ, read.message_ids.len())?;
    READ.to_room(&place.room(stored.reach()), read)?;
    unread::read(place, stored, reader, read.message_ids.iter().map(PublishedId::id))
}

fn at_most(most: usize, messages: usize) -> Result<()> {
    if messages <= most {
        return Ok(());
    }
    Err(Refusal::invalid(format!("message_ids: more than {most}")))
}

/// To each message's author, on all devices, as long as the author takes part.
pub(crate) fn delivered(user: &User, read: Read) -> Result<()> {
    let (place, stored) = Place::of_user(user, &read.conversation_id)?;
    at_most(MAX_DELIVERED, read.message_ids.len())?;
    let known = remembered_all(&place, read.message_ids.iter())?;
    for (message_id, known) in read.message_ids.into_iter().zip(known) {
        let Some(known) = known else { continue };
        let author = known.author.filter(|author| **author != *user.id && stored.has(author));
        let (Some(author), message_id) = (author, known.id.unwrap_or(message_id.into())) else { continue };
        let delivered = Delivered { conversation_id: stored.id.clone(), message_id, user_id: user.id.clone() };
        place.to_users(DELIVERED, &[&author], &delivered)?;
    }
    Ok(())
}

/// A deleted conversation's messages, in further calls: they may be a thousand.
pub(crate) fn forget(place: &Place) -> Result<()> {
    let slots = total(place)?.min(REMEMBERED - 1);
    store::delete(&place.key("total"))?;
    for from in (0..=slots).step_by(FORGOTTEN as usize) {
        bus::publish_keyed("conversation.forgotten", place.id(), &Forgotten { place: place.clone(), from })?;
    }
    Ok(())
}

/// Unless the conversation is there again.
pub(crate) fn forgotten(message: &Message, forgotten: &Forgotten) -> Result<()> {
    let Forgotten { place, from } = forgotten;
    if place.sent_on(message, forgotten)? {
        return Ok(());
    }
    if place.stored()?.is_some() {
        return Ok(());
    }
    let slots: Vec<_> = (*from..from.saturating_add(FORGOTTEN)).map(|number| slot_key(place, number)).collect();
    for (slot, id) in slots.iter().zip(store::get_many::<Id>(&slots)?) {
        let Some(id) = id else { continue };
        store::delete(&place.key_of("message", &id))?;
        store::delete(slot)?;
    }
    Ok(())
}
