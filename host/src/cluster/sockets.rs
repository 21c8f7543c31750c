//! The sockets of this node that may come back to any node: their rooms, with the positions of the joins and leaves, as other nodes read
//! them. Every change is logged in the order of the events.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::relay::Relay;
use super::relay::event::log_of;
use crate::names::{self, SocketId};
use crate::recovery::offset::{Offset, Position};
use crate::sandbox::exports::Caller;

/// Changes with the stored form: another one is not read.
const VERSION: u8 = 1;

/// Rooms that a socket has left and that are remembered. Past it a client that has been away since then gets a new socket.
const MAX_LEFT: usize = 64;

/// Sockets that are logged together after an outage: the queue of the relay must have room for them.
const REWRITTEN: usize = 256;

/// A time that a socket was in a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stay {
    pub room: Arc<str>,
    pub from: Position,
    pub to: Option<Position>,
}

/// A socket that may come back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    version: u8,
    /// How often its client has come back.
    pub claims: u64,
    /// Counts the changes since then.
    generation: u64,
    /// Its connection has ended, and no other one has it.
    pub is_away: bool,
    pub id: SocketId,
    pub public: String,
    pub caller: Arc<Caller>,
    /// The names of the plugins for which `on-connect` has succeeded.
    pub connected: Vec<String>,
    /// The presence that it tracks, in the form of presence.
    pub tracks: Vec<u8>,
    pub stays: Vec<Stay>,
    /// The offset of its node at the last change.
    pub received: Offset,
    /// Some rooms that it left before this are forgotten: a client must have received everything up to it.
    pub floor: Option<Position>,
}

impl State {
    pub fn new(id: SocketId, public: String, caller: Arc<Caller>, connected: Vec<String>) -> Self {
        Self {
            version: VERSION,
            claims: 0,
            generation: 0,
            is_away: false,
            id,
            public,
            caller,
            connected,
            tracks: Vec::new(),
            stays: Vec::new(),
            received: Offset::default(),
            floor: None,
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok().filter(|state: &Self| state.version == VERSION)
    }

    pub fn encode(&self) -> Vec<u8> {
        // A state always serializes.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// The same after another number of claims.
    pub fn claimed(&self, claims: u64) -> Self {
        Self { claims, is_away: false, ..self.clone() }
    }

    /// Whether another state of the same socket is newer.
    pub fn is_before(&self, other: &Self) -> bool {
        (self.claims, self.generation) < (other.claims, other.generation)
    }

    /// The user, scoped by the tenant.
    pub fn user(&self) -> Option<String> {
        user_of(&self.caller)
    }
}

pub fn user_of(caller: &Caller) -> Option<String> {
    caller.user.as_ref().map(|user| names::scoped(user.tenant.as_deref(), &user.id))
}

struct Socket {
    /// None until its client has an id for it.
    known: Option<Known>,
    /// The rooms that it is in.
    stays: Vec<Stay>,
    /// The rooms that it has left, as long as the log keeps events of then.
    left: VecDeque<(Instant, Stay)>,
    /// Its client has taken it to another connection: only its moves are logged.
    is_taken: bool,
    /// A change of it could not be logged, and since then Redis has not answered.
    has_lost_moves: bool,
}

struct Known {
    private: String,
    state: State,
}

/// The sockets of this node.
pub struct Sockets {
    relay: Arc<Relay>,
    log: u64,
    keep: Duration,
    sockets: Mutex<HashMap<SocketId, Socket>>,
}

impl Sockets {
    pub fn new(relay: Arc<Relay>, node: &str, keep: Duration) -> Self {
        Self { relay, log: log_of(node), keep, sockets: Mutex::default() }
    }

    /// A socket has joined or left a room.
    pub fn moved(&self, id: SocketId, room: &str, joins: bool) {
        let mut sockets = self.sockets.lock();
        let new = || Socket { known: None, stays: Vec::new(), left: VecDeque::new(), is_taken: false, has_lost_moves: false };
        let socket = match joins {
            true => sockets.entry(id).or_insert_with(new),
            false => match sockets.get_mut(&id) {
                Some(socket) => socket,
                None => return,
            },
        };
        self.change(socket, |socket, at| socket.moved(room, joins, at, self.keep));
    }

    /// A client has got the id of its socket.
    pub fn begin(&self, private: String, state: State) {
        let mut sockets = self.sockets.lock();
        // None: it has disconnected meanwhile.
        let Some(socket) = sockets.get_mut(&state.id) else { return };
        socket.known = Some(Known { private, state });
        self.change(socket, |_, _| {});
    }

    /// A client comes back to this node, to the rooms in `state`. Returns the position in this node's log from which on it gets events here.
    pub fn resume(&self, private: String, mut state: State) -> u64 {
        let mut sockets = self.sockets.lock();
        let id = state.id;
        let (stays, left): (Vec<_>, Vec<_>) = std::mem::take(&mut state.stays).into_iter().partition(|stay| stay.to.is_none());
        let left = left.into_iter().map(|stay| (Instant::now(), stay)).collect();
        let socket = Socket { known: Some(Known { private, state }), stays, left, is_taken: false, has_lost_moves: false };
        let socket = sockets.entry(id).insert_entry(socket).into_mut();
        let mut from = 0;
        self.change(socket, |_, at| from = at.position);
        from
    }

    /// The connection of a socket has ended.
    pub fn away(&self, id: SocketId, connected: Vec<String>) {
        let mut sockets = self.sockets.lock();
        let Some(socket) = sockets.get_mut(&id) else { return };
        if let Some(Known { state, .. }) = &mut socket.known {
            (state.connected, state.is_away) = (connected, true);
        }
        self.change(socket, |_, _| {});
    }

    /// The presence that a socket tracks has changed.
    pub fn tracked(&self, id: SocketId, tracks: Vec<u8>) {
        let mut sockets = self.sockets.lock();
        let Some(socket) = sockets.get_mut(&id) else { return };
        match &mut socket.known {
            Some(Known { state, .. }) if state.tracks != tracks => state.tracks = tracks,
            _ => return,
        }
        self.change(socket, |_, _| {});
    }

    /// Whether a socket is of this node and was claimed less often.
    pub fn is_before(&self, id: SocketId, claims: u64) -> bool {
        let sockets = self.sockets.lock();
        sockets.get(&id).is_some_and(|socket| socket.known.as_ref().is_none_or(|known| known.state.claims < claims))
    }

    /// Whether a socket is of this node.
    pub fn has(&self, id: SocketId) -> bool {
        self.sockets.lock().contains_key(&id)
    }

    /// A client has taken its socket to another connection, at this node or `elsewhere`.
    pub fn taken(&self, id: SocketId, elsewhere: bool) {
        let mut sockets = self.sockets.lock();
        let Some(socket) = sockets.get_mut(&id) else { return };
        socket.is_taken = true;
        if let Some(known) = socket.known.as_ref().filter(|_| elsewhere) {
            // A change may have been logged after it was taken.
            self.relay.log_socket(known.private.clone(), |_, _| Vec::new());
        }
    }

    /// The client has not taken its socket after all.
    pub fn not_taken(&self, id: SocketId) {
        if let Some(socket) = self.sockets.lock().get_mut(&id) {
            socket.is_taken = false;
            self.change(socket, |_, _| {});
        }
    }

    /// A socket does not come back to this node. It `is_over` if it does not come back to any.
    pub fn forget(&self, id: SocketId, is_over: bool) -> Option<State> {
        let mut sockets = self.sockets.lock();
        let socket = sockets.remove(&id)?;
        let stays = socket.stays();
        let Known { private, mut state } = socket.known?;
        state.stays = stays;
        if is_over && !socket.is_taken {
            self.relay.log_socket(private, |_, _| Vec::new());
        }
        Some(state)
    }

    /// The connected sockets that may come back, with their rooms.
    pub fn connected(&self) -> Vec<State> {
        let sockets = self.sockets.lock();
        let known = sockets.values().filter(|socket| !socket.is_taken);
        known.filter_map(|socket| Some(State { stays: socket.stays(), ..socket.known.as_ref()?.state.clone() })).collect()
    }

    /// Logs all sockets, after Redis may have lost them.
    pub async fn rewrite_after_outage(self: Arc<Self>) {
        let mut epochs = self.relay.epochs();
        while epochs.changed().await.is_ok() {
            if epochs.borrow_and_update().is_none() {
                continue;
            }
            let all: Vec<SocketId> = self.sockets.lock().keys().copied().collect();
            for some in all.chunks(REWRITTEN) {
                for id in some {
                    if let Some(socket) = self.sockets.lock().get_mut(id) {
                        self.change(socket, Socket::log_again);
                    }
                }
                self.relay.written().await;
            }
        }
    }

    /// Changes a socket and logs it.
    fn change(&self, socket: &mut Socket, change: impl FnOnce(&mut Socket, Position)) {
        let known = socket.known.as_ref().filter(|_| !socket.is_taken);
        let name = known.map(|known| known.private.clone()).unwrap_or_default();
        let is_logged = self.relay.log_socket(name, |position, received| {
            change(socket, Position { log: self.log, position });
            socket.encode(received)
        });
        socket.has_lost_moves |= !is_logged;
    }
}

impl Socket {
    fn moved(&mut self, room: &str, joins: bool, at: Position, keep: Duration) {
        let place = self.stays.iter().position(|stay| &*stay.room == room);
        match (place, joins) {
            (None, true) => self.stays.push(Stay { room: room.into(), from: at, to: None }),
            (Some(place), false) => {
                let (stay, now) = (self.stays.swap_remove(place), Instant::now());
                self.left.push_back((now, Stay { to: Some(at), ..stay }));
                while self.left.front().is_some_and(|(left_at, _)| now.duration_since(*left_at) > keep) {
                    self.left.pop_front();
                }
                if self.left.len() > MAX_LEFT
                    && let Some((_, stay)) = self.left.pop_front()
                    && let Some(known) = &mut self.known
                {
                    known.state.floor = stay.to.or(known.state.floor);
                }
            }
            _ => {}
        }
    }

    /// It is logged after an outage. When it moved meanwhile is not known, so its client must have received an event of after that.
    fn log_again(&mut self, at: Position) {
        if std::mem::take(&mut self.has_lost_moves)
            && let Some(known) = &mut self.known
        {
            known.state.floor = Some(at);
        }
    }

    fn stays(&self) -> Vec<Stay> {
        self.stays.iter().chain(self.left.iter().map(|(_, stay)| stay)).cloned().collect()
    }

    fn encode(&mut self, received: &Offset) -> Vec<u8> {
        let stays = self.stays();
        let Some(Known { state, .. }) = self.known.as_mut().filter(|_| !self.is_taken) else { return Vec::new() };
        state.generation += 1;
        state.received = received.clone();
        state.stays = stays;
        let bytes = state.encode();
        state.stays.clear();
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(position: u64) -> Position {
        Position { log: 1, position }
    }

    fn socket() -> Socket {
        let caller = Caller { socket: 7, namespace: "/chat".into(), user: None };
        let state = State::new(7, String::new(), Arc::new(caller), Vec::new());
        let known = Some(Known { private: String::new(), state });
        Socket { known, stays: Vec::new(), left: VecDeque::new(), is_taken: false, has_lost_moves: false }
    }

    #[test]
    fn a_socket_that_left_too_many_rooms_forgets_the_first() {
        let (mut socket, keep) = (socket(), Duration::from_secs(60));
        let visits = MAX_LEFT as u64 + 1;
        for visit in 0..visits {
            assert_eq!(socket.known.as_ref().unwrap().state.floor, None);
            socket.moved("r", true, at(2 * visit), keep);
            socket.moved("r", false, at(2 * visit + 1), keep);
        }
        assert_eq!((socket.stays().len(), socket.known.unwrap().state.floor), (MAX_LEFT, Some(at(1))));
    }

    #[test]
    fn a_room_that_was_left_long_ago_is_forgotten() {
        let mut socket = socket();
        for visit in 0..3 {
            socket.moved("r", true, at(2 * visit), Duration::ZERO);
            socket.moved("r", false, at(2 * visit + 1), Duration::ZERO);
        }
        assert!(socket.stays().len() < 3);
        assert_eq!(socket.known.unwrap().state.floor, None);
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let mut socket = socket();
        socket.moved("r", true, at(3), Duration::from_secs(60));
        let state = State::decode(&socket.encode(&Offset::from(at(5)))).unwrap();
        assert_eq!((state.stays.len(), &state.received, state.generation), (1, &Offset::from(at(5)), 1));
        assert!(State::decode(b"").is_none());
        let later = state_of(&mut socket);
        assert!(state.claimed(1).is_before(&later.claimed(1)) && later.is_before(&later.claimed(1)));
    }

    fn state_of(socket: &mut Socket) -> State {
        State::decode(&socket.encode(&Offset::default())).unwrap()
    }
}
