//! The other nodes, as rooms know them: what changes here is told, and what they send is heard. Built only where there is Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::interest::Interest;
use super::ledger::{Change, Ledger};
use super::link::Link;
use super::members::is_hosts;
use super::relay::{Relay, room_channel, user_channel};
use crate::telemetry::figures::Figure;

/// What a change in a room concerns beyond this node.
pub struct Peers {
    pub link: Arc<Link>,
    pub relay: Arc<Relay>,
    pub interest: Arc<Interest>,
    pub ledger: Arc<Ledger>,
}

impl Peers {
    /// What has gone to the other nodes and come from them, since the start.
    pub fn figures(&self) -> [Figure; 5] {
        let (figures, read) = (&self.relay.figures, |counter: &AtomicU64| counter.load(Ordering::Relaxed));
        [
            Figure::Gauge("cluster_redis_up", "Whether Redis answers this node", i64::from(self.link.is_up())),
            Figure::Counter("cluster_events_sent", "Events sent to other nodes", read(&figures.sent)),
            Figure::Counter("cluster_events_received", "Events of other nodes delivered here", read(&figures.received)),
            Figure::Counter("cluster_events_unsent", "Events that other nodes' clients have missed", read(&figures.unsent)),
            Figure::Counter(
                "cluster_events_unheard",
                "Events of other nodes that clients here have missed",
                read(&figures.unheard),
            ),
        ]
    }

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
