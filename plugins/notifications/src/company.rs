//! A company's member in `/notifications`. The inbox is the same as in `/`: the user's, within the company.

use std::collections::BTreeSet;

use hubbub_sdk::{Caller, Refusal, Result, bus, clock, emitter::Emits, payload::Id, rooms, store::key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    log::{INBOX_KEEPS, Log, Stored},
    marks::Marks,
    page::{self, Asked, Found, Source},
};

const NAMESPACE: &str = "/notifications";

/// The most ids of one `notification:read`: an inbox has no more. One with more is refused as `too_large`.
const MAX_IDS: usize = INBOX_KEEPS as usize;

/// How many ids are confirmed in one call, which has 256 effects. The others follow in messages.
const CONFIRMED_AT_ONCE: usize = 200;

pub(crate) const NEW: Emits<New> = Emits::new(NAMESPACE, "notification:new");
pub(crate) const READ: Emits<Read> = Emits::new(NAMESPACE, "notification:read");
pub(crate) const ALL_READ: Emits<AllRead> = Emits::new(NAMESPACE, "notification:all_read");

/// `notification:new`, here and in `/`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct New {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    message: String,
    /// Absent where the backend gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    created_at: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Read {
    id: Id,
}

/// `{}`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AllRead {}

/// One id or an array of at most 1000.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Ids {
    One(Id),
    Many(Vec<Id>),
}

/// `notification.confirmed`: the plugin's own message to itself.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Confirmed {
    company_id: String,
    user_id: String,
    ids: Vec<Id>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    /// Newest first.
    notifications: Vec<Item>,
    /// Of the whole inbox, which keeps the newest 1000.
    unread_count: i64,
}

/// A notification as `notification:new` shows it, and whether it was read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(flatten)]
    notification: New,
    read: bool,
    /// Absent while it is unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<String>,
}

/// Who the caller is within which company.
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

fn member(caller: &Caller) -> Result<Member<'_>> {
    let user = caller.user()?;
    // The door wants the claim; this is for a token whose claim is there and is no text.
    let company = user.tenant.as_deref().ok_or_else(|| Refusal::unauthenticated("Invalid or expired token"))?;
    Ok(Member { company, user: &user.id })
}

pub(crate) fn connect(caller: &Caller) -> Result<()> {
    Ok(rooms::join(&format!("company:{}", member(caller)?.company))?)
}

/// Ids that are not the member's own are passed over, and refused where there is no other: a list may name one that the inbox has
/// forgotten meanwhile, and the rest was read all the same. What was read before is confirmed again, and keeps its time.
pub(crate) fn read(caller: &Caller, ids: Ids) -> Result<()> {
    let member = member(caller)?;
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
    confirm(&member, own)
}

/// The first at once, the others in messages of as many.
fn confirm(member: &Member<'_>, ids: Vec<Id>) -> Result<()> {
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

pub(crate) fn confirmed(Confirmed { company_id, user_id, ids }: &Confirmed) -> Result<()> {
    confirm(&Member { company: company_id, user: user_id }, ids.clone())
}

pub(crate) fn all_read(caller: &Caller) -> Result<()> {
    let member = member(caller)?;
    let log = member.log();
    let mut marks = Marks::of(&log)?;
    if marks.read_all(&log)? {
        marks.save(&log)?;
    }
    Ok(ALL_READ.to_user(member.user, &AllRead {})?)
}

pub(crate) fn list(caller: &Caller, asked: Asked) -> Result<Page> {
    let log = member(caller)?.log();
    let sources = [Source { marks: Marks::of(&log)?, log }];
    let notifications = page::read(&sources, &asked)?.into_iter().map(Item::from).collect();
    Ok(Page { notifications, unread_count: page::unread(&sources)? })
}

#[cfg(test)]
mod tests;
