//! Who takes part in a course's chat, as the product's backend publishes it. Split over several keys, so that a message in a chat
//! of thousands reads one small part of the list.

use std::{borrow::Cow, collections::BTreeSet};

use hubbub_sdk::{
    Json, Message, Refusal, Result, bus,
    payload::{Id, PublishedId, published_id},
    rooms,
    store::{self, tenant_key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, value::RawValue};

use crate::lms;

/// How many keys a chat's list is split over. Another number is another layout of the stored data.
const PARTS: u64 = 32;

/// How many a chat may have: everyone who joins is told of all of them, in the time of a call.
pub(crate) const MAX_PARTICIPANTS: usize = 6000;

/// How many leave in one call, which has 256 effects. The others follow in messages, which split again where they are too large.
const LEAVES: usize = 200;
const MESSAGES: usize = 20;

/// `chat.upserted`: the whole list, which replaces the one before.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Upserted {
    #[serde(deserialize_with = "published_id")]
    chat_id: Id,
    participants: Vec<Participant>,
}

/// `chat.deleted`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deleted {
    #[serde(deserialize_with = "published_id")]
    chat_id: Id,
}

/// `chat.removed`: the plugin's own message to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removed {
    chat_id: Id,
    users: Vec<Id>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Participant {
    pub(crate) user_id: PublishedId,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) role: String,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
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
    user_id: UserId<'a>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    image: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UserId<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Number(Number),
}

impl UserId<'_> {
    fn is(&self, user: &str) -> bool {
        match self {
            Self::Text(text) => text == user,
            Self::Number(number) => number.to_string() == user,
        }
    }
}

/// Of a stored participant, who it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    user_id: PublishedId,
}

/// A participant as the others see one: without the image.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what is sent as text")]
pub(crate) struct Shown {
    user_id: PublishedId,
    name: String,
    role: String,
}

/// The same, as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Passed<'a> {
    #[serde(borrow)]
    user_id: &'a RawValue,
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    role: &'a RawValue,
    #[serde(default, skip_serializing)]
    place: usize,
}

/// What the product knows of a participant.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) image: Option<String>,
}

/// The participant, checked at commit: nobody joins who is being removed. Each tenant's backend publishes a list of its own users.
pub(crate) fn find(chat: &str, tenant: Option<&str>, user: &str) -> Result<Option<Found>> {
    let Some(part) = store::text(&part_key(tenant, chat, part_of(user)))? else { return Ok(None) };
    let part: Vec<Listed<'_>> = serde_json::from_str(&part).map_err(Refusal::internal)?;
    let found = part.into_iter().find(|one| one.user_id.is(user));
    Ok(found.map(|one| Found { name: one.name.into_owned(), image: one.image }))
}

/// Everyone of the tenant as the others see them, in the backend's order. The texts are passed on as they are stored: a list of thousands
/// has to fit the time of a call.
pub(crate) fn all(chat: &str, tenant: Option<&str>) -> Result<Json<Vec<Shown>>> {
    let parts = store::prefix(&tenant_key(tenant, ["participants", chat, ""])).read::<Json<Vec<Participant>>>(PARTS as u32)?;
    let mut everyone = Vec::new();
    for part in &parts {
        everyone.extend(serde_json::from_str::<Vec<Passed<'_>>>(part.value.text()).map_err(Refusal::internal)?);
    }
    everyone.sort_by_key(|one| one.place);
    Ok(Json::of(&everyone)?.into_type())
}

pub(crate) fn upserted(message: &Message, chat: Upserted) -> Result<()> {
    if chat.participants.len() > MAX_PARTICIPANTS {
        return Err(Refusal::invalid(format!("participants: at most {MAX_PARTICIPANTS}")));
    }
    let mut parts: Vec<Vec<Participant>> = (0..PARTS).map(|_| Vec::new()).collect();
    let mut known = BTreeSet::new();
    for (place, one) in chat.participants.into_iter().enumerate() {
        if known.insert(one.user_id.id().clone()) {
            parts[part_of(&one.user_id) as usize].push(Participant { place, ..one });
        }
    }
    let keys: Vec<_> = (0..PARTS).map(|part| part_key(message.tenant.as_deref(), &chat.chat_id, part)).collect();
    let mut gone = Vec::new();
    for ((part, key), before) in parts.iter().zip(&keys).zip(store::texts(&keys)?) {
        let json = Json::of(part)?;
        match &before {
            Some(before) if before == json.text() => continue,
            Some(_) if part.is_empty() => store::delete(key)?,
            None if part.is_empty() => continue,
            _ => store::put(key, &json)?,
        }
        let before: Vec<Member> = before.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text)).map_err(Refusal::internal)?;
        gone.extend(before.into_iter().map(|one| one.user_id.into_id()).filter(|user| !known.contains(user)));
    }
    leave(&chat.chat_id, &gone)
}

pub(crate) fn deleted(message: &Message, Deleted { chat_id }: Deleted) -> Result<()> {
    upserted(message, Upserted { chat_id, participants: Vec::new() })
}

pub(crate) fn removed(message: &Message, batch: &Removed) -> Result<()> {
    if batch.users.len() > LEAVES {
        return leave_later(&batch.chat_id, &batch.users);
    }
    let room = lms::room(&batch.chat_id);
    for user in &batch.users {
        // Who was let in again meanwhile stays.
        if find(&batch.chat_id, message.tenant.as_deref(), user)?.is_none() {
            rooms::leave_user(lms::NAMESPACE, user, &room)?;
        }
    }
    Ok(())
}

fn leave(chat: &Id, users: &[Id]) -> Result<()> {
    let (now, later) = users.split_at(users.len().min(LEAVES));
    let room = lms::room(chat);
    for user in now {
        rooms::leave_user(lms::NAMESPACE, user, &room)?;
    }
    leave_later(chat, later)
}

fn leave_later(chat: &Id, users: &[Id]) -> Result<()> {
    for users in users.chunks(LEAVES.max(users.len().div_ceil(MESSAGES))) {
        bus::publish("chat.removed", &Removed { chat_id: chat.clone(), users: users.to_vec() })?;
    }
    Ok(())
}

fn part_key(tenant: Option<&str>, chat: &str, part: u64) -> String {
    let digits = [b'0' + (part / 10) as u8, b'0' + (part % 10) as u8].map(char::from);
    let mut key = tenant_key(tenant, ["participants", chat, ""]);
    key.extend(digits);
    key
}

/// FNV-1a: stable over versions and machines, as a layout of stored data has to be.
fn part_of(user: &str) -> u64 {
    let hash = user.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash % PARTS
}
