//! The trait `Peers` of `rooms`, implemented over Redis: publishes local changes, and subscribes to the other nodes' events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bridge::Bridge;
use super::redis::Redis;
use super::relay::event::{room_channel, user_channel};
use super::relay::{Relay, RelayMetrics};
use super::room_counts::RoomCounts;
use super::sockets::Sockets;
use super::subscriptions::Subscriptions;
use crate::names::SocketId;
use crate::rooms::members::is_hosts;
use crate::rooms::peers::{self, Answer, Change, Elsewhere};
use crate::rooms::{At, Send};
use crate::telemetry::collected::Metric;

/// The links from this node's rooms to the other nodes.
pub struct Peers {
    pub link: Arc<Redis>,
    pub relay: Arc<Relay>,
    pub subscriptions: Arc<Subscriptions>,
    pub room_counts: Arc<RoomCounts>,
    /// The bridge to Node.js servers, if it is on.
    pub bridge: Option<Arc<Bridge>>,
    /// The sockets that may come back to any node. None: they come back to this one only.
    pub sockets: Option<Arc<Sockets>>,
}

impl Peers {
    /// The traffic with the other nodes since the start.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut all = Self::metrics_of(self.link.is_up(), &self.relay.metrics);
        all.extend(self.bridge.iter().flat_map(|bridge| bridge.metrics.read()));
        all
    }

    /// The metrics of the cluster without those of the bridge.
    pub fn metrics_of(is_up: bool, metrics: &RelayMetrics) -> Vec<Metric> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            Metric::Gauge("cluster_redis_up", "1 while Redis answers this node", i64::from(is_up)),
            Metric::Counter("cluster_events_sent", "Events that were sent to other nodes", read(&metrics.sent)),
            Metric::Counter("cluster_events_received", "Events of other nodes that were delivered here", read(&metrics.received)),
            Metric::Counter("cluster_events_unsent", "Events that other nodes' clients have missed", read(&metrics.unsent)),
            Metric::Counter(
                "cluster_events_unheard",
                "Events of other nodes that this node has not received in time",
                read(&metrics.unheard),
            ),
        ]
    }
}

impl peers::Peers for Peers {
    fn publish(&self, namespace: &str, send: &Send<'_>) -> Option<At> {
        let at = self.relay.publish(namespace, send);
        if let Some(bridge) = &self.bridge {
            bridge.publish(namespace, send);
        }
        at
    }

    fn is_logged(&self) -> bool {
        self.sockets.is_some()
    }

    fn moved(&self, socket: SocketId, room: &str, joins: bool) {
        if let Some(sockets) = &self.sockets {
            sockets.moved(socket, room, joins);
        }
    }

    fn written(&self) -> Answer<'_, ()> {
        Box::pin(self.relay.written())
    }

    fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        self.relay.move_user(namespace, user, room, joins);
        if let Some(bridge) = &self.bridge {
            bridge.move_user(namespace, user, room, joins);
        }
    }

    fn namespace_changed(&self, namespace: &str, is_here: bool) {
        if let Some(channel) = self.bridge.as_ref().and_then(|bridge| bridge.requests_of(namespace)) {
            self.subscriptions.set(channel, is_here);
        }
    }

    fn changed(&self, change: Change) {
        let channel = room_channel(&self.link, &change.namespace, &change.room);
        self.subscriptions.set(channel, change.size.sockets > 0);
        // The host's own rooms are not counted.
        if !is_hosts(&change.room) {
            self.room_counts.note(change);
        }
    }

    fn user_changed(&self, namespace: &str, user: &str, is_here: bool) {
        self.subscriptions.set(user_channel(&self.link, namespace, user), is_here);
    }

    fn size<'a>(&'a self, namespace: &'a Arc<str>, room: &'a str, user: &'a str) -> Answer<'a, Option<Elsewhere>> {
        Box::pin(async move { self.room_counts.read(namespace, room, user).await.ok() })
    }

    fn settled(&self) -> Answer<'_, ()> {
        Box::pin(self.subscriptions.settled())
    }
}
