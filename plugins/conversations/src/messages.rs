//! Messages of a conversation: new ones, reads and deliveries, from the backend and from clients. A message itself is not stored; of the
//! last thousand of a conversation, the number and the author are.

use hubbub_sdk::{
    Json, Message, Refusal, Result, User, bus,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    plugin, store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Conversations, NAMESPACE, conversations::Tenant, members::Stored, place::Place, unread};

/// The number of messages of a conversation that are remembered. An older one counts as read, and its delivery is not sent.
pub(crate) const REMEMBERED: u64 = 1000;

/// The most messages that are read at once. More are refused as `invalid`; from the bus, they are a dead letter.
const MAX_READ: usize = 1000;

/// The most messages that are delivered at once. Each is an emit. More are refused as `invalid`.
const MAX_DELIVERED: usize = 200;

/// The number of messages that one call deletes, with two effects each.
const DELETED: u64 = 100;

const CREATED: Emits<Json<Created>> = Emits::new(NAMESPACE, "message_created");
const READ: Emits<IsRead> = Emits::new(NAMESPACE, "message_read");
const DELIVERED: Emits<Delivered> = Emits::new(NAMESPACE, "message_delivered");

/// A message as published. Further fields are sent to clients too.
#[derive(Deserialize, JsonSchema)]
struct Created {
    id: PublishedId,
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
    /// Absent for a message of the system.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    user_id: Option<Id>,
    #[serde(flatten)]
    _tenant: Tenant,
}

/// `mark_read` and `delivered`.
#[derive(Deserialize, JsonSchema)]
struct Read {
    conversation_id: Id,
    message_ids: Vec<Id>,
}

/// `message_read`.
#[derive(Serialize, JsonSchema)]
struct IsRead {
    conversation_id: PublishedId,
    message_ids: Vec<PublishedId>,
}

/// `message.read`.
#[derive(Deserialize)]
struct Published {
    conversation_id: PublishedId,
    message_ids: Vec<PublishedId>,
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
    #[serde(flatten)]
    _tenant: Tenant,
}

#[derive(Serialize, JsonSchema)]
struct Delivered {
    conversation_id: PublishedId,
    message_id: PublishedId,
    /// The recipient.
    user_id: String,
}

/// `conversation.forgotten`: the plugin's message to itself.
#[derive(Serialize, Deserialize)]
struct Forgotten {
    place: Place,
    from: u64,
}

/// The stored part of a message.
#[derive(Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The first message of a conversation is 1.
    pub(crate) number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Id>,
    /// As the backend wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<PublishedId>,
}

/// The number of messages that a conversation has had. The counter is read where it is increased, so messages of one conversation are
/// handled one after another, and messages of different ones in parallel.
pub(crate) fn total(place: &Place) -> Result<u64> {
    Ok(store::counter(&place.key("total"))?.unsigned_abs())
}

fn remembered(place: &Place, message: &str) -> Result<Option<Remembered>> {
    store::get(&place.key_of("message", message))
}

/// As `remembered`, for several messages with one read of storage.
pub(crate) fn remembered_all<'a>(place: &Place, messages: impl Iterator<Item = &'a Id>) -> Result<Vec<Option<Remembered>>> {
    let keys: Vec<_> = messages.map(|message| place.key_of("message", message)).collect();
    store::get_many(&keys)
}

/// The key of a ring buffer's slot for a number. It holds the id of the message with that number.
fn slot_key(place: &Place, number: u64) -> String {
    place.key_of("slot", &(number % REMEMBERED).to_string())
}

#[plugin(part, namespace = "/")]
#[emits(CREATED, READ, DELIVERED)]
impl Conversations {
    /// A message that is published twice is sent twice and counted once.
    #[on_message("message.created")]
    fn message_created(message: &Message, published: Json<Created>) -> Result<()> {
        let Created { id, conversation_id, user_id, .. } = published.value()?;
        let place = Place::published(&conversation_id, message);
        let stored = place.stored()?;
        if let Some(stored) = &stored {
            CREATED.to_room(&place.room(stored.audience()), &published)?;
        }
        if remembered(&place, &id)?.is_some() {
            return Ok(());
        }
        let number = remember(&place, &id, user_id.clone())?;
        match stored {
            Some(stored) => unread::count_message(&place, &stored, user_id.as_ref(), number),
            None => Ok(()),
        }
    }

    #[on("mark_read")]
    fn mark_read(user: &User, Read { conversation_id, message_ids }: Read) -> Result<()> {
        let (place, stored) = Place::of_user(user, &conversation_id)?;
        let message_ids = message_ids.into_iter().map(PublishedId::from).collect();
        send_read(&place, &stored, &user.id, &IsRead { conversation_id: conversation_id.into(), message_ids })
    }

    #[on_message("message.read")]
    fn message_read(message: &Message, published: Published) -> Result<()> {
        let Published { conversation_id, message_ids, user_id, .. } = published;
        let place = Place::published(conversation_id.id(), message);
        let Some(stored) = place.stored()? else { return Ok(()) };
        send_read(&place, &stored, &user_id, &IsRead { conversation_id, message_ids })
    }

    /// Sends to each message's author, on all devices, while the author takes part.
    #[on("delivered")]
    fn delivered(user: &User, read: Read) -> Result<()> {
        let (place, stored) = Place::of_user(user, &read.conversation_id)?;
        check_number(MAX_DELIVERED, read.message_ids.len())?;
        let known = remembered_all(&place, read.message_ids.iter())?;
        for (message_id, known) in read.message_ids.into_iter().zip(known) {
            let Some(known) = known else { continue };
            let author = known.author.filter(|author| **author != *user.id && stored.has(author));
            let (Some(author), message_id) = (author, known.id.unwrap_or(message_id.into())) else { continue };
            let delivered = Delivered { conversation_id: stored.id.clone(), message_id, user_id: user.id.clone() };
            DELIVERED.to_user(&author, &delivered)?;
        }
        Ok(())
    }

    /// Does nothing if the conversation was created again.
    #[on_message("conversation.forgotten")]
    fn messages_forgotten(message: &Message, forgotten: Forgotten) -> Result<()> {
        let Forgotten { place, from } = &forgotten;
        if place.republished(message, &forgotten)? || place.stored()?.is_some() {
            return Ok(());
        }
        let slots: Vec<_> = (*from..from.saturating_add(DELETED)).map(|number| slot_key(place, number)).collect();
        for (slot, id) in slots.iter().zip(store::get_many::<Id>(&slots)?) {
            let Some(id) = id else { continue };
            store::delete(&place.key_of("message", &id))?;
            store::delete(slot)?;
        }
        Ok(())
    }
}

/// Stores a message and returns its number. It replaces the message that is a thousand numbers older.
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

fn send_read(place: &Place, stored: &Stored, reader: &str, read: &IsRead) -> Result<()> {
    check_number(MAX_READ, read.message_ids.len())?;
    READ.to_room(&place.room(stored.audience()), read)?;
    unread::mark_read(place, stored, reader, read.message_ids.iter().map(PublishedId::id))
}

fn check_number(most: usize, messages: usize) -> Result<()> {
    if messages <= most {
        return Ok(());
    }
    Err(Refusal::invalid(format!("message_ids: more than {most}")))
}

/// Deletes a conversation's messages, in further calls: they may be a thousand.
pub(crate) fn delete_all(place: &Place) -> Result<()> {
    let slots = total(place)?.min(REMEMBERED - 1);
    store::delete(&place.key("total"))?;
    for from in (0..=slots).step_by(DELETED as usize) {
        bus::publish_keyed("conversation.forgotten", place.id(), &Forgotten { place: place.clone(), from })?;
    }
    Ok(())
}
