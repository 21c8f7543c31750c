//! The inbox of a company's member in `/notifications`. It is the inbox that the user has in `/`.

use std::collections::BTreeSet;

use hubbub_sdk::{Refusal, Result, User, bus, clock, emitter::Emits, payload::Id, plugin, rooms::Room, store::key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Notifications,
    log::{INBOX_KEEPS, Log, Stored},
    marks::Marks,
    page::{self, Found, PageRequest, Source},
};

/// The most ids of one `notification:read`, which is the size of an inbox. More are refused as `too_large`.
const MAX_IDS: usize = INBOX_KEEPS as usize;

/// The most ids that one call confirms, which has 256 effects. The others follow in messages.
const CONFIRMED_AT_ONCE: usize = 200;

const COMPANY: Room = Room::new("/notifications", "company:{id}");

const READ: Emits<Read> = Emits::new("/notifications", "notification:read");
const ALL_READ: Emits<AllRead> = Emits::new("/notifications", "notification:all_read");

/// `notification:new`, here and in `/`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct New {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    message: String,
    /// Absent if the backend gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    created_at: String,
}

#[derive(Serialize, JsonSchema)]
struct Read {
    id: Id,
}

#[derive(Serialize, JsonSchema)]
struct AllRead {}

/// One id or an array of at most 1000.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Ids {
    One(Id),
    Many(Vec<Id>),
}

/// `notification.confirmed`: the plugin's message to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Confirmed {
    company_id: String,
    user_id: String,
    ids: Vec<Id>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// Newest first.
    notifications: Vec<Item>,
    /// Unread notifications of the whole inbox, which holds the newest 1000.
    unread_count: i64,
}

/// A notification as in `notification:new`, and whether it was read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(flatten)]
    notification: New,
    read: bool,
    /// Absent if it is unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<String>,
}

/// The user and the company.
struct Member<'a> {
    company: &'a str,
    user: &'a str,
}

impl Member<'_> {
    fn log(&self) -> Log {
        Log::of_user(Some(self.company), self.user)
    }
}

impl From<Stored> for New {
    fn from(stored: Stored) -> Self {
        let Stored { id, kind, title, message, link, at, .. } = stored;
        Self { id, kind, title, message, link, created_at: clock::rfc3339(at) }
    }
}

impl From<Found> for Item {
    fn from(Found { notification, read_at }: Found) -> Self {
        Self { notification: notification.into(), read: read_at.is_some(), read_at: read_at.map(clock::rfc3339) }
    }
}

#[plugin(part, namespace = "/notifications")]
#[rooms(COMPANY)]
#[emits(READ, ALL_READ)]
impl Notifications {
    #[on_connect]
    fn connect_member(user: &User) -> Result<()> {
        COMPANY.of(member(user)?.company).join()
    }

    /// Ids that the inbox does not hold are ignored, and refused if there is no other: a list may have an id that was deleted meanwhile.
    /// A notification that was read before is confirmed again, and keeps its time.
    #[on("notification:read", invalid = "Invalid notification id", on_failure = "Failed to mark as read")]
    fn read(user: &User, ids: Ids) -> Result<()> {
        let member = member(user)?;
        let mut asked = match ids {
            Ids::One(id) => vec![id],
            Ids::Many(ids) => ids,
        };
        if asked.len() > MAX_IDS {
            return Err(Refusal::too_large("Too many notifications"));
        }
        let mut known = BTreeSet::new();
        asked.retain(|id| known.insert(id.clone()));
        let log = member.log();
        let (mut marks, mut own, mut changed) = (Marks::of(&log)?, Vec::new(), false);
        for (id, number) in log.numbers(&asked)? {
            changed |= marks.read(number);
            own.push(id.clone());
        }
        if own.is_empty() && !asked.is_empty() {
            return Err(page::not_found());
        }
        if changed {
            marks.save(&log)?;
        }
        confirm(&member, &own)
    }

    #[on("notification:all_read", on_failure = "Failed")]
    fn all_read(user: &User) -> Result<()> {
        let member = member(user)?;
        let log = member.log();
        let mut marks = Marks::of(&log)?;
        if marks.read_all(&log)? {
            marks.save(&log)?;
        }
        ALL_READ.to_user(member.user, &AllRead {})
    }

    #[on("notification:list", reply)]
    fn list(user: &User, request: Option<PageRequest>) -> Result<Page> {
        let log = member(user)?.log();
        let sources = [Source { marks: Marks::of(&log)?, log }];
        let notifications = page::read(&sources, &request.unwrap_or_default())?.into_iter().map(Item::from).collect();
        Ok(Page { notifications, unread_count: page::unread(&sources)? })
    }

    #[on_message("notification.confirmed")]
    fn confirmed(Confirmed { company_id, user_id, ids }: Confirmed) -> Result<()> {
        confirm(&Member { company: &company_id, user: &user_id }, &ids)
    }
}

fn member(user: &User) -> Result<Member<'_>> {
    // The door policy requires the claim. This refuses a token with a claim that is not a text.
    let company = user.tenant.as_deref().ok_or_else(|| Refusal::unauthenticated("Invalid or expired token"))?;
    Ok(Member { company, user: &user.id })
}

/// Confirms the first ids now, and the others in messages.
fn confirm(member: &Member<'_>, ids: &[Id]) -> Result<()> {
    let mut batches = ids.chunks(CONFIRMED_AT_ONCE);
    for id in batches.next().unwrap_or_default() {
        READ.to_user(member.user, &Read { id: id.clone() })?;
    }
    for ids in batches {
        let later = Confirmed { company_id: member.company.to_owned(), user_id: member.user.to_owned(), ids: ids.to_vec() };
        bus::publish_keyed("notification.confirmed", &key([member.company, member.user]), &later)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
