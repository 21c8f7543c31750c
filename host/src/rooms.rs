//! All namespaces of this node, and the events sent to their rooms: first to clients here, then to other nodes. It never decides
//! which sockets may join or what is sent.

pub mod adapter;
pub mod catch_up;
pub mod history;
pub mod members;
pub mod packet;
pub mod peers;
pub mod tap;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hubbub_wire::Socket;
use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::names::{self, SocketId};
use crate::recovery::log::Log;
use adapter::Adapter;
use catch_up::ComingBack;
use members::Size;
use members::away::Saved;
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
    pub text: &'a str,
    /// It may be dropped at a full queue, and then does not make its client a slow consumer.
    pub volatile: bool,
    /// Its place in the logs of the cluster. None: on a single node, or where it cannot be recovered.
    pub at: Option<&'a At>,
}

impl<'a> Send<'a> {
    /// An event for all of the recipients.
    pub fn plain(to: To<'a>, text: &'a str) -> Self {
        Self { to, except: &[], except_socket: None, text, volatile: false, at: None }
    }
}

/// The place of an event in the logs of a cluster.
#[derive(Debug, Clone)]
pub struct At {
    /// The log of the node that it comes from.
    pub log: u64,
    pub position: u64,
    /// False for a volatile event, whose offset only names earlier events.
    pub is_logged: bool,
    /// The offset that clients of this node get with it.
    pub offset: String,
}

type Namespaces = HashMap<Arc<str>, Arc<Adapter>>;

pub struct Rooms {
    /// Those with a member, and those that are kept.
    namespaces: RwLock<Namespaces>,
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
    /// The events that clients may have missed.
    pub log: Arc<Log>,
}

impl Rooms {
    pub fn new(per_socket: usize, peers: Option<Arc<dyn Peers>>, log: Arc<Log>) -> Arc<Self> {
        Arc::new(Self {
            namespaces: RwLock::default(),
            watched: RwLock::default(),
            changed: Mutex::default(),
            deliveries: AtomicU64::new(0),
            per_socket,
            peers,
            taps: Taps::new(Clock::system()),
            log,
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

    /// Sockets with packets in their queue.
    pub fn waiting(&self) -> usize {
        let is_waiting = |socket: &&Socket| socket.connection().waiting().0 > 0;
        self.all().iter().map(|adapter| adapter.members(|members| members.all().filter(is_waiting).count())).sum()
    }

    /// Adds a socket to a namespace. `recovers`: it may come back when its connection has ended.
    pub fn add(
        self: &Arc<Self>,
        path: &str,
        id: SocketId,
        socket: Socket,
        user: Option<&str>,
        tenant: Option<&str>,
        recovers: bool,
    ) -> Arc<Adapter> {
        // Held until the socket is in, so that the namespace is not removed as empty meanwhile.
        let mut namespaces = self.namespaces.write();
        let adapter = self.get_or_open(&mut namespaces, path);
        adapter.add(id, socket, user, tenant, recovers);
        adapter
    }

    /// Adds a socket that comes back in a cluster, as `Adapter::come_back` does.
    pub fn come_back<R>(self: &Arc<Self>, path: &str, back: ComingBack<'_>, begin: impl FnOnce() -> R) -> (Arc<Adapter>, R) {
        let mut namespaces = self.namespaces.write();
        let adapter = self.get_or_open(&mut namespaces, path);
        let begun = adapter.come_back(back, begin);
        (adapter, begun)
    }

    /// Opens a namespace that is kept without members, so that other servers know that it is here.
    pub fn keep(self: &Arc<Self>, path: &str) {
        self.get_or_open(&mut self.namespaces.write(), path).keep();
    }

    fn get_or_open(self: &Arc<Self>, namespaces: &mut Namespaces, path: &str) -> Arc<Adapter> {
        if let Some(adapter) = namespaces.get(path) {
            return adapter.clone();
        }
        let adapter = Adapter::new(path, self.clone());
        namespaces.insert(adapter.path().clone(), adapter.clone());
        if let Some(peers) = &self.peers {
            peers.namespace_changed(path, true);
        }
        adapter
    }

    /// Removes a socket from its namespace and all its rooms. A namespace without members is removed, unless it is kept. A socket that
    /// is `away` may come back, and is a member.
    pub fn remove(&self, adapter: &Adapter, socket: SocketId, away: bool) {
        adapter.remove(socket, away);
        self.close_if_empty(adapter);
    }

    /// Ends a socket that is away.
    pub fn forget(&self, adapter: &Adapter, socket: SocketId) {
        adapter.forget(socket);
        self.close_if_empty(adapter);
    }

    /// Drops what no client can come back for.
    pub fn sweep(&self) {
        let first = self.log.trim();
        self.all().iter().for_each(|adapter| adapter.sweep(first));
    }

    /// Opens a namespace with what was stored of its sockets that are away.
    pub fn restore(self: &Arc<Self>, path: &str, saved: Saved) -> Arc<Adapter> {
        let adapter = self.get_or_open(&mut self.namespaces.write(), path);
        adapter.restore(saved);
        adapter
    }

    fn close_if_empty(&self, adapter: &Adapter) {
        if adapter.is_kept() || !adapter.members(|members| members.is_empty()) {
            return;
        }
        let mut namespaces = self.namespaces.write();
        // It may have a member again, or be replaced already.
        let is_this = namespaces.get(adapter.path()).is_some_and(|here| std::ptr::eq(&**here, adapter));
        if is_this && adapter.members(|members| members.is_empty()) {
            namespaces.remove(adapter.path());
            if let Some(peers) = &self.peers {
                peers.namespace_changed(adapter.path(), false);
            }
        }
    }

    /// Sends an event to clients here, then to those of the other nodes.
    pub async fn send(&self, namespace: &str, send: Send<'_>) {
        let adapter = self.namespace(namespace);
        let Some(peers) = &self.peers else {
            if let Some(adapter) = adapter {
                adapter.send(&send).await;
            }
            return;
        };
        // An offset names the events that a client has received by their order, so one event is sent at a time.
        let turn = adapter.as_ref().filter(|_| peers.is_logged()).map(|adapter| adapter.turn());
        let _turn = match turn {
            Some(turn) => Some(turn.await),
            None => None,
        };
        // A namespace without members here may have members on other nodes.
        let at = peers.publish(namespace, &send);
        if let Some(adapter) = &adapter {
            adapter.send(&Send { at: at.as_ref(), ..send }).await;
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

    /// Waits until the events that were sent before are in the log that other nodes read. Returns at once on a single node.
    pub async fn written(&self) {
        if let Some(peers) = &self.peers {
            peers.written().await;
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
