//! Validated names and ids. Independent of their use; higher layers pass only checked names down.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest room, user, tenant, event, topic, group or key, in bytes.
pub const MAX_NAME: usize = 256;

/// Separates a tenant from a name, and the parts of a large room. No client or plugin can write it: control characters are
/// refused in every name.
pub const SEPARATOR: char = '\u{1f}';

/// Events reserved by Socket.IO: a client library would mistake one of them for a change of its own connection.
const RESERVED_EVENTS: [&str; 6] = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// An invalid name, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {why}")]
pub struct InvalidName {
    kind: &'static str,
    why: &'static str,
}

impl InvalidName {
    pub fn new(kind: &'static str, why: &'static str) -> Self {
        Self { kind, why }
    }
}

/// Checks a name of any kind: 1–256 bytes, no control characters.
pub fn check(kind: &'static str, name: &str) -> Result<(), InvalidName> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 256 bytes"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else {
        return Ok(());
    };
    Err(InvalidName { kind, why })
}

/// Checks an event's name: a valid name, and not reserved by Socket.IO.
pub fn check_event(name: &str) -> Result<(), InvalidName> {
    check("event", name)?;
    if RESERVED_EVENTS.contains(&name) {
        return Err(InvalidName { kind: "event", why: "is reserved" });
    }
    Ok(())
}

/// Checks a bus topic: lower case words of letters, digits, `_` and `-`, joined by dots.
pub fn check_topic(name: &str) -> Result<(), InvalidName> {
    check("topic", name)?;
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    if !name.split('.').all(word) {
        return Err(InvalidName { kind: "topic", why: "is not lower case words joined by dots" });
    }
    Ok(())
}

/// A name as the host stores it: bare, or with its tenant.
pub fn scoped(tenant: Option<&str>, name: &str) -> String {
    match tenant {
        Some(tenant) => format!("{tenant}{SEPARATOR}{name}"),
        None => name.to_owned(),
    }
}

/// Splits a stored name into its tenant and the name that the plugin wrote.
pub fn unscoped(name: &str) -> (Option<&str>, &str) {
    match name.split_once(SEPARATOR) {
        Some((tenant, name)) => (Some(tenant), name),
        None => (None, name),
    }
}

/// The name of a deployed plugin: lower case letters, digits and `-`, 1–64 bytes, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(Arc<str>);

impl PluginName {
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let shape = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(shape) || !name.as_bytes()[0].is_ascii_lowercase() {
            return Err(InvalidName {
                kind: "plugin",
                why: "is not 1–64 lower case letters, digits and `-`, beginning with a letter",
            });
        }
        Ok(Self(name.into()))
    }

    /// Whether the name belongs to a part of the host that uses storage like a plugin: bus ingest and egress.
    pub fn is_hosts(&self) -> bool {
        ["ingest-", "egress-"].iter().any(|part| self.0.starts_with(part))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PluginName {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::parse(&name)
    }
}

impl From<PluginName> for String {
    fn from(name: PluginName) -> Self {
        name.0.to_string()
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A random name for this process among the nodes of a cluster, new at each start.
pub fn node_name() -> Result<String, getrandom::Error> {
    Ok(format!("{:012x}", getrandom::u64()? >> 16))
}

/// The host's number for a socket. See `types.wit`.
pub type SocketId = u64;

/// The next socket number. The nodes of a cluster start at different numbers.
pub fn next_socket_id() -> SocketId {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new((getrandom::u64().unwrap_or(0) >> 13 << 20) | 1));
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Creates ids that sort by time (ULIDs): 48 bits of milliseconds, then 80 bits that start at random and count up, so that the
/// ids of one process are unique and ordered, without a system call for each.
pub struct IdSource {
    counter: AtomicU64,
    node: u16,
}

impl IdSource {
    /// Fails if the operating system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        // The top bit is clear, so the counter cannot wrap within the life of a process.
        Ok(Self { counter: AtomicU64::new(getrandom::u64()? >> 1), node: getrandom::u32()? as u16 })
    }

    pub fn next(&self, now_ms: u64) -> String {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let bits = (u128::from(now_ms & 0xffff_ffff_ffff) << 80) | (u128::from(count) << 16) | u128::from(self.node);
        const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        (0..26).rev().map(|i| CROCKFORD[((bits >> (i * 5)) & 31) as usize] as char).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn invalid_names_are_refused() {
        assert!(check("room", "chat:1").is_ok());
        assert_eq!(check("room", "").unwrap_err().to_string(), "room name is empty");
        assert!(check("room", &"x".repeat(256)).is_ok());
        assert!(check("room", &"x".repeat(257)).is_err());
        assert!(check("room", "a\u{1f}b").is_err());
        assert!(check_event("connect").is_err());
        assert!(check_topic("chat.accepted").is_ok());
        assert!(check_topic("Chat.accepted").is_err());
        assert!(check_topic("chat..accepted").is_err());
        assert!(PluginName::parse("chat-2").is_ok());
        assert!(PluginName::parse("2chat").is_err());
    }

    #[test]
    fn unscoping_reverses_scoping() {
        assert_eq!(unscoped(&scoped(Some("acme"), "room")), (Some("acme"), "room"));
        assert_eq!(unscoped(&scoped(None, "room")), (None, "room"));
    }

    #[test]
    fn ids_are_unique_and_sort_by_time() {
        let ids = IdSource::new().unwrap();
        let (a, b, c) = (ids.next(1), ids.next(1), ids.next(2));
        assert!(a < b && b < c);
        assert_eq!(a.len(), 26);
    }
}
