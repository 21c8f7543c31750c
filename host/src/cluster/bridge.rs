//! The bridge to Socket.IO servers in Node.js, which share rooms with this cluster during a migration. Off by default; then
//! nothing here is built. It relays nothing between Hubbub's own nodes: each node receives the Node.js servers' messages itself and
//! delivers them to its own sockets. An event for clients of Node.js servers is sent by the node on which it originated.

pub mod audience;
pub mod msgpack;
pub mod receiver;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fred::interfaces::PubsubInterface;
use fred::types::Value;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::redis::Redis;
use crate::rooms::members::is_hosts;
use crate::rooms::{Send, To};
use crate::telemetry::collected::Metric;
use audience::USER;
use wire::{Channels, Event, request};

/// Messages published to Redis together.
const BATCH: usize = 256;

/// `[bridge]`: rooms that are shared with Socket.IO servers in Node.js on the same Redis.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the bridge is on. It costs one more encoding and one more publish for each event that is sent, and every node
    /// receives every event of the Node.js servers.
    pub enabled: bool,
    /// The `key` that the Node.js adapter is configured with.
    pub prefix: String,
    /// The shared namespaces: names, and prefixes that end in `*`. Default: all.
    pub namespaces: Option<Vec<String>>,
    /// Messages that may wait to be sent to the Node.js servers. Past it their clients miss a message. Metric:
    /// `bridge_messages_unsent`.
    pub outbox: usize,
    /// Bytes of one message of a Node.js server. Past it the message is refused. Metric: `bridge_messages_refused`.
    pub max_message: usize,
    /// Sockets in one answer, and acknowledgements that may be awaited at the same time. Past it there is no answer, and the
    /// requests time out at the Node.js server. Metric: `bridge_messages_refused`.
    pub answers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            prefix: "socket.io".into(),
            namespaces: None,
            outbox: 16_384,
            max_message: 1024 * 1024,
            answers: 10_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    #[error("bridge.enabled is set, but Node.js servers are reached through Redis: set redis.url (REDIS_URL)")]
    NoRedis,
    #[error("bridge.{0} must be greater than 0")]
    Zero(&'static str),
}

impl Config {
    /// Whether to build the bridge.
    pub fn check(&self, has_redis: bool) -> Result<bool, BridgeError> {
        let sizes = [
            ("prefix", self.prefix.len()),
            ("outbox", self.outbox),
            ("max_message", self.max_message),
            ("answers", self.answers),
        ];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            _ if !self.enabled => Ok(false),
            Some((name, _)) => Err(BridgeError::Zero(name)),
            None if !has_redis => Err(BridgeError::NoRedis),
            None => Ok(true),
        }
    }
}

/// The link to Node.js servers.
pub struct Bridge {
    link: Arc<Redis>,
    config: Config,
    channels: Channels,
    /// This node's server id among the Node.js servers.
    uid: String,
    queue: mpsc::Sender<Parcel>,
    pub metrics: BridgeMetrics,
}

#[derive(Default)]
pub struct BridgeMetrics {
    sent: AtomicU64,
    unsent: AtomicU64,
    received: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
    joins_refused: AtomicU64,
    unheard: AtomicU64,
}

impl BridgeMetrics {
    pub fn read(&self) -> [Metric; 7] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            Metric::Counter(
                "bridge_messages_sent",
                "Events, joins, leaves and answers that were sent to Node.js servers",
                read(&self.sent),
            ),
            Metric::Counter("bridge_messages_unsent", "Messages that Node.js servers have missed", read(&self.unsent)),
            Metric::Counter("bridge_events_received", "Events of Node.js servers for clients of this node", read(&self.received)),
            Metric::Counter("bridge_requests_received", "Requests of Node.js servers", read(&self.requests)),
            Metric::Counter("bridge_messages_refused", "Messages of Node.js servers that were refused", read(&self.refused)),
            Metric::Counter(
                "bridge_joins_refused",
                "Joins by Node.js servers that were refused past a socket's limit",
                read(&self.joins_refused),
            ),
            Metric::Counter(
                "bridge_messages_unheard",
                "Messages of Node.js servers that this node missed because too many waited",
                read(&self.unheard),
            ),
        ]
    }
}

/// One message to publish. Events are encoded by the sending task, so that the emitter does not wait for that.
pub enum Parcel {
    Event { namespace: String, rooms: Vec<String>, except: Vec<String>, text: Arc<str>, volatile: bool },
    Ready { channel: String, bytes: Bytes },
}

impl Bridge {
    /// The bridge, and the queue for `send`.
    pub fn new(config: Config, link: Arc<Redis>, node: &str) -> (Arc<Self>, mpsc::Receiver<Parcel>) {
        let (queue, parcels) = mpsc::channel(config.outbox);
        let (channels, uid) = (Channels { prefix: config.prefix.clone() }, wire::uid(node));
        (Arc::new(Self { link, config, channels, uid, queue, metrics: BridgeMetrics::default() }), parcels)
    }

    /// The pattern of the event channels.
    pub fn pattern(&self) -> String {
        self.channels.pattern()
    }

    /// The channel of Node.js servers' requests about a namespace; none if it is not shared.
    pub fn requests_of(&self, namespace: &str) -> Option<String> {
        self.shares(namespace).then(|| self.channels.requests(namespace))
    }

    fn shares(&self, namespace: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => namespace.starts_with(beginning),
            None => namespace == pattern,
        };
        self.config.namespaces.as_ref().is_none_or(|patterns| patterns.iter().any(fits))
    }

    /// Publishes an event of this node to Node.js servers. Never waits.
    pub fn publish(&self, namespace: &str, send: &Send<'_>) {
        if !self.shares(namespace) {
            return;
        }
        let rooms = match send.to {
            To::Rooms(rooms) => rooms.to_vec(),
            To::Users(users) => users.iter().map(|user| format!("{USER}{user}")).collect(),
            To::Everyone => Vec::new(),
            // A single socket is on this node, and Node.js servers have no tenants.
            To::Socket(_) | To::Tenant(_) | To::TenantInRoom { .. } => return,
        };
        // For Node.js servers an empty list of rooms means everyone.
        if rooms.is_empty() && !matches!(send.to, To::Everyone) {
            return;
        }
        let except = send.except.iter().filter(|room| !is_hosts(room)).cloned().collect();
        self.post(Parcel::Event {
            namespace: namespace.to_owned(),
            rooms,
            except,
            text: send.text.into(),
            volatile: send.volatile,
        });
    }

    /// Has Node.js servers make a user's sockets join or leave a room.
    pub fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        let kind = if joins { request::JOIN } else { request::LEAVE };
        let opts = json!({"rooms": [format!("{USER}{user}")], "except": []});
        let request = json!({"uid": self.uid, "type": kind, "opts": opts, "rooms": [room]});
        if let Some(channel) = self.requests_of(namespace) {
            self.post(Parcel::Ready { channel, bytes: request.to_string().into() });
        }
    }

    fn post(&self, parcel: Parcel) {
        if !self.link.is_up() || self.queue.try_send(parcel).is_err() {
            self.metrics.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Publishes queued messages in order, until the future is dropped.
    pub async fn send(self: Arc<Self>, mut parcels: mpsc::Receiver<Parcel>) {
        let mut batch = Vec::with_capacity(BATCH);
        while parcels.recv_many(&mut batch, BATCH).await > 0 {
            // Pipelined in this order; Redis answers each.
            let sent = batch.drain(..).map(|parcel| self.encode(parcel)).map(async |encoded| match encoded {
                Ok((channel, bytes)) => self.link.client.publish::<i64, _, _>(channel, Value::Bytes(bytes)).await.is_ok(),
                Err(wrong) => {
                    tracing::error!("an event could not be encoded for Node.js servers: {wrong}");
                    false
                }
            });
            for is_sent in join_all(sent).await {
                let counter = if is_sent { &self.metrics.sent } else { &self.metrics.unsent };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn encode(&self, parcel: Parcel) -> Result<(String, Bytes), serde_json::Error> {
        match parcel {
            Parcel::Ready { channel, bytes } => Ok((channel, bytes)),
            Parcel::Event { namespace, rooms, except, text, volatile } => {
                let (uid, namespace) = (self.uid.as_str(), namespace.as_str());
                let event = Event { uid, namespace, rooms: &rooms, except: &except, volatile, text: &text };
                Ok((self.channels.events(namespace, &rooms), event.encode()?.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bridge(config: Config) -> (Arc<Bridge>, mpsc::Receiver<Parcel>) {
        let redis = crate::cluster::redis::Config { url: Some("redis://127.0.0.1:1".to_owned().into()), ..Default::default() };
        let link = Redis::open(redis).unwrap().unwrap();
        link.connected();
        link.mark_up();
        Bridge::new(config, link, "0123456789ab")
    }

    fn send<'a>(to: To<'a>) -> Send<'a> {
        Send::plain(to, r#"["e"]"#)
    }

    #[test]
    fn it_is_off_by_default_and_requires_redis() {
        assert!(!Config::default().check(true).unwrap());
        let on = Config { enabled: true, ..Config::default() };
        assert!(matches!(on.check(false), Err(BridgeError::NoRedis)));
        assert!(on.check(true).unwrap());
        let none = Config { outbox: 0, ..on };
        assert_eq!(none.check(true).unwrap_err().to_string(), "bridge.outbox must be greater than 0");
    }

    #[test]
    fn messages_past_a_full_queue_are_counted_without_waiting() {
        let (bridge, _parcels) = bridge(Config { outbox: 2, ..Config::default() });
        for _ in 0..5 {
            bridge.publish("/", &send(To::Everyone));
        }
        assert_eq!(bridge.metrics.unsent.load(Ordering::Relaxed), 3);
        bridge.link.mark_down();
        bridge.move_user("/", "ana", "r", true);
        assert_eq!(bridge.metrics.unsent.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn only_events_for_others_in_shared_namespaces_are_sent() {
        let namespaces = Some(vec!["/chat".to_owned(), "/course/*".to_owned()]);
        let (bridge, mut parcels) = bridge(Config { namespaces, ..Config::default() });
        bridge.publish("/", &send(To::Everyone));
        bridge.publish("/chat", &send(To::Socket(1)));
        bridge.publish("/chat", &send(To::Tenant("acme")));
        bridge.publish("/chat", &send(To::Rooms(&[])));
        assert!(parcels.try_recv().is_err());
        bridge.publish("/course/7", &send(To::Users(&["ana".to_owned()])));
        let (channel, _) = bridge.encode(parcels.try_recv().unwrap()).unwrap();
        assert_eq!(channel, "socket.io#/course/7#user:ana#");
        assert_eq!(bridge.requests_of("/chats"), None);
    }
}
