//! The number of messages that a user has not read in a chat. A message adds to two counters, and writes nothing for each participant.
//! Reading stores the values of the counters.

use hubbub_sdk::{
    Result, User,
    payload::Id,
    plugin,
    store::{self, key, tenant_key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChatId, not_authorized};
use crate::{Chat, participants};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Count {
    chat_id: Id,
    unread_count: i64,
}

/// The values of the counters at one time.
#[derive(Default, Clone, Copy, Serialize, Deserialize)]
struct Position {
    /// Messages of the chat.
    total: i64,
    /// Messages of the user, which are never unread.
    own: i64,
}

#[plugin(part, namespace = "/chat")]
#[tenant_keys("own/")]
#[tenant_keys("seen/")]
impl Chat {
    #[on("chat:read", reply)]
    fn read(user: &User, ChatId { chat_id }: ChatId) -> Result<Count> {
        participants::find(&chat_id, user)?.ok_or_else(not_authorized)?;
        store::put(&seen(&chat_id, user), &now(&chat_id, user)?)?;
        Ok(Count { unread_count: count(&chat_id, user)?, chat_id })
    }
}

/// A new message of the user is unread for everyone else.
pub(super) fn count_message(chat: &str, user: &User) -> Result<()> {
    store::add(&total(chat), 1)?;
    store::add(&own(chat, user), 1)
}

/// The number of messages of others since the user last read.
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
