//! The other nodes, as rooms know them: what changes here is told, and what they send is heard. Built only where there is Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bridge::Bridge;
use super::interest::Interest;
use super::ledger::{Change, Ledger};
use super::link::Link;
use super::members::is_hosts;
use super::relay::{self, Relay, room_channel, user_channel};
use super::rooms::Send;
use crate::telemetry::figures::Figure;

/// What a change in a room concerns beyond this node.
pub struct Peers {
    pub link: Arc<Link>,
    pub relay: Arc<Relay>,
    pub interest: Arc<Interest>,
    pub ledger: Arc<Ledger>,
    /// To Node's servers, where there are some.
    pub bridge: Option<Arc<Bridge>>,
}

impl Peers {
    /// What has gone to the other nodes and come from them, since the start.
    pub fn figures(&self) -> Vec<Figure> {
        let mut all = Self::figures_of(self.link.is_up(), &self.relay.figures);
        all.extend(self.bridge.iter().flat_map(|bridge| bridge.figures.read()));
        all
    }

    /// The metrics of the cluster without those of the bridge.
    pub fn figures_of(is_up: bool, figures: &relay::Figures) -> Vec<Figure> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Figure::Gauge("cluster_redis_up", "1 while Redis answers this node", i64::from(is_up)),
            Figure::Counter("cluster_events_sent", "Events that were sent to other nodes", read(&figures.sent)),
            Figure::Counter("cluster_events_received", "Events of other nodes that were delivered here", read(&figures.received)),
            Figure::Counter("cluster_events_unsent", "Events that other nodes' clients have missed", read(&figures.unsent)),
            Figure::Counter(
                "cluster_events_unheard",
                "Events of other nodes that clients here have missed",
                read(&figures.unheard),
            ),
        ]
    }

    /// Tells the others of an event that begins here. Never waits.
    pub fn publish(&self, namespace: &str, send: &Send<'_>) {
        self.relay.publish(namespace, send);
        if let Some(bridge) = &self.bridge {
            bridge.publish(namespace, send);
        }
    }

    /// Tells the others that a user's sockets join or leave.
    pub fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        self.relay.move_user(namespace, user, room, joins);
        if let Some(bridge) = &self.bridge {
            bridge.move_user(namespace, user, room, joins);
        }
    }

    /// A namespace is open here, or no longer.
    pub fn namespace_changed(&self, namespace: &str, is_here: bool) {
        if let Some(channel) = self.bridge.as_ref().and_then(|bridge| bridge.requests_of(namespace)) {
            self.interest.set(channel, is_here);
        }
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
