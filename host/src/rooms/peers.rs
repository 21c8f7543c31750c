//! The trait through which rooms reach the other nodes. `cluster` implements it; without a cluster there is no implementation.

use std::pin::Pin;
use std::sync::Arc;

use super::members::Size;
use super::{At, Send};
use crate::names::SocketId;

/// A room after a join or a leave.
pub struct Change {
    pub namespace: Arc<str>,
    pub room: Arc<str>,
    pub size: Size,
    /// A user's first socket in the room on this node (true), or the last one that left it (false).
    pub user: Option<(Arc<str>, bool)>,
}

/// A room's size on the other nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Elsewhere {
    pub sockets: u64,
    pub visitors: u64,
    /// Distinct users over all nodes, this one included.
    pub users: u64,
    /// Nodes that the given user is on, this one included.
    pub nodes_of_user: u32,
}

/// An answer from the other nodes.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + std::marker::Send + 'a>>;

/// The other nodes. They receive this node's changes and events.
pub trait Peers: std::marker::Send + Sync {
    /// Sends an event to the members on other nodes, and to the log. Returns its place there, if there is a log. Never waits.
    fn publish(&self, namespace: &str, send: &Send<'_>) -> Option<At>;

    /// Whether events are logged, so that clients may come back to any node.
    fn is_logged(&self) -> bool;

    /// A socket of this node that may come back has joined or left a room.
    fn moved(&self, socket: SocketId, room: &str, joins: bool);

    /// Waits until the events and moves of before are in the log. Returns at once if Redis does not answer.
    fn written(&self) -> Answer<'_, ()>;

    /// Makes a user's sockets on other nodes join or leave a room.
    fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool);

    /// A namespace was opened here, or closed.
    fn namespace_changed(&self, namespace: &str, is_here: bool);

    /// A socket of this node has joined or left a room.
    fn changed(&self, change: Change);

    /// A user has connected the first socket to a namespace here, or disconnected the last one.
    fn user_changed(&self, namespace: &str, user: &str, is_here: bool);

    /// The size of a room on the other nodes. None if Redis does not answer.
    fn size<'a>(&'a self, namespace: &'a Arc<str>, room: &'a str, user: &'a str) -> Answer<'a, Option<Elsewhere>>;

    /// Waits until this node receives what other nodes send to the rooms that were joined before.
    fn settled(&self) -> Answer<'_, ()>;
}
