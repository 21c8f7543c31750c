//! The connected sockets: by id, and by connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use socketioxide_core::Sid;

use super::session::Session;
use crate::names::SocketId;
use crate::telemetry::Metrics;

/// All sockets of this node.
pub struct Sockets {
    all: Mutex<All>,
    /// Disconnected sockets of which plugins are still being notified.
    disconnecting: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct All {
    sessions: HashMap<SocketId, Weak<Session>>,
    /// Sockets of each connection.
    connections: HashMap<Sid, SmallVec<[SocketId; 1]>>,
}

impl Sockets {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { all: Mutex::default(), disconnecting: AtomicU64::new(0), metrics }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock()
    }

    pub fn add(&self, session: &Arc<Session>) {
        let mut all = self.all();
        all.sessions.insert(session.id, Arc::downgrade(session));
        all.connections.entry(session.sid).or_default().push(session.id);
        session.permit.closer.name(session.sid);
        self.count(&all);
    }

    pub fn remove(&self, session: &Session) {
        let mut all = self.all();
        if all.sessions.remove(&session.id).is_none() {
            return;
        }
        if let Some(sockets) = all.connections.get_mut(&session.sid) {
            sockets.retain(|id| *id != session.id);
            if sockets.is_empty() {
                all.connections.remove(&session.sid);
            }
        }
        self.count(&all);
    }

    fn count(&self, all: &All) {
        self.metrics.sockets.set(all.sessions.len() as i64);
        self.metrics.connections.set(all.connections.len() as i64);
    }

    pub fn get(&self, id: SocketId) -> Option<Arc<Session>> {
        self.all().sessions.get(&id)?.upgrade()
    }

    /// The sockets of one connection.
    pub fn of_connection(&self, sid: Sid) -> SmallVec<[Arc<Session>; 1]> {
        let all = self.all();
        let ids = all.connections.get(&sid).map_or(&[][..], |ids| ids);
        ids.iter().filter_map(|id| all.sessions.get(id)?.upgrade()).collect()
    }

    /// Every socket that is connected now.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.all().sessions.values().filter_map(Weak::upgrade).collect()
    }

    /// Counts a socket as disconnecting until the returned value is dropped.
    pub fn begin_disconnect(&self) -> Disconnecting<'_> {
        self.disconnecting.fetch_add(1, Ordering::AcqRel);
        Disconnecting(self)
    }

    /// Whether plugins are still being notified of a disconnect.
    pub fn has_disconnecting(&self) -> bool {
        self.disconnecting.load(Ordering::Acquire) > 0
    }

    /// Connections with at least one socket.
    pub fn connections(&self) -> usize {
        self.all().connections.len()
    }
}

/// One disconnected socket of which plugins are being notified.
pub struct Disconnecting<'a>(&'a Sockets);

impl Drop for Disconnecting<'_> {
    fn drop(&mut self) {
        self.0.disconnecting.fetch_sub(1, Ordering::AcqRel);
    }
}
