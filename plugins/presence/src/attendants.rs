//! The support desk's attendants: one status a person, over all devices, told once a change. Never derived from a connection or
//! its end: a reconnect within the grace period is no news.

use hubbub_sdk::{
    Json, Result, User, clock,
    emitter::Emits,
    presence::{self, Changed, Member, State, Status},
    rooms,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAMESPACE: &str = "/hub";
const ROOM: &str = "presence:attendants";
const GROUP: &str = "attendants";

/// How many a list shows: the first by their ids. With the longest ids and names they fit the 1 MiB of a call.
const MAX_LISTED: usize = 1000;

/// How many of them one import answers.
const PAGE: u32 = 500;

/// The most characters of a name that are kept.
const MAX_NAME: usize = 100;

pub(crate) const ONLINE: Emits<Attendant> = Emits::new(NAMESPACE, "attendant:online");
pub(crate) const AWAY: Emits<Attendant> = Emits::new(NAMESPACE, "attendant:away");
pub(crate) const OFFLINE: Emits<Attendant> = Emits::new(NAMESPACE, "attendant:offline");

/// What is known of an attendant beside the id.
#[derive(Serialize, Deserialize)]
pub(crate) struct Meta {
    name: String,
    /// What was asked for last, on whichever device.
    asked: State,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attendant {
    user_id: String,
    name: String,
    status: State,
    /// When it changed.
    at: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Attendants {
    attendants: Vec<Listed>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Listed {
    user_id: String,
    name: String,
    status: State,
    since: String,
}

/// Who asked to be away comes back as such, on whichever device: a reconnect is no wish to be online. Away by silence alone ends
/// here, as with any sign of life.
pub(crate) fn enter(user: &User) -> Result<()> {
    rooms::join(ROOM)?;
    if asked_to_be_away(&user.id)? { away(user) } else { online(user) }
}

fn asked_to_be_away(user: &str) -> Result<bool> {
    let found = presence::list::<Meta>(GROUP, &just_before(user), 1)?;
    let is_so = |member: &Member<Meta>| member.key == user && member.status == Status::Away && member.meta.asked == State::Away;
    Ok(found.first().is_some_and(is_so))
}

/// A text that sorts before an id and after what sorts before that: a list is of what comes after a key.
fn just_before(id: &str) -> String {
    let mut chars = id.chars();
    let lower = chars.next_back().and_then(|last| char::from_u32(u32::from(last).checked_sub(1)?));
    let end = lower.map(|lower| format!("{lower}{}", char::MAX)).unwrap_or_default();
    format!("{}{end}", chars.as_str())
}

/// Ends an `away` that was asked for.
pub(crate) fn online(user: &User) -> Result<()> {
    track(user, Status::Online)
}

/// The person is away when all devices are.
pub(crate) fn away(user: &User) -> Result<()> {
    track(user, Status::Away)
}

fn track(user: &User, status: Status) -> Result<()> {
    let name = user.display_name().chars().take(MAX_NAME).collect();
    Ok(presence::track(GROUP, &user.id, status, &Meta { name, asked: status.into() })?)
}

/// Every 30 s from everyone: no store, no bus, no emit.
pub(crate) fn heartbeat() -> Result<()> {
    Ok(presence::heartbeat()?)
}

pub(crate) fn list() -> Result<Attendants> {
    let mut attendants: Vec<Listed> = Vec::new();
    while attendants.len() < MAX_LISTED {
        let after = attendants.last().map_or("", |last| &last.user_id);
        let page = presence::list::<Meta>(GROUP, after, PAGE)?;
        let is_last = page.len() < PAGE as usize;
        attendants.extend(page.into_iter().map(|member| Listed {
            user_id: member.key,
            name: member.meta.name,
            status: member.status.into(),
            since: clock::rfc3339(member.since),
        }));
        if is_last {
            break;
        }
    }
    Ok(Attendants { attendants })
}

pub(crate) fn changed(at: u64, changed: &Changed<Json<Meta>>) -> Result<()> {
    if changed.group != GROUP {
        return Ok(());
    }
    let event = match changed.to {
        State::Online => ONLINE,
        State::Away => AWAY,
        State::Offline => OFFLINE,
    };
    let attendant =
        Attendant { user_id: changed.key.clone(), name: changed.meta.value()?.name, status: changed.to, at: clock::rfc3339(at) };
    Ok(event.to_room(ROOM, &attendant)?)
}

#[cfg(test)]
mod tests;
