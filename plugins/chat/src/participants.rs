//! The participants of a course's chat, as the product's backend publishes them. The list is split over several keys, so that a message
//! in a chat of thousands reads only a small part of it.

use std::{borrow::Cow, collections::BTreeSet};

use hubbub_sdk::{
    Json, Message, Refusal, Result, User, bus,
    payload::{Id, PublishedId, published_id},
    plugin,
    store::{self, tenant_key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, value::RawValue};

use crate::{Chat, lms::ROOM};

/// The number of keys for a chat's list. Another number would be another layout of the stored data.
const PARTS: u64 = 32;

/// The most participants of a chat. Each join sends all of them, within the limits of a call.
pub(crate) const MAX_PARTICIPANTS: usize = 6000;

/// The most users that leave the room in one call, which has 256 effects. The others follow in messages; a message with too many is
/// split again.
const LEAVES: usize = 200;
const MESSAGES: usize = 20;

/// `chat.upserted`: the whole list, which replaces the old one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upserted {
    #[serde(deserialize_with = "published_id")]
    chat_id: Id,
    participants: Vec<Participant>,
}

/// `chat.deleted`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    #[serde(deserialize_with = "published_id")]
    chat_id: Id,
}

/// `chat.removed`: the plugin's own message to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    chat_id: Id,
    users: Vec<Id>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Participant {
    user_id: PublishedId,
    #[serde(default)]
    name: String,
    #[serde(default)]
    role: String,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    image: Option<String>,
    /// The position in the published list.
    #[serde(default)]
    place: usize,
}

/// A stored participant that borrows its text: most messages look up one of many.
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

/// The id of a stored participant.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    user_id: PublishedId,
}

/// A participant as clients get it: without the image.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "the schema of a text that is sent as stored")]
pub(crate) struct Shown {
    user_id: PublishedId,
    name: String,
    role: String,
}

/// The same, borrowed from the stored text.
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

/// The name and image of a participant, as the backend published them.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) image: Option<String>,
}

/// The participant with the user's id, in the list of the user's tenant. The read is checked at commit, so a user that is removed at
/// the same time cannot join.
pub(crate) fn find(chat: &str, user: &User) -> Result<Option<Found>> {
    find_id(chat, user.tenant.as_deref(), &user.id)
}

fn find_id(chat: &str, tenant: Option<&str>, user: &str) -> Result<Option<Found>> {
    let Some(part) = store::text(&part_key(tenant, chat, part_of(user)))? else { return Ok(None) };
    let part: Vec<Listed<'_>> = serde_json::from_str(&part).map_err(Refusal::internal)?;
    let found = part.into_iter().find(|one| one.user_id.is(user));
    Ok(found.map(|one| Found { name: one.name.into_owned(), image: one.image }))
}

/// All participants of the tenant, in the backend's order. Their texts are sent as they are stored, so that a list of thousands fits the
/// CPU limit of a call.
pub(crate) fn all(chat: &str, tenant: Option<&str>) -> Result<Json<Vec<Shown>>> {
    let parts = store::prefix(&tenant_key(tenant, ["participants", chat, ""])).read::<Json<Vec<Participant>>>(PARTS as u32)?;
    let mut everyone = Vec::new();
    for part in &parts {
        everyone.extend(serde_json::from_str::<Vec<Passed<'_>>>(part.value.text()).map_err(Refusal::internal)?);
    }
    everyone.sort_by_key(|one| one.place);
    Ok(Json::of(&everyone)?.into_type())
}

#[plugin(part)]
#[tenant_keys("participants/")]
impl Chat {
    #[on_message("chat.upserted")]
    fn upserted(message: &Message, Upserted { chat_id, participants }: Upserted) -> Result<()> {
        replace(message.tenant.as_deref(), &chat_id, participants)
    }

    #[on_message("chat.deleted")]
    fn deleted(message: &Message, Deleted { chat_id }: Deleted) -> Result<()> {
        replace(message.tenant.as_deref(), &chat_id, Vec::new())
    }

    #[on_message("chat.removed")]
    fn removed(message: &Message, Removed { chat_id, users }: Removed) -> Result<()> {
        if users.len() > LEAVES {
            return leave_later(&chat_id, &users);
        }
        let room = ROOM.of(&chat_id);
        for user in &users {
            // A user that was added again meanwhile stays.
            if find_id(&chat_id, message.tenant.as_deref(), user)?.is_none() {
                room.leave_user(user)?;
            }
        }
        Ok(())
    }
}

/// Stores a new list. Users that are no longer listed leave the room.
fn replace(tenant: Option<&str>, chat: &Id, participants: Vec<Participant>) -> Result<()> {
    if participants.len() > MAX_PARTICIPANTS {
        return Err(Refusal::invalid(format!("participants: at most {MAX_PARTICIPANTS}")));
    }
    let mut parts: Vec<Vec<Participant>> = (0..PARTS).map(|_| Vec::new()).collect();
    let mut known = BTreeSet::new();
    for (place, one) in participants.into_iter().enumerate() {
        if known.insert(one.user_id.id().clone()) {
            parts[part_of(&one.user_id) as usize].push(Participant { place, ..one });
        }
    }
    let keys: Vec<_> = (0..PARTS).map(|part| part_key(tenant, chat, part)).collect();
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
    leave(chat, &gone)
}

fn leave(chat: &Id, users: &[Id]) -> Result<()> {
    let (now, later) = users.split_at(users.len().min(LEAVES));
    let room = ROOM.of(chat);
    now.iter().try_for_each(|user| room.leave_user(user))?;
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

/// FNV-1a, which is stable over versions and machines, as a layout of stored data must be.
fn part_of(user: &str) -> u64 {
    let hash = user.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash % PARTS
}
