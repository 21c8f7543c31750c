//! Relays events between this node's clients and those of other nodes. Local delivery never waits for it and works without it:
//! events that cannot be sent at once are counted and dropped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fred::interfaces::{EventInterface, PubsubInterface};
use fred::types::Value;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::nodes::Nodes;
use super::redis::{Redis, RedisUnavailable};
use crate::rooms::{Rooms, Send, To, members};

/// Events sent to Redis together.
const BATCH: usize = 256;

/// Channels that one event is published to. Past it, the event goes to every node with a member in the namespace.
const MAX_CHANNELS: usize = 16;

/// Notices that may wait to be read. Past it the oldest are lost, so readers also poll.
const NOTICES: usize = 256;

/// The link to the other nodes.
pub struct Relay {
    link: Arc<Redis>,
    nodes: Arc<Nodes>,
    queue: mpsc::Sender<Parcel>,
    next: AtomicU64,
    /// Notices that nodes publish about themselves.
    notices: broadcast::Sender<Arc<str>>,
    pub metrics: RelayMetrics,
}

#[derive(Default)]
pub struct RelayMetrics {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// Events that other nodes' clients missed because the queue was full or Redis unavailable.
    pub unsent: AtomicU64,
    /// Events of other nodes that clients here missed because too many waited.
    pub unheard: AtomicU64,
}

/// One event to publish.
pub struct Parcel {
    channels: Vec<String>,
    text: Bytes,
}

/// The line before the packet's text.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    /// Counts the node's events: one that arrives over two channels is delivered once.
    seq: u64,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    to: Recipients,
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    except: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    volatile: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Recipients {
    Rooms(Vec<String>),
    TenantInRoom {
        tenant: String,
        room: String,
    },
    Users(Vec<String>),
    /// All sockets of a user join or leave a room.
    Join {
        user: String,
        room: String,
    },
    Leave {
        user: String,
        room: String,
    },
}

impl Relay {
    /// The relay, and the queue for `send`.
    pub fn new(link: Arc<Redis>, nodes: Arc<Nodes>) -> (Arc<Self>, mpsc::Receiver<Parcel>) {
        let (queue, parcels) = mpsc::channel(link.config.outbox);
        let (next, notices) = (AtomicU64::new(1), broadcast::Sender::new(NOTICES));
        (Arc::new(Self { link, nodes, queue, next, notices, metrics: RelayMetrics::default() }), parcels)
    }

    /// Publishes an event to the other nodes. Never waits.
    pub fn publish(&self, namespace: &str, send: &Send<'_>) {
        let to = match send.to {
            // A socket addressed by its id is on this node.
            To::Socket(_) => return,
            To::Rooms(rooms) => Recipients::Rooms(rooms.to_vec()),
            To::TenantInRoom { tenant, room } => Recipients::TenantInRoom { tenant: tenant.to_owned(), room: room.to_owned() },
            To::Users(users) => Recipients::Users(users.to_vec()),
            To::Tenant(tenant) => Recipients::Rooms(vec![members::tenant(tenant)]),
            To::Everyone => Recipients::Rooms(vec![members::everyone()]),
        };
        self.enqueue(namespace, to, send.except, send.volatile, send.text);
    }

    /// Publishes a notice about this node to all nodes, this one included.
    pub async fn announce(&self, notice: String) -> Result<(), RedisUnavailable> {
        if !self.link.is_up() {
            return Err(RedisUnavailable::new("the connection is down"));
        }
        Ok(self.link.client.publish::<(), _, _>(notice_channel(&self.link), notice).await?)
    }

    /// The notices of all nodes, from now on.
    pub fn notices(&self) -> broadcast::Receiver<Arc<str>> {
        self.notices.subscribe()
    }

    /// Makes a user's sockets on other nodes join or leave a room.
    pub fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        let (user, room) = (user.to_owned(), room.to_owned());
        let to = if joins { Recipients::Join { user, room } } else { Recipients::Leave { user, room } };
        self.enqueue(namespace, to, &[], false, "");
    }

    fn enqueue(&self, namespace: &str, to: Recipients, except: &[String], volatile: bool, text: &str) {
        // Also sent while no other node is listed: a new node subscribes before the others have seen its heartbeat.
        let channels = self.channels(namespace, &to);
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let header = Header {
            node: Cow::Borrowed(&self.nodes.me),
            seq,
            namespace: Cow::Borrowed(namespace),
            to,
            except: Cow::Borrowed(except),
            volatile,
        };
        // Text and lists of text always serialize.
        let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(text.as_bytes());
        let parcel = Parcel { channels, text: bytes.into() };
        if !self.link.is_up() || self.queue.try_send(parcel).is_err() {
            self.metrics.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn channels(&self, namespace: &str, to: &Recipients) -> Vec<String> {
        let everyone = || vec![room_channel(&self.link, namespace, &members::everyone())];
        match to {
            Recipients::Rooms(rooms) if rooms.len() > MAX_CHANNELS => everyone(),
            Recipients::Users(users) if users.len() > MAX_CHANNELS => everyone(),
            Recipients::Rooms(rooms) => rooms.iter().map(|room| room_channel(&self.link, namespace, room)).collect(),
            Recipients::TenantInRoom { room, .. } => vec![room_channel(&self.link, namespace, room)],
            Recipients::Users(users) => users.iter().map(|user| user_channel(&self.link, namespace, user)).collect(),
            Recipients::Join { user, .. } | Recipients::Leave { user, .. } => vec![user_channel(&self.link, namespace, user)],
        }
    }

    /// Publishes queued events in order, until the future is dropped.
    pub async fn send(self: Arc<Self>, mut parcels: mpsc::Receiver<Parcel>) {
        let mut batch = Vec::with_capacity(BATCH);
        while parcels.recv_many(&mut batch, BATCH).await > 0 {
            // Pipelined in this order; Redis answers each.
            let sent = batch
                .drain(..)
                .flat_map(|Parcel { channels, text }| channels.into_iter().map(move |channel| (channel, text.clone())));
            let sent = sent.map(|(channel, text)| self.link.client.publish::<i64, _, _>(channel, Value::Bytes(text)));
            for answer in join_all(sent).await {
                let counter = if answer.is_ok() { &self.metrics.sent } else { &self.metrics.unsent };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Delivers the events of other nodes, until the future is dropped.
    pub async fn receive(self: Arc<Self>, rooms: Arc<Rooms>) {
        let mut messages = self.link.subscriber.message_rx();
        // The last event of each node: copies from other channels follow directly.
        let mut last: HashMap<String, u64> = HashMap::new();
        let notices = notice_channel(&self.link);
        let ours = self.link.name(format_args!(""));
        loop {
            let message = match messages.recv().await {
                Ok(message) => message,
                Err(RecvError::Lagged(missed)) => {
                    self.metrics.unheard.fetch_add(missed, Ordering::Relaxed);
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            // The same connection may be subscribed to channels of Node.js servers.
            if !message.channel.starts_with(&ours) {
                continue;
            }
            let Value::Bytes(bytes) = bytes_of(message.value) else { continue };
            if *message.channel == *notices {
                // Without subscribers the notice is dropped.
                let _ = std::str::from_utf8(&bytes).map(|text| self.notices.send(text.into()));
                continue;
            }
            let Some((header, text)) = parse(&bytes) else { continue };
            if header.node == self.nodes.me.as_str() || last.get(&*header.node) == Some(&header.seq) {
                continue;
            }
            self.metrics.received.fetch_add(1, Ordering::Relaxed);
            deliver(&rooms, &header, text).await;
            match last.get_mut(&*header.node) {
                Some(seq) => *seq = header.seq,
                None => {
                    last.retain(|node, _| self.nodes.live().contains(node));
                    last.insert(header.node.into_owned(), header.seq);
                }
            }
        }
    }
}

/// The channel of notices.
pub fn notice_channel(link: &Redis) -> String {
    link.name(format_args!("notices"))
}

/// The channel of a room.
pub fn room_channel(link: &Redis, namespace: &str, room: &str) -> String {
    link.name(format_args!("room:{namespace}:{room}"))
}

/// The channel of a user in a namespace.
pub fn user_channel(link: &Redis, namespace: &str, user: &str) -> String {
    link.name(format_args!("user:{namespace}:{user}"))
}

/// Redis makes no difference between text and bytes.
fn bytes_of(value: Value) -> Value {
    match value {
        Value::String(text) => Value::Bytes(text.into_inner()),
        other => other,
    }
}

/// Parses a published event. None for any other message on the channel.
fn parse(bytes: &Bytes) -> Option<(Header<'_>, String)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header = serde_json::from_slice(&bytes[..end]).ok()?;
    let text = std::str::from_utf8(&bytes[end + 1..]).ok()?.to_owned();
    Some((header, text))
}

async fn deliver(rooms: &Rooms, header: &Header<'_>, text: String) {
    let Some(adapter) = rooms.namespace(&header.namespace) else { return };
    let to = match &header.to {
        Recipients::Rooms(rooms) => To::Rooms(rooms),
        Recipients::TenantInRoom { tenant, room } => To::TenantInRoom { tenant, room },
        Recipients::Users(users) => To::Users(users),
        Recipients::Join { user, room } => return adapter.move_user(user, room, true),
        Recipients::Leave { user, room } => return adapter.move_user(user, room, false),
    };
    adapter.send(&Send { to, except: &header.except, except_socket: None, text: &text, volatile: header.volatile }).await;
}
