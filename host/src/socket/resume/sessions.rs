//! The sockets that may come back, by their private ids: connected ones, and those that are away until their window ends.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use hubbub_wire::{PrivateId, SocketId as PublicId};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};

use crate::names::SocketId;
use crate::presence::Track;
use crate::rooms::adapter::Adapter;
use crate::sandbox::exports::Caller;
use crate::socket::session::Session;
use crate::socket::session::disconnect::DisconnectCause;
use crate::telemetry::Metrics;

/// A socket that is away.
pub struct Away {
    pub id: SocketId,
    pub public: PublicId,
    pub private: PrivateId,
    pub caller: Arc<Caller>,
    /// The ids of the plugins for which `on-connect` has succeeded.
    pub connected: SmallVec<[u32; 2]>,
    pub adapter: Arc<Adapter>,
    /// The presence that it tracked at the end.
    pub tracks: Vec<Track>,
    pub cause: DisconnectCause,
}

enum Place {
    Connected(Weak<Session>),
    Away {
        away: Box<Away>,
        until_ms: u64,
    },
    /// Another connection waits until it is away.
    Claimed(oneshot::Sender<Box<Away>>),
}

/// The sockets of this node that may come back.
pub struct Sessions {
    state: Mutex<State>,
    sooner: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    places: HashMap<PrivateId, Place>,
    /// The ends of the windows.
    ends: BTreeSet<(u64, PrivateId)>,
    /// Those that connections are being given, with the highest claim of another node that has been announced.
    coming: HashMap<PrivateId, u64>,
}

/// A socket that a connection is being given, until this is dropped.
pub struct Coming<'a> {
    sessions: &'a Sessions,
    private: PrivateId,
}

impl Coming<'_> {
    /// The highest claim of another node since then; 0: none.
    pub fn claimed_elsewhere(&self) -> u64 {
        self.sessions.state.lock().coming.get(&self.private).copied().unwrap_or_default()
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.sessions.state.lock().coming.remove(&self.private);
    }
}

/// A claim to a socket. Of two claims at a time one gets it.
pub enum Claim {
    /// It was away.
    Away(Box<Away>),
    /// Its old connection counts as open, and is to be closed first.
    Connected(Arc<Session>, oneshot::Receiver<Box<Away>>),
}

impl Sessions {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), sooner: Notify::new(), metrics }
    }

    /// A socket has connected.
    pub fn connected(&self, private: PrivateId, session: &Arc<Session>) {
        self.state.lock().places.insert(private, Place::Connected(Arc::downgrade(session)));
    }

    /// The caller of a socket that may come back.
    pub fn caller(&self, private: PrivateId) -> Option<Arc<Caller>> {
        match self.state.lock().places.get(&private)? {
            Place::Connected(session) => Some(session.upgrade()?.caller.load_full()),
            Place::Away { away, .. } => Some(away.caller.clone()),
            Place::Claimed(_) => None,
        }
    }

    /// The number of a socket.
    pub fn id(&self, private: PrivateId) -> Option<SocketId> {
        match self.state.lock().places.get(&private)? {
            Place::Connected(session) => Some(session.upgrade()?.id),
            Place::Away { away, .. } => Some(away.id),
            Place::Claimed(_) => None,
        }
    }

    /// Marks a socket as being given to a connection. None: another one is being given it.
    pub fn come_back(&self, private: PrivateId) -> Option<Coming<'_>> {
        match self.state.lock().coming.entry(private) {
            Entry::Vacant(vacant) => drop(vacant.insert(0)),
            Entry::Occupied(_) => return None,
        }
        Some(Coming { sessions: self, private })
    }

    /// Another node has claimed a socket.
    pub fn claimed_elsewhere(&self, private: PrivateId, claims: u64) {
        if let Some(highest) = self.state.lock().coming.get_mut(&private) {
            *highest = claims.max(*highest);
        }
    }

    /// Whether a socket can be claimed: it is away, or its client has the answer to its CONNECT.
    pub fn may_claim(&self, private: PrivateId) -> bool {
        match self.state.lock().places.get(&private) {
            Some(Place::Connected(session)) => session.upgrade().is_some_and(|session| session.is_open()),
            Some(Place::Away { .. }) => true,
            Some(Place::Claimed(_)) | None => false,
        }
    }

    pub fn is_away(&self, private: PrivateId) -> bool {
        matches!(self.state.lock().places.get(&private), Some(Place::Away { .. }))
    }

    /// Claims a socket for its client, which has come back.
    pub fn claim(&self, private: PrivateId) -> Option<Claim> {
        let mut state = self.state.lock();
        match state.places.remove(&private)? {
            Place::Away { away, until_ms } => {
                state.ends.remove(&(until_ms, private));
                self.count(&state);
                Some(Claim::Away(away))
            }
            Place::Connected(session) => {
                let (give, take) = oneshot::channel();
                let session = session.upgrade()?;
                state.places.insert(private, Place::Claimed(give));
                Some(Claim::Connected(session, take))
            }
            claimed @ Place::Claimed(_) => {
                state.places.insert(private, claimed);
                None
            }
        }
    }

    /// A socket is away until its window ends. Returns the one that has been away the longest if there are more than `most`.
    pub fn away(&self, away: Box<Away>, until_ms: u64, most: usize) -> Option<Box<Away>> {
        let mut state = self.state.lock();
        let private = away.private;
        let away = match state.places.remove(&private) {
            // None: its client has waited for too long.
            Some(Place::Claimed(give)) => match give.send(away) {
                Ok(()) => return None,
                Err(away) => away,
            },
            _ => away,
        };
        state.ends.insert((until_ms, private));
        state.places.insert(private, Place::Away { away, until_ms });
        let excess = if state.ends.len() > most { state.end_first() } else { None };
        self.count(&state);
        if state.ends.first().is_some_and(|(_, first)| *first == private) {
            self.sooner.notify_one();
        }
        excess
    }

    /// A socket that does not come back.
    pub fn forget(&self, private: PrivateId) {
        self.state.lock().places.remove(&private);
    }

    /// The sockets whose windows have ended, with the ends; `all` for every socket that is away.
    pub fn ended(&self, now_ms: u64, all: bool) -> Vec<(Box<Away>, u64)> {
        let mut state = self.state.lock();
        let mut ended = Vec::new();
        while let Some((until_ms, _)) = state.ends.first().copied().filter(|(until_ms, _)| all || *until_ms <= now_ms) {
            ended.extend(state.end_first().map(|away| (away, until_ms)));
        }
        self.count(&state);
        ended
    }

    /// The end of the first window.
    pub fn next_end(&self) -> Option<u64> {
        self.state.lock().ends.first().map(|(until_ms, _)| *until_ms)
    }

    /// Waits until a socket is away whose window ends before all others.
    pub async fn sooner(&self) {
        self.sooner.notified().await;
    }

    fn count(&self, state: &State) {
        self.metrics.recovery_sockets_away.set(state.ends.len() as i64);
    }
}

impl State {
    fn end_first(&mut self) -> Option<Box<Away>> {
        let (_, private) = self.ends.pop_first()?;
        match self.places.remove(&private)? {
            Place::Away { away, .. } => Some(away),
            Place::Connected(_) | Place::Claimed(_) => None,
        }
    }
}
