//! All namespaces of this node, and what is sent to their rooms: here first, then to the other nodes. It never decides who may join
//! or what is sent.

pub mod adapter;
pub mod members;
pub mod peers;
pub mod tap;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::names::{self, SocketId};
use adapter::{Adapter, Sid, Str};
use members::Size;
use peers::Peers;
use tap::Taps;

/// Whom to send to.
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
    /// Rooms whose members are left out.
    pub except: &'a [String],
    pub except_socket: Option<SocketId>,
    /// The whole array, `["event",…]`.
    pub text: Str,
    /// A full queue drops it and is no offence.
    pub volatile: bool,
}

/// Members whose queue was full. Told to the gateway, which ends them.
pub struct SlowMembers {
    pub namespace: Arc<str>,
    pub sids: Vec<Sid>,
}

/// All namespaces of this node.
pub struct Rooms {
    namespaces: RwLock<HashMap<Arc<str>, Arc<Adapter>>>,
    /// Adapters whose namespace was made twice at once: the second took its place, and their sockets must come again.
    replaced: Mutex<Vec<Arc<Adapter>>>,
    full: mpsc::Sender<SlowMembers>,
    watched: RwLock<Vec<(String, String)>>,
    changed: Mutex<HashSet<(Arc<str>, Arc<str>)>>,
    /// Packets put into a member's queue.
    pub deliveries: AtomicU64,
    /// Rooms one socket may be in, besides the host's own.
    pub per_socket: usize,
    /// The other nodes. None: this one is by itself.
    pub peers: Option<Arc<dyn Peers>>,
    /// Who listens in on what is sent.
    pub taps: Taps,
}

impl Rooms {
    /// `full` hears of slow members; where it is full itself, they are told again at the next packet.
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
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Adapter>> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Rooms with somebody in them, over all namespaces.
    pub fn count(&self) -> usize {
        self.all().iter().map(|adapter| adapter.members(|members| members.room_count())).sum()
    }

    /// A namespace is there. Answers the one whose place it took.
    pub(crate) fn add(&self, adapter: Arc<Adapter>) -> Option<Arc<Adapter>> {
        if let Some(peers) = &self.peers {
            peers.namespace_changed(adapter.path(), true);
        }
        self.namespaces.write().unwrap_or_else(PoisonError::into_inner).insert(adapter.path().clone(), adapter)
    }

    /// Another took this one's place: its sockets must come again.
    pub(crate) fn replace(&self, old: Arc<Adapter>) {
        old.set_replaced();
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).push(old);
    }

    /// Tells of members whose queue is full. Where nobody has time to hear it, they are told of at the next packet.
    pub(crate) fn report_full(&self, namespace: &Arc<str>, sids: Vec<Sid>) {
        let _ = self.full.try_send(SlowMembers { namespace: namespace.clone(), sids });
    }

    /// Forgets a namespace that the gateway deletes. A socket that comes in at this moment is told to come again.
    pub fn remove(&self, path: &str) {
        if let Some(adapter) = self.namespaces.write().unwrap_or_else(PoisonError::into_inner).remove(path) {
            adapter.set_replaced();
            if let Some(peers) = &self.peers {
                peers.namespace_changed(path, false);
            }
        }
    }

    pub fn take_replaced(&self) -> Vec<Arc<Adapter>> {
        std::mem::take(&mut self.replaced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends an event to clients here, then to those of the other nodes.
    pub async fn send(&self, namespace: &str, send: Send<'_>) {
        // A namespace that nobody has connected to here may have somebody elsewhere.
        if let Some(peers) = &self.peers {
            peers.publish(namespace, &send);
        }
        if let Some(adapter) = self.namespace(namespace) {
            adapter.send(send).await;
        }
    }

    /// Every socket of a user joins or leaves, here and on the other nodes.
    pub fn move_user(&self, namespace: &str, user: &str, room: &str, joins: bool) {
        if let Some(peers) = &self.peers {
            peers.move_user(namespace, user, room, joins);
        }
        if let Some(adapter) = self.namespace(namespace) {
            adapter.move_user(user, room, joins);
        }
    }

    /// How many are in a room over all nodes, and on how many nodes one user is. Without the other nodes' answer, as it is here.
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

    /// Waits until what other nodes send to rooms that were joined before is heard here.
    pub async fn settled(&self) {
        if let Some(peers) = &self.peers {
            peers.settled().await;
        }
    }

    /// Which rooms are counted: pairs of a namespace's pattern and a room's pattern, cut before their parameter.
    pub fn watch(&self, patterns: Vec<(String, String)>) {
        *self.watched.write().unwrap_or_else(PoisonError::into_inner) = patterns;
    }

    /// The counted rooms that have changed since the last call.
    pub fn take_changed(&self) -> HashSet<(Arc<str>, Arc<str>)> {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A room has changed, here or elsewhere.
    pub fn note_change(&self, namespace: &Arc<str>, room: &str) {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        let bare = names::unscoped(room).1;
        if watched.iter().any(|(ns, prefix)| namespace.starts_with(ns.as_str()) && bare.starts_with(prefix.as_str())) {
            self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.clone(), room.into()));
        }
    }
}
