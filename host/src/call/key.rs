//! The key of a call: selects the release that serves the call during a trial.

use crate::names::SocketId;

/// Selects the release that serves a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// A user without a tenant, or the key of a message or timer.
    Text(&'a str),
    /// A user of a tenant.
    User { tenant: &'a str, id: &'a str },
    /// A visitor's socket.
    Socket(SocketId),
}
