//! The support desk's attendants in `/hub`: one status for each, over all devices. Every change is sent once; a reconnect within the grace
//! period is no change.

use hubbub_sdk::{
    Json, Message, Result, User, clock,
    emitter::Emits,
    plugin,
    presence::{self, Changed, Member, State, Status},
    rooms::Room,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Presence;

const ROOM: Room = Room::new("/hub", "presence:attendants");
const GROUP: &str = "attendants";

/// The most attendants of a list, the first by their ids. With the longest ids and names they fit the 1 MiB of a call.
const MAX_LISTED: usize = 1000;

/// The number of attendants that one call of `presence::list` reads.
const PAGE: u32 = 500;

/// The most characters of a name; the rest is cut.
const MAX_NAME: usize = 100;

const ONLINE: Emits<Attendant> = Emits::new("/hub", "attendant:online");
const AWAY: Emits<Attendant> = Emits::new("/hub", "attendant:away");
const OFFLINE: Emits<Attendant> = Emits::new("/hub", "attendant:offline");

/// An attendant's metadata.
#[derive(Serialize, Deserialize)]
struct Meta {
    name: String,
    /// The last status that the attendant asked for, on any device.
    asked: State,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Attendant {
    user_id: String,
    name: String,
    status: State,
    /// The time of the change.
    at: String,
}

#[derive(Serialize, JsonSchema)]
struct Attendants {
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

#[plugin(part, namespace = "/hub")]
#[rooms(ROOM)]
#[emits(ONLINE, AWAY, OFFLINE)]
impl Presence {
    /// An attendant that asked to be away stays away after a reconnect, on any device. One that was away by silence is online again.
    #[on_connect]
    fn enter_hub(user: &User) -> Result<()> {
        ROOM.join()?;
        track(user, if asked_to_be_away(&user.id)? { Status::Away } else { Status::Online })
    }

    #[on("presence:online")]
    fn online(user: &User) -> Result<()> {
        track(user, Status::Online)
    }

    /// The attendant is away when all devices are.
    #[on("presence:away")]
    fn away(user: &User) -> Result<()> {
        track(user, Status::Away)
    }

    /// Sent by every client each 30 s, so it must stay cheap: no store, no bus, no emit.
    #[on("heartbeat")]
    fn heartbeat() -> Result<()> {
        presence::heartbeat()
    }

    #[on("presence:list", reply)]
    fn list() -> Result<Attendants> {
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

    #[on_message("presence.changed")]
    fn attendant_changed(message: &Message, changed: Changed<Json<Meta>>) -> Result<()> {
        if changed.group != GROUP {
            return Ok(());
        }
        let event = match changed.to {
            State::Online => ONLINE,
            State::Away => AWAY,
            State::Offline => OFFLINE,
        };
        let (name, at) = (changed.meta.value()?.name, clock::rfc3339(message.at));
        event.to_room(&ROOM, &Attendant { user_id: changed.key, name, status: changed.to, at })
    }
}

fn track(user: &User, status: Status) -> Result<()> {
    let name = user.display_name().chars().take(MAX_NAME).collect();
    presence::track(GROUP, &user.id, status, &Meta { name, asked: status.into() })
}

fn asked_to_be_away(user: &str) -> Result<bool> {
    let found = presence::list::<Meta>(GROUP, &just_before(user), 1)?;
    let is_so = |member: &Member<Meta>| member.key == user && member.status == Status::Away && member.meta.asked == State::Away;
    Ok(found.first().is_some_and(is_so))
}

/// A text that sorts directly before an id. `presence::list` begins after a key.
fn just_before(id: &str) -> String {
    let mut chars = id.chars();
    let lower = chars.next_back().and_then(|last| char::from_u32(u32::from(last).checked_sub(1)?));
    let end = lower.map(|lower| format!("{lower}{}", char::MAX)).unwrap_or_default();
    format!("{}{end}", chars.as_str())
}

#[cfg(test)]
mod tests;
