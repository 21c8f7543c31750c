//! Presence: the status of users, or of any other keys, over all their devices and all nodes.
//!
//! A key is tracked under a group by sockets. It is online while any of its sockets is online, away while all of them are away, and
//! offline without sockets. The host handles grace periods, reconnects and several devices: a plugin never derives a status from
//! `#[on_disconnect]`. Presence is not stored: after a restart of a single node, all keys are offline.
//!
//! Limits: 16 groups a socket, 4 KiB of metadata a key. Defaults of the host: away after 90 s without a heartbeat
//! (`presence.away_after`), offline 60 s after a broken connection (`presence.grace`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::bindings::hubbub::plugin::presence::Status;
use crate::{Refusal, Result, host};

/// One key of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<T> {
    /// The key, mostly a user's id.
    pub key: String,
    /// Its status over all its sockets.
    pub status: Status,
    /// The metadata of the last `track`, by any of its sockets.
    pub meta: T,
    /// The time of its last change of status, in milliseconds since 1970.
    pub since: u64,
}

/// The caller's socket tracks `key` in `group` with this status, until it disconnects. A clean disconnect (the client sent
/// Socket.IO's DISCONNECT) counts at once; a broken connection waits for the grace period. Replaces the socket's last `track` of
/// the key, and counts as a heartbeat.
pub fn track<T: Serialize + ?Sized>(group: &str, key: &str, status: Status, meta: &T) -> Result<()> {
    Ok(host::presence::track(group, key, status, &crate::json::text(meta)?)?)
}

/// The caller's socket is alive. A key that was tracked as away stays away.
pub fn heartbeat() -> Result<()> {
    Ok(host::presence::heartbeat()?)
}

/// The caller's socket no longer tracks `key`. Takes effect at once, as a clean disconnect does. Idempotent.
pub fn untrack(group: &str, key: &str) -> Result<()> {
    Ok(host::presence::untrack(group, key)?)
}

/// The members of a group in the order of their keys, at most `limit` (1–1000), after the key `after` (empty: from the first).
pub fn list<T: DeserializeOwned>(group: &str, after: &str, limit: u32) -> Result<Vec<Member<T>>> {
    let members = host::presence::list(group, after, limit)?;
    members
        .into_iter()
        .map(|member| {
            let meta =
                serde_json::from_str(&member.meta).map_err(|error| Refusal::internal(format_args!("presence: {error}")))?;
            Ok(Member { key: member.key, status: member.status, meta, since: member.since })
        })
        .collect()
}

/// The number of members of a group.
pub fn count(group: &str) -> Result<u64> {
    Ok(host::presence::count(group)?)
}

/// The host's message `presence.changed`: a key's status over all devices and nodes has changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Changed<T> {
    /// The group.
    pub group: String,
    /// The key.
    pub key: String,
    /// The status before.
    pub from: State,
    /// The status now.
    pub to: State,
    /// The metadata of the last `track`, by any of its sockets.
    pub meta: T,
}

/// A status, or offline. Members that are listed are never offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Connected and active.
    Online,
    /// Connected and not active.
    Away,
    /// Not connected.
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
