//! Who takes part in a course's chat, as the product's backend publishes it. Split over several keys, so that a message in a chat
//! of thousands reads one small part of the list.

use std::{borrow::Cow, collections::BTreeSet};

use hubbub_sdk::{
    Refusal, Result, bus,
    payload::Id,
    rooms,
    store::{self, key},
};
use serde::{Deserialize, Serialize};

use crate::lms;

/// How many keys a chat's list is split over. Another number is another layout of the stored data.
const PARTS: u64 = 32;

/// How many may leave in one call, which has 256 effects; the others follow in messages.
const LEAVES: usize = 200;

/// `chat.upserted`: the whole list, which replaces the one before.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Upserted {
    chat_id: Id,
    participants: Vec<Participant>,
}

/// `chat.removed`: the plugin's own message to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removed {
    chat_id: Id,
    users: Vec<Id>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Participant {
    pub(crate) user_id: Id,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) role: String,
    pub(crate) image: Option<String>,
    /// The place in the published list.
    #[serde(default)]
    place: usize,
}

/// A participant found without copying the others: most messages look one up.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    image: Option<String>,
}

/// What the product knows of a participant.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) image: Option<String>,
}

/// The participant, checked at commit: nobody joins who is being removed.
pub(crate) fn find(chat: &str, user: &str) -> Result<Option<Found>> {
    let Some(part) = store::text(&part_key(chat, part_of(user)))? else { return Ok(None) };
    let part: Vec<Listed<'_>> = serde_json::from_str(&part).map_err(Refusal::internal)?;
    let found = part.into_iter().find(|one| one.user_id == user);
    Ok(found.map(|one| Found { name: one.name.into_owned(), image: one.image }))
}

/// Everyone, as the backend listed them.
pub(crate) fn all(chat: &str) -> Result<Vec<Participant>> {
    let parts = store::prefix(&key(["participants", chat, ""])).read::<Vec<Participant>>(PARTS as u32)?;
    let mut everyone: Vec<Participant> = parts.into_iter().flat_map(|part| part.value).collect();
    everyone.sort_by_key(|one| one.place);
    Ok(everyone)
}

pub(crate) fn upserted(chat: &Upserted) -> Result<()> {
    let mut parts: Vec<Vec<Participant>> = (0..PARTS).map(|_| Vec::new()).collect();
    let mut known = BTreeSet::new();
    for (place, one) in chat.participants.iter().enumerate() {
        if known.insert(&*one.user_id) {
            parts[part_of(&one.user_id) as usize].push(Participant { place, ..one.clone() });
        }
    }
    let gone = all(&chat.chat_id)?.into_iter().map(|one| one.user_id).filter(|user| !known.contains(&**user));
    let gone: Vec<Id> = gone.collect();
    for (index, part) in parts.iter().enumerate() {
        let key = part_key(&chat.chat_id, index as u64);
        if part.is_empty() { store::delete(&key)? } else { store::put(&key, part)? }
    }
    leave(&chat.chat_id, gone)
}

pub(crate) fn deleted(chat: &Id) -> Result<()> {
    upserted(&Upserted { chat_id: chat.clone(), participants: Vec::new() })
}

pub(crate) fn removed(batch: &Removed) -> Result<()> {
    let room = lms::room(&batch.chat_id);
    for user in &batch.users {
        // Who was let in again meanwhile stays.
        if find(&batch.chat_id, user)?.is_none() {
            rooms::leave_user(lms::NAMESPACE, user, &room)?;
        }
    }
    Ok(())
}

fn leave(chat: &Id, users: Vec<Id>) -> Result<()> {
    let room = lms::room(chat);
    for user in users.iter().take(LEAVES) {
        rooms::leave_user(lms::NAMESPACE, user, &room)?;
    }
    for later in users.get(LEAVES..).unwrap_or_default().chunks(LEAVES) {
        bus::publish("chat.removed", &Removed { chat_id: chat.clone(), users: later.to_vec() })?;
    }
    Ok(())
}

fn part_key(chat: &str, part: u64) -> String {
    let digits = [b'0' + (part / 10) as u8, b'0' + (part % 10) as u8].map(char::from);
    let mut key = key(["participants", chat, ""]);
    key.extend(digits);
    key
}

/// FNV-1a: stable over versions and machines, as a layout of stored data has to be.
fn part_of(user: &str) -> u64 {
    let hash = user.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash % PARTS
}
