//! Rooms: named sets of sockets within one namespace. Joins and leaves happen when the call has succeeded, never before.

use serde::Deserialize;

pub use crate::bindings::hubbub::plugin::rooms::RoomSize;
use crate::{EffectError, host};

type Answer<T = ()> = Result<T, EffectError>;

/// The caller joins a room of its namespace. Idempotent. At most 64 rooms a socket.
pub fn join(room: &str) -> Answer {
    host::rooms::join(room)
}

/// The caller leaves a room. Idempotent.
pub fn leave(room: &str) -> Answer {
    host::rooms::leave(room)
}

/// Every socket that a user has in `namespace`, on any node, joins a room. One that connects later does not.
pub fn join_user(namespace: &str, user: &str, room: &str) -> Answer {
    host::rooms::join_user(namespace, user, room)
}

/// Every socket that a user has in `namespace`, on any node, leaves a room.
pub fn leave_user(namespace: &str, user: &str, room: &str) -> Answer {
    host::rooms::leave_user(namespace, user, room)
}

/// Whether the caller is in a room, with this call's own joins and leaves.
pub fn joined(room: &str) -> Answer<bool> {
    host::rooms::joined(room)
}

/// The rooms that the caller is in, in no order, without the host's own.
pub fn list() -> Answer<Vec<String>> {
    host::rooms::list()
}

/// How many are in a room, over all nodes, with this call's own joins and leaves.
pub fn size(namespace: &str, room: &str) -> Answer<RoomSize> {
    host::rooms::size(namespace, room)
}

/// The host's message `room.counted`: how many are in a room that the plugin has a pattern for, at most twice a second a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Counted {
    /// The room's namespace, as clients name it.
    pub namespace: String,
    /// The room.
    pub room: String,
    /// Sockets in the room.
    pub sockets: u64,
    /// Distinct users among them.
    pub users: u64,
    /// Sockets without a user.
    pub visitors: u64,
}
