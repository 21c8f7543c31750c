//! The state that all connections of a wire share: the handler, the configuration, and the sessions by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::handler::Handler;
use crate::id::SessionId;
use crate::io::Takeover;
use crate::link::Link;
use crate::polling::Session;

pub(crate) struct Shared<H: Handler> {
    pub(crate) handler: Arc<H>,
    pub(crate) config: Arc<Config>,
    pub(crate) sessions: Sessions<H>,
    pub(crate) takeover: Takeover,
}

/// A session, by its current transport.
pub(crate) enum Entry<H: Handler> {
    Polling(Arc<Session<H>>),
    Websocket(Arc<Link>),
}

impl<H: Handler> Clone for Entry<H> {
    fn clone(&self) -> Self {
        match self {
            Self::Polling(session) => Self::Polling(session.clone()),
            Self::Websocket(link) => Self::Websocket(link.clone()),
        }
    }
}

impl<H: Handler> Entry<H> {
    pub(crate) fn link(&self) -> &Arc<Link> {
        match self {
            Self::Polling(session) => &session.link,
            Self::Websocket(link) => link,
        }
    }
}

/// The table is split into shards, each with its own lock.
const SHARDS: usize = 16;

/// The capacity that a shard may keep.
const KEPT: usize = 64;

/// All sessions by their ids.
pub(crate) struct Sessions<H: Handler>([Shard<H>; SHARDS]);

type Shard<H> = Mutex<HashMap<SessionId, Entry<H>>>;

impl<H: Handler> Default for Sessions<H> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<H: Handler> Sessions<H> {
    fn shard(&self, id: SessionId) -> MutexGuard<'_, HashMap<SessionId, Entry<H>>> {
        lock(&self.0[id.shard() % SHARDS])
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<Entry<H>> {
        self.shard(id).get(&id).cloned()
    }

    pub(crate) fn insert(&self, id: SessionId, entry: Entry<H>) {
        self.shard(id).insert(id, entry);
    }

    /// Replaces the entry of a session, if it still exists.
    pub(crate) fn replace(&self, id: SessionId, entry: Entry<H>) {
        if let Some(old) = self.shard(id).get_mut(&id) {
            *old = entry;
        }
    }

    pub(crate) fn remove(&self, id: SessionId) {
        let mut shard = self.shard(id);
        let removed = shard.remove(&id);
        // Memory of a peak is freed.
        if shard.capacity() > KEPT && shard.len() < shard.capacity() / 4 {
            let kept = shard.len() * 2;
            shard.shrink_to(kept);
        }
        drop(shard);
        // Dropping an entry may call the handler, so it happens outside the lock.
        drop(removed);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).len()).sum()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.0.iter().flat_map(|shard| lock(shard).values().map(|entry| entry.link().clone()).collect::<Vec<_>>()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under this lock leaves the map whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
