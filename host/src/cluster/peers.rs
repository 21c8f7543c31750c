//! The other nodes, as rooms know them: what changes here is told, and what they send is heard. Built only where there is Redis.

use std::sync::Arc;

use super::interest::Interest;
use super::ledger::{Change, Ledger};
use super::link::Link;
use super::members::is_hosts;
use super::relay::{Relay, room_channel, user_channel};

/// What a change in a room concerns beyond this node.
pub struct Peers {
    pub link: Arc<Link>,
    pub relay: Arc<Relay>,
    pub interest: Arc<Interest>,
    pub ledger: Arc<Ledger>,
}

impl Peers {
    /// A room has changed: is it to be listened to, and how many are in it?
    pub fn changed(&self, change: Change) {
        let channel = room_channel(&self.link, &change.namespace, &change.room);
        self.interest.set(channel, change.size.sockets > 0);
        // The host's own rooms are nobody's to count.
        if !is_hosts(&change.room) {
            self.ledger.note(change);
        }
    }

    /// A user has sockets in a namespace, or none any more.
    pub fn user_changed(&self, namespace: &str, user: &str, is_here: bool) {
        self.interest.set(user_channel(&self.link, namespace, user), is_here);
    }
}
