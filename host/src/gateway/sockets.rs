//! The sockets that are connected now: by number, and how many connections they come over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socketioxide_core::Sid;

use super::session::Session;
use crate::names::SocketId;
use crate::telemetry::Metrics;

/// All sockets of this node.
pub struct Sockets {
    all: Mutex<All>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct All {
    sessions: HashMap<SocketId, Weak<Session>>,
    /// Sockets of each connection.
    connections: HashMap<Sid, u32>,
}

impl Sockets {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { all: Mutex::default(), metrics }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, session: &Arc<Session>) {
        let mut all = self.all();
        all.sessions.insert(session.id, Arc::downgrade(session));
        *all.connections.entry(session.sid).or_default() += 1;
        self.count(&all);
    }

    pub fn remove(&self, session: &Session) {
        let mut all = self.all();
        if all.sessions.remove(&session.id).is_none() {
            return;
        }
        if let Some(count) = all.connections.get_mut(&session.sid) {
            *count -= 1;
            if *count == 0 {
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

    /// Closes the transport of every socket, in a way that makes stock clients come again.
    pub fn end_all(&self) {
        let sessions: Vec<_> = self.all().sessions.values().filter_map(Weak::upgrade).collect();
        for closer in sessions.iter().filter_map(|session| session.closer.as_ref()) {
            closer.close();
        }
    }

    /// Connections with at least one socket.
    pub fn connections(&self) -> usize {
        self.all().connections.len()
    }
}
