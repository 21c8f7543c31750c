//! The effects that one call has collected. At the commit all of them take effect, or none.

use std::fmt;
use std::sync::Arc;

use crate::clock::Moment;
use crate::names::{PluginName, SocketId};
use crate::sandbox::Limit;
use crate::storage::{Fingerprint, OutboxMessage, Write};
use crate::timers::{Origin, TimerId};

/// The effects of a call, and what it read.
#[derive(Default)]
pub struct Effects {
    /// Keys that `get` read, with the values' fingerprints. Checked at the commit.
    pub reads: Vec<(String, Option<Fingerprint>)>,
    pub writes: Vec<Write>,
    pub messages: Vec<OutboxMessage>,
    /// All other effects, in order.
    pub live: Vec<Live>,
    count: usize,
    bytes: usize,
    /// Bytes that the writes may add to the store.
    pub stored: u64,
}

/// An effect on connected clients, presence or timers.
pub enum Live {
    Join { socket: SocketId, namespace: Arc<str>, room: String },
    Leave { socket: SocketId, namespace: Arc<str>, room: String },
    MoveUser { namespace: Arc<str>, user: String, room: String, joins: bool },
    Emit(Emit),
    Track(crate::presence::Track),
    Heartbeat { socket: SocketId },
    Untrack { socket: SocketId, plugin: PluginName, tenant: Option<String>, group: String, key: String },
    Arm { id: TimerId, due: Moment, payload: Option<String>, origin: Origin },
    Disarm { id: TimerId },
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("effect")
    }
}

/// An event to send.
pub struct Emit {
    pub namespace: Arc<str>,
    pub to: Target,
    pub except: Vec<String>,
    pub except_socket: Option<SocketId>,
    /// `["event",…]`
    pub text: String,
    pub volatile: bool,
}

/// The recipients of an event.
pub enum Target {
    Socket(SocketId),
    Rooms(Vec<String>),
    TenantInRoom { tenant: String, room: String },
    Users(Vec<String>),
    Tenant(String),
    Everyone,
}

impl Effects {
    /// Counts one more effect, or ends the call.
    pub fn charge(&mut self, bytes: usize, most: usize, most_bytes: usize) -> Result<(), Limit> {
        self.count += 1;
        self.bytes += bytes;
        if self.count > most {
            return Err(Limit::Effects);
        }
        if self.bytes > most_bytes {
            return Err(Limit::EffectBytes);
        }
        Ok(())
    }

    /// Resets the counts for the next call.
    pub fn reset_charges(&mut self) {
        (self.count, self.bytes) = (0, 0);
    }

    /// The number of counted effects.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether something must be stored before the other effects may happen.
    pub fn is_durable(&self) -> bool {
        !self.writes.is_empty() || !self.messages.is_empty()
    }

    pub fn clear(&mut self) {
        self.reads.clear();
        self.writes.clear();
        self.messages.clear();
        self.live.clear();
        self.stored = 0;
        self.reset_charges();
    }
}

impl Live {
    /// Whether it adds a socket to a room.
    pub fn joins(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::MoveUser { joins: true, .. })
    }

    /// Whether it must wait until the client has received its CONNECT.
    pub fn follows_connect(&self) -> bool {
        matches!(self, Self::Emit(_) | Self::Track(_) | Self::Heartbeat { .. } | Self::Untrack { .. })
    }
}
