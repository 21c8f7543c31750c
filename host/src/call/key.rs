//! The key of a call: it decides which release serves the call while one is on trial.

use crate::names::SocketId;

/// What decides which release serves a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// A user without a tenant, a message's key, a timer's.
    Text(&'a str),
    /// A user of a tenant.
    User { tenant: &'a str, id: &'a str },
    /// A visitor's socket.
    Socket(SocketId),
}
