//! Connection state recovery: a client that comes back in time is the same socket again, in the same rooms, and gets what it missed.
//! Complete or refused: a client that cannot get all of it gets a new socket.

pub mod log;
pub mod offset;
pub mod request;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// `[recovery]`: clients that lose their connection for a moment.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a client may be away and come back as the same socket, with the events that it missed. `0s` turns recovery off.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub window: Duration,
    /// Bytes of events that this node keeps for clients that may have missed them, in a cluster in Redis. Past it the oldest are dropped,
    /// and a client that missed one of them gets a new socket. Metric: `recovery_log_bytes`.
    pub bytes: usize,
    /// Sockets of this node that may be away at a time. Past it the one that has been away the longest ends. Metric:
    /// `recovery_sockets_away`.
    pub sockets: usize,
    /// Beginnings of the `User-Agent` of clients that get no offset, in lower case: their libraries pass it to handlers as one more
    /// argument. Other clients say `recovery=0` in the query, or `recovery: 0` in `auth`.
    pub without: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(120),
            bytes: 64 << 20,
            sockets: 100_000,
            without: vec!["python".to_owned(), "dart".to_owned()],
        }
    }
}

/// Why a client that came back got a new socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRecovered {
    /// No socket with this private id is away: the window has ended, a single node was killed, or another connection has it.
    Unknown,
    /// The offset names no position of this log.
    Offset,
    /// The token names another user or tenant.
    OtherUser,
    /// Events that the client missed are no longer in the log.
    Log,
    /// The old connection did not end in time.
    Busy,
    /// Redis does not answer.
    Redis,
}

impl NotRecovered {
    pub const ALL: [Self; 6] = [Self::Unknown, Self::Offset, Self::OtherUser, Self::Log, Self::Busy, Self::Redis];

    /// The label in metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Offset => "offset",
            Self::OtherUser => "other_user",
            Self::Log => "log",
            Self::Busy => "busy",
            Self::Redis => "redis",
        }
    }
}
