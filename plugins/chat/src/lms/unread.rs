//! How many messages of a chat a user has not seen. Never a write for each participant: a message adds to two counters, however
//! many may read it, and what a user has seen is a note of where the counters stood.

use hubbub_sdk::{
    Result, User,
    payload::Id,
    store::{self, key, tenant_key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChatId, not_authorized};
use crate::participants;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Count {
    chat_id: Id,
    unread_count: i64,
}

/// Where the counters stood.
#[derive(Default, Clone, Copy, Serialize, Deserialize)]
struct Position {
    /// Messages of the chat.
    total: i64,
    /// Those of the user's own, which are never unread.
    own: i64,
}

/// The user has said something: one more for everyone else.
pub(super) fn grow(chat: &str, user: &User) -> Result<()> {
    store::add(&total(chat), 1)?;
    Ok(store::add(&own(chat, user), 1)?)
}

/// The user has seen everything up to now.
pub(crate) fn read(user: &User, ChatId { chat_id }: ChatId) -> Result<Count> {
    participants::find(&chat_id, user.tenant.as_deref(), &user.id)?.ok_or_else(not_authorized)?;
    store::put(&seen(&chat_id, user), &now(&chat_id, user)?)?;
    Ok(Count { unread_count: count(&chat_id, user)?, chat_id })
}

/// What others have said since the user last read.
pub(super) fn count(chat: &str, user: &User) -> Result<i64> {
    let seen: Position = store::get(&seen(chat, user))?.unwrap_or_default();
    let now = now(chat, user)?;
    Ok((now.total - seen.total) - (now.own - seen.own))
}

fn now(chat: &str, user: &User) -> Result<Position> {
    Ok(Position { total: store::counter(&total(chat))?, own: store::counter(&own(chat, user))? })
}

fn total(chat: &str) -> String {
    key(["total", chat])
}

fn own(chat: &str, user: &User) -> String {
    tenant_key(user.tenant.as_deref(), ["own", chat, &user.id])
}

fn seen(chat: &str, user: &User) -> String {
    tenant_key(user.tenant.as_deref(), ["seen", chat, &user.id])
}
