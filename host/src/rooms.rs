//! All namespaces of this node, and the events sent to their rooms: first to clients here, then to other nodes. It never decides
//! which sockets may join or what is sent.

pub mod adapter;
pub mod members;
pub mod peers;
pub mod tap;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::names::{self, SocketId};
use adapter::{Adapter, Sid, Str};
use members::Size;
use peers::Peers;
use tap::Taps;

/// The recipients of an event.
pub enum To<'a> {
    Socket(SocketId),
    Rooms(&'a [String]),
    /// The members of one tenant in a room that all tenants share.
    TenantInRoom {
        tenant: &'a str,
        room: &'a str,
    },
    Users(&'a [String]),
    Tenant(&'a str),
    Everyone,
}

/// One event to send.
pub struct Send<'a> {
    pub to: To<'a>,
    /// The members of these rooms are left out.
    pub except: &'a [String],
    pub except_socket: Option<SocketId>,
    /// The whole array, `["event",…]`.
    pub text: Str,
    /// It may be dropped at a full queue, and then does not make its client a slow consumer.
    pub volatile: bool,
}

/// Members with a full queue, reported to the gateway, which disconnects them.
pub struct SlowMembers {
    pub namespace: Arc<str>,
    pub sids: Vec<Sid>,
}

pub struct Rooms {
    namespaces: RwLock<HashMap<Arc<str>, Arc<Adapter>>>,
    /// Adapters that were replaced because two first connects created their namespace twice. Their sockets must reconnect.
    replaced: Mutex<Vec<Arc<Adapter>>>,
    full: mpsc::Sender<SlowMembers>,
    watched: RwLock<Vec<(String, String)>>,
    changed: Mutex<HashSet<(Arc<str>, Arc<str>)>>,
    /// Packets put into members' queues.
    pub deliveries: AtomicU64,
    /// Rooms one socket may be in, besides the host's own.
    pub per_socket: usize,
    /// The other nodes. None without a cluster.
    pub peers: Option<Arc<dyn Peers>>,
    /// The live taps on what is sent.
    pub taps: Taps,
}

impl Rooms {
    /// `full` receives slow members. If it is full itself, they are reported again at the next packet.
    pub fn new(full: mpsc::Sender<SlowMembers>, per_socket: usize, peers: Option<Arc<dyn Peers>>) -> Arc<Self> {
        Arc::new(Self {
            namespaces: RwLock::default(),
            replaced: Mutex::default(),
            full,
            watched: RwLock::default(),
            changed: Mutex::default(),
            deliveries: AtomicU64::new(0),
            per_socket,
            peers,
            taps: Taps::new(Clock::system()),
        })
    }

    pub fn namespace(&self, path: &str) -> Option<Arc<Adapter>> {
        self.namespaces.read().get(path).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Adapter>> {
        self.namespaces.read().values().cloned().collect()
    }

    /// Rooms with at least one member, over all namespaces.
    pub fn count(&self) -> usize {
        self.all().iter().map(|adapter| adapter.members(|members| members.room_count())).sum()
    }

    /// Adds a namespace. Returns the adapter that it replaced, if any.
    pub(crate) fn add(&self, adapter: Arc<Adapter>) -> Option<Arc<Adapter>> {
        if let Some(peers) = &self.peers {
            peers.namespace_changed(adapter.path(), true);
        }
        self.namespaces.write().insert(adapter.path().clone(), adapter)
    }

    /// Marks an adapter as replaced: its sockets must reconnect.
    pub(crate) fn replace(&self, old: Arc<Adapter>) {
        old.set_replaced();
        self.replaced.lock().push(old);
    }

    /// Reports members with a full queue. If the channel is full, they are reported again at the next packet.
    pub(crate) fn report_full(&self, namespace: &Arc<str>, sids: Vec<Sid>) {
        let _ = self.full.try_send(SlowMembers { namespace: namespace.clone(), sids });
    }

    /// Removes a namespace that the gateway deletes. A socket that connects at this moment is closed, so that it reconnects.
    pub fn remove(&self, path: &str) {
        if let Some(adapter) = self.namespaces.write().remove(path) {
            adapter.set_replaced();
            if let Some(peers) = &self.peers {
                peers.namespace_changed(path, false);
            }
        }
    }

    pub fn take_replaced(&self) -> Vec<Arc<Adapter>> {
        std::mem::take(&mut self.replaced.lock())
    }

    /// Sends an event to clients here, then to those of the other nodes.
    pub async fn send(&self, namespace: &str, send: Send<'_>) {
        // A namespace without members here may have members on other nodes.
        if let Some(peers) = &self.peers {
            peers.publish(namespace, &send);
        }
        if let Some(adapter) = self.namespace(namespace) {
            adapter.send(send).await;
        }
    }

    /// Every socket of a user joins or leaves a room, here and on the other nodes.
    pub fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        if let Some(peers) = &self.peers {
            peers.move_user(namespace, user, room, joins);
        }
        if let Some(adapter) = self.namespace(namespace) {
            adapter.move_user(user, room, joins);
        }
    }

    /// The size of a room over all nodes, and how many nodes a user is on. If Redis does not answer, only this node's size.
    pub async fn size(&self, namespace: &Arc<str>, room: &str, user: &str) -> (Size, u32) {
        let here = self.namespace(namespace).map(|adapter| adapter.size(room)).unwrap_or_default();
        let Some(peers) = &self.peers else { return (here, 0) };
        match peers.size(namespace, room, user).await {
            Some(there) => {
                let (sockets, visitors) = (here.sockets + there.sockets, here.visitors + there.visitors);
                (Size { sockets, users: there.users.max(here.users), visitors }, there.nodes_of_user)
            }
            None => (here, 0),
        }
    }

    /// Waits until this node receives what other nodes send to the rooms that were joined before.
    pub async fn settled(&self) {
        if let Some(peers) = &self.peers {
            peers.settled().await;
        }
    }

    /// Sets which rooms' sizes are reported: pairs of a namespace's pattern and a room's pattern, cut before their parameter.
    pub fn watch(&self, patterns: Vec<(String, String)>) {
        *self.watched.write() = patterns;
    }

    /// The rooms with reported sizes that have changed since the last call.
    pub fn take_changed(&self) -> HashSet<(Arc<str>, Arc<str>)> {
        std::mem::take(&mut self.changed.lock())
    }

    /// Notes that a room has changed, here or on another node.
    pub fn note_change(&self, namespace: &Arc<str>, room: &str) {
        let watched = self.watched.read();
        let bare = names::unscoped(room).1;
        if watched.iter().any(|(ns, prefix)| namespace.starts_with(ns.as_str()) && bare.starts_with(prefix.as_str())) {
            self.changed.lock().insert((namespace.clone(), room.into()));
        }
    }
}
