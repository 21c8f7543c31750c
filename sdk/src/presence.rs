//! Who is there: keys (mostly users) tracked under a group by the sockets that vouch for them. The host owns grace, leases and
//! several devices; a plugin never derives a status from `#[on_disconnect]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::bindings::hubbub::plugin::presence::Status;
use crate::{EffectError, host};

/// One that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<T> {
    /// The key, mostly a user's id.
    pub key: String,
    /// Online while any of its sockets is.
    pub status: Status,
    /// As the last `track` of any of its sockets gave it.
    pub meta: T,
    /// Since when it has this status, in milliseconds since 1970.
    pub since: u64,
}

/// The caller's socket vouches for `key` in `group` with this status, until it disconnects: a clean disconnect (the client sent
/// Socket.IO's DISCONNECT) counts at once, a broken connection waits for the grace period. At most 16 groups a socket and 4 KiB of
/// `meta`.
pub fn track<T: Serialize + ?Sized>(group: &str, key: &str, status: Status, meta: &T) -> Result<(), EffectError> {
    host::presence::track(group, key, status, &crate::json::text(meta)?)
}

/// The caller's socket is alive. Does not end an `away` that was asked for.
pub fn heartbeat() -> Result<(), EffectError> {
    host::presence::heartbeat()
}

/// The caller's socket no longer vouches for `key`: at once, as with a clean disconnect. Idempotent.
pub fn untrack(group: &str, key: &str) -> Result<(), EffectError> {
    host::presence::untrack(group, key)
}

/// The members of a group by key, at most `limit` (1–1000), after the key `after` (empty: from the first).
pub fn list<T: DeserializeOwned>(group: &str, after: &str, limit: u32) -> Result<Vec<Member<T>>, EffectError> {
    let members = host::presence::list(group, after, limit)?;
    members
        .into_iter()
        .map(|member| {
            let meta = serde_json::from_str(&member.meta).map_err(|error| EffectError::InvalidJson(error.to_string()))?;
            Ok(Member { key: member.key, status: member.status, meta, since: member.since })
        })
        .collect()
}

/// How many members a group has.
pub fn count(group: &str) -> Result<u64, EffectError> {
    host::presence::count(group)
}

/// The host's message `presence.changed`: one key's status over all devices and nodes is another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Changed<T> {
    /// The group.
    pub group: String,
    /// The key.
    pub key: String,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// As the last `track` of any of its sockets gave it.
    pub meta: T,
}

/// A status with the one that nobody is listed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Here.
    Online,
    /// Connected, but not here.
    Away,
    /// Gone.
    Offline,
}

impl From<Status> for State {
    fn from(status: Status) -> Self {
        match status {
            Status::Online => Self::Online,
            Status::Away => Self::Away,
        }
    }
}
