//! The connected sockets by id, and the number of their connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

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
    /// Connections with at least one socket.
    connections: usize,
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
        // Under the lock, so the count is exact.
        if session.permit.sockets.fetch_add(1, Ordering::Relaxed) == 0 {
            all.connections += 1;
        }
        self.count(&all);
    }

    pub fn remove(&self, session: &Session) {
        let mut all = self.all();
        if all.sessions.remove(&session.id).is_none() {
            return;
        }
        if session.permit.sockets.fetch_sub(1, Ordering::Relaxed) == 1 {
            all.connections -= 1;
        }
        self.count(&all);
    }

    fn count(&self, all: &All) {
        self.metrics.sockets.set(all.sessions.len() as i64);
        self.metrics.connections.set(all.connections as i64);
    }

    pub fn get(&self, id: SocketId) -> Option<Arc<Session>> {
        self.all().sessions.get(&id)?.upgrade()
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
        self.all().connections
    }
}

/// One disconnected socket of which plugins are being notified.
pub struct Disconnecting<'a>(&'a Sockets);

impl Drop for Disconnecting<'_> {
    fn drop(&mut self) {
        self.0.disconnecting.fetch_sub(1, Ordering::AcqRel);
    }
}
