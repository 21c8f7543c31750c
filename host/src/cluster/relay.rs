//! Relays events between this node's clients and those of other nodes. Local delivery never waits for it and works without it:
//! events that cannot be sent at once are counted and dropped.

pub mod event;
mod receive;
mod sequence;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::PubsubInterface;
use fred::types::Value;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;

use super::log::{self, Log};
use super::nodes::Nodes;
use super::redis::{Epoch, Redis, RedisUnavailable};
use crate::names::SocketId;
use crate::recovery::offset::Offset;
use crate::rooms::{At, Send, To, members};
use event::{Header, Recipients, log_of, notice_channel, room_channel, taken_channel, user_channel};
use sequence::Sequence;

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
    /// The log of this node.
    me: u64,
    queue: mpsc::Sender<Parcel>,
    order: Mutex<Sequence>,
    /// None: clients come back to the same node only.
    pub log: Option<Log>,
    /// Notices that nodes publish about themselves.
    notices: broadcast::Sender<Arc<str>>,
    /// The private ids of sockets that clients have taken to another node, with the numbers of their claims.
    taken: broadcast::Sender<Arc<str>>,
    pub metrics: RelayMetrics,
}

#[derive(Default)]
pub struct RelayMetrics {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    /// Events that other nodes' clients missed because the queue was full or Redis unavailable.
    pub unsent: AtomicU64,
    /// Events of other nodes that this node has not received because too many waited. They are read from the log, if there is one.
    pub unheard: AtomicU64,
}

/// A task of the sender, in the order of the positions.
pub struct Parcel {
    position: u64,
    kind: Kind,
}

enum Kind {
    Event {
        channels: Vec<String>,
        text: Bytes,
        is_logged: bool,
    },
    /// A socket that may come back, with its state. Empty: it does not come back.
    Socket {
        name: String,
        state: Vec<u8>,
    },
}

impl Relay {
    /// The relay, and the queue for `send`.
    pub fn new(link: Arc<Redis>, nodes: Arc<Nodes>, log: Option<Log>) -> (Arc<Self>, mpsc::Receiver<Parcel>) {
        let (queue, parcels) = mpsc::channel(link.config.outbox);
        let keep = log.as_ref().map(|log| log.keep).unwrap_or_default();
        let (order, notices) = (Mutex::new(Sequence::new(keep)), broadcast::Sender::new(NOTICES));
        (
            Arc::new(Self {
                link,
                me: log_of(&nodes.me),
                nodes,
                queue,
                order,
                log,
                notices,
                taken: broadcast::Sender::new(NOTICES),
                metrics: RelayMetrics::default(),
            }),
            parcels,
        )
    }

    /// Publishes an event to the other nodes and logs it. Returns its place in the logs. Never waits.
    pub fn publish(&self, namespace: &str, send: &Send<'_>) -> Option<At> {
        let to = match send.to {
            // A socket addressed by its id is on this node.
            To::Socket(socket) if self.log.is_some() => Recipients::Socket(socket),
            To::Socket(_) => return None,
            To::Rooms(rooms) => Recipients::Rooms(rooms.to_vec()),
            To::TenantInRoom { tenant, room } => Recipients::TenantInRoom { tenant: tenant.to_owned(), room: room.to_owned() },
            To::Users(users) => Recipients::Users(users.to_vec()),
            To::Tenant(tenant) => Recipients::Rooms(vec![members::tenant(tenant)]),
            To::Everyone => Recipients::Rooms(vec![members::everyone()]),
        };
        let place = (send.except_socket, send.volatile);
        self.enqueue(namespace, to, send.except, place, send.text)
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

    /// Notifies a node that a client has taken its socket to this one.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn announce_taken(&self, node: &str, private: &str, claims: u64) -> Result<(), RedisUnavailable> {
        Ok(self.link.client.publish::<(), _, _>(taken_channel(&self.link, node), format!("{private} {claims}")).await?)
    }

    /// When Redis answers, and when it does not.
    pub fn epochs(&self) -> watch::Receiver<Epoch> {
        self.link.epochs()
    }

    /// The sockets of this node that clients have taken to another one, from now on: `ID CLAIMS`.
    pub fn taken(&self) -> broadcast::Receiver<Arc<str>> {
        self.taken.subscribe()
    }

    /// Makes a user's sockets on other nodes join or leave a room.
    pub fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        let (user, room) = (user.to_owned(), room.to_owned());
        let to = if joins { Recipients::Join { user, room } } else { Recipients::Leave { user, room } };
        self.enqueue(namespace, to, &[], (None, false), "");
    }

    fn enqueue(
        &self,
        namespace: &str,
        to: Recipients,
        except: &[String],
        (except_socket, volatile): (Option<SocketId>, bool),
        text: &str,
    ) -> Option<At> {
        // Also sent while no other node is listed: a new node subscribes before the others have seen its heartbeat.
        let channels = self.channels(namespace, &to);
        let is_logged = self.log.is_some() && !volatile;
        let mut order = self.order.lock();
        order.last += 1;
        let header = Header {
            node: Cow::Borrowed(&self.nodes.me),
            seq: order.last,
            namespace: Cow::Borrowed(namespace),
            to,
            except: Cow::Borrowed(except),
            except_socket,
            volatile,
        };
        // Text and lists of text always serialize.
        let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(text.as_bytes());
        if !channels.is_empty() || is_logged {
            self.queue(&mut order, Kind::Event { channels, text: bytes.into(), is_logged });
        }
        self.log.as_ref()?;
        order.at(self.me, is_logged, text)
    }

    fn queue(&self, order: &mut Sequence, kind: Kind) -> bool {
        let is_event = matches!(kind, Kind::Event { is_logged: true, .. });
        let parcel = Parcel { position: order.last, kind };
        if self.link.is_up() && self.queue.try_send(parcel).is_ok() {
            return true;
        }
        self.metrics.unsent.fetch_add(1, Ordering::Relaxed);
        // The states of sockets are logged again after an outage.
        if is_event {
            order.lost = order.last;
        }
        if let Some(log) = &self.log {
            log.done(order.last);
        }
        false
    }

    /// Logs the state of a socket that may come back, which `state` gives for the position; empty: it does not come back. Returns whether
    /// it could be queued.
    pub fn log_socket(&self, name: String, state: impl FnOnce(u64, &Offset) -> Vec<u8>) -> bool {
        let mut order = self.order.lock();
        order.last += 1;
        let last = order.last;
        order.raise(self.me, last);
        let state = state(last, &order.received);
        self.queue(&mut order, Kind::Socket { name, state })
    }

    /// Waits until all events and states of before are in the log.
    pub async fn written(&self) {
        if let Some(log) = &self.log {
            let last = self.order.lock().last;
            log.written(last).await;
        }
    }

    fn channels(&self, namespace: &str, to: &Recipients) -> Vec<String> {
        let everyone = || vec![room_channel(&self.link, namespace, &members::everyone())];
        match to {
            Recipients::Socket(_) => Vec::new(),
            Recipients::Rooms(rooms) if rooms.len() > MAX_CHANNELS => everyone(),
            Recipients::Users(users) if users.len() > MAX_CHANNELS => everyone(),
            Recipients::Rooms(rooms) => rooms.iter().map(|room| room_channel(&self.link, namespace, room)).collect(),
            Recipients::TenantInRoom { room, .. } => vec![room_channel(&self.link, namespace, room)],
            Recipients::Users(users) => users.iter().map(|user| user_channel(&self.link, namespace, user)).collect(),
            Recipients::Join { user, .. } | Recipients::Leave { user, .. } => vec![user_channel(&self.link, namespace, user)],
        }
    }

    /// Publishes and logs what is queued, in order, until the future is dropped.
    pub async fn send(self: Arc<Self>, mut parcels: mpsc::Receiver<Parcel>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut written = log::Written::default();
        let idle = self.log.as_ref().map_or(Duration::MAX, |log| log.keep / 4);
        // An idle node's log expires unless it is written.
        while timeout(idle, parcels.recv_many(&mut batch, BATCH)).await.unwrap_or(1) > 0 {
            let last = batch.last().map_or(0, |parcel| parcel.position);
            let (mut entries, mut sockets, mut sent) = (Vec::new(), Vec::new(), Vec::new());
            for Parcel { position, kind } in batch.drain(..) {
                match kind {
                    Kind::Event { channels, text, is_logged } => {
                        if is_logged {
                            entries.push(log::Entry { position, text: text.clone() });
                        }
                        sent.extend(channels.into_iter().map(|channel| (channel, text.clone())));
                    }
                    Kind::Socket { name, state } => {
                        entries.push(log::Entry { position, text: Bytes::new() });
                        sockets.push((name, state));
                    }
                }
            }
            let lost = std::mem::take(&mut self.order.lock().lost);
            let logged = async {
                if let Some(log) = &self.log {
                    // The missing events are noted in the next batch.
                    let _ = log.write(&mut written, lost, entries, sockets).await;
                }
            };
            // Pipelined in this order; Redis answers each.
            let sent = sent.into_iter().map(|(channel, text)| self.link.client.publish::<i64, _, _>(channel, Value::Bytes(text)));
            let ((), answers) = join(logged, join_all(sent)).await;
            if let Some(log) = &self.log {
                log.done(last);
            }
            for answer in answers {
                let counter = if answer.is_ok() { &self.metrics.sent } else { &self.metrics.unsent };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The offset of the clients of this node.
    pub fn received(&self) -> Offset {
        self.order.lock().received.clone()
    }

    /// Notes that the clients of this node have received everything up to these positions.
    pub fn raise(&self, ends: &Offset) {
        let mut order = self.order.lock();
        ends.positions().for_each(|one| order.raise(one.log, one.position));
    }
}
