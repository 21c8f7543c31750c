//! A copy of the logs: the events that a socket has missed, by the times that it was in its rooms. It never asks Redis.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::cluster::relay::event::{Recipients, log_of, parse};
use crate::cluster::sockets::{State, Stay};
use crate::names::SocketId;
use crate::recovery::offset::{Offset, Position};
use crate::rooms::members;

/// The fields of an entry in Redis.
pub(super) type Fields = HashMap<String, Bytes>;

/// A copy of the logs.
#[derive(Default)]
pub struct Read {
    /// It has everything that was there when this many had asked.
    pub(super) covers: u64,
    /// When it was read last.
    pub(super) at: Option<Instant>,
    /// By their numbers.
    logs: HashMap<u64, Log>,
}

/// The log of one node.
#[derive(Default)]
pub(super) struct Log {
    /// The id of the last entry in Redis.
    pub(super) last: String,
    entries: BTreeMap<u64, Entry>,
    tracks: HashMap<Track, VecDeque<u64>>,
    /// The last position that was read.
    end: u64,
    /// Something up to this position is missing, and when that was noted.
    gap: (u64, u64),
}

/// An entry. Its time is the same for the entries of one batch, and higher than in every batch before, of any node.
struct Entry {
    time: u64,
    /// None: a move of a socket, which only marks a time.
    event: Option<Arc<Event>>,
}

struct Event {
    namespace: String,
    to: Recipients,
    except: Vec<String>,
    except_socket: Option<SocketId>,
    text: String,
}

/// A key by which events are found.
#[derive(PartialEq, Eq, Hash)]
enum Track {
    Room(String, String),
    User(String, String),
    Socket(SocketId),
    /// The moves of a user to and from rooms.
    Moves(String, String),
}

/// An event that a client has missed.
pub struct Missed {
    pub place: Position,
    /// The whole array, `["event",…]`.
    pub text: String,
}

/// Something that a client may have missed is not in the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap;

impl Log {
    /// Adds an entry as Redis has it.
    pub(super) fn push(&mut self, fields: &Fields) {
        let number = |name: &str| std::str::from_utf8(fields.get(name)?).ok()?.parse::<u64>().ok();
        let (Some(position), Some(time)) = (number("q"), number("t")) else { return };
        if fields.contains_key("g") {
            self.gap = self.gap.max((position, time));
            return;
        }
        self.end = self.end.max(position);
        let event = fields.get("e").and_then(|bytes| {
            let (header, text) = parse(bytes)?;
            let (namespace, except) = (header.namespace.into_owned(), header.except.into_owned());
            Some(Event { namespace, to: header.to, except, except_socket: header.except_socket, text })
        });
        for track in event.iter().flat_map(Event::tracks) {
            let positions = self.tracks.entry(track).or_default();
            // Redis may run a command of an older connection after a newer one.
            let place = positions.partition_point(|other| *other < position);
            positions.insert(place, position);
        }
        self.entries.insert(position, Entry { time, event: event.map(Arc::new) });
    }

    /// Drops the entries before a time.
    pub(super) fn trim(&mut self, before: u64) {
        let mut first = None;
        while let Some(entry) = self.entries.first_entry().filter(|entry| entry.get().time < before) {
            first = Some(*entry.key());
            entry.remove();
        }
        let Some(first) = first else { return };
        self.tracks.retain(|_, positions| {
            while positions.front().is_some_and(|position| *position <= first) {
                positions.pop_front();
            }
            !positions.is_empty()
        });
    }

    fn of(&self, track: &Track, after: u64) -> impl Iterator<Item = u64> {
        let positions = self.tracks.get(track);
        let start = positions.map_or(0, |positions| positions.partition_point(|position| *position <= after));
        positions.into_iter().flat_map(move |positions| positions.range(start..).copied())
    }
}

impl Event {
    fn tracks(&self) -> Vec<Track> {
        let namespace = || self.namespace.clone();
        match &self.to {
            Recipients::Socket(socket) => vec![Track::Socket(*socket)],
            Recipients::Rooms(rooms) => rooms.iter().map(|room| Track::Room(namespace(), room.clone())).collect(),
            Recipients::TenantInRoom { room, .. } => vec![Track::Room(namespace(), room.clone())],
            Recipients::Users(users) => users.iter().map(|user| Track::User(namespace(), user.clone())).collect(),
            Recipients::Join { user, .. } | Recipients::Leave { user, .. } => vec![Track::Moves(namespace(), user.clone())],
        }
    }
}

impl Read {
    /// Drops the logs of all other nodes.
    pub(super) fn keep(&mut self, nodes: &[String]) {
        let ids: Vec<u64> = nodes.iter().map(|node| log_of(node)).collect();
        self.logs.retain(|id, _| ids.contains(id));
    }

    pub(super) fn log_of(&mut self, node: &str) -> &mut Log {
        self.logs.entry(log_of(node)).or_insert_with(|| Log { last: "0".into(), ..Log::default() })
    }

    /// The ends of the logs, for a socket that gets events of this node's log `me` from a position on.
    pub fn ends(&self, me: u64, from: u64) -> Offset {
        let mut ends = Offset::default();
        self.logs.iter().for_each(|(id, log)| ends.raise(*id, if *id == me { log.end.min(from) } else { log.end }));
        ends
    }

    /// The time of a position. None: before everything that is kept.
    fn time(&self, at: Position) -> Option<u64> {
        let entries = &self.logs.get(&at.log)?.entries;
        entries.first_key_value().filter(|(first, _)| **first <= at.position)?;
        // A lost entry is noted as a gap; the next one has the nearest time.
        entries.range(at.position..).next().map(|(_, entry)| entry.time)
    }

    /// Whether an event at `place` was sent after the mark `at`.
    fn is_after(&self, place: Position, time: u64, at: Position) -> bool {
        match place.log == at.log {
            true => place.position > at.position,
            false => self.time(at).is_none_or(|at| time > at),
        }
    }

    fn is_in(&self, stay: &Stay, place: Position, time: u64) -> bool {
        self.is_after(place, time, stay.from)
            && stay.to.is_none_or(|to| self.logs.contains_key(&to.log) && !self.is_after(place, time, to))
    }

    /// The moves of users in the logs after an offset, in order.
    fn moves_in<'a>(&'a self, after: &Offset, of: impl Fn(&'a Log, u64) -> Vec<u64>) -> Vec<(Position, Arc<Event>)> {
        let mut moves = Vec::new();
        for (&id, log) in &self.logs {
            for position in of(log, after.of(id)) {
                if let Some(Entry { time, event: Some(event) }) = log.entries.get(&position) {
                    moves.push((*time, Position { log: id, position }, event.clone()));
                }
            }
        }
        moves.sort_by_key(|(time, at, _)| (*time, at.position));
        moves.into_iter().map(|(_, at, event)| (at, event)).collect()
    }

    /// The moves of users after an offset and up to another one, in order, with their namespaces.
    pub fn moves(&self, after: &Offset, ends: &Offset) -> Vec<(String, Recipients)> {
        let is_move = |track: &Track| matches!(track, Track::Moves(..));
        let all = |log: &Log, after| -> Vec<u64> {
            log.tracks.keys().filter(|track| is_move(track)).flat_map(|track| log.of(track, after)).collect()
        };
        let moves = self.moves_in(after, all).into_iter().filter(|(at, _)| at.position <= ends.of(at.log));
        moves.map(|(_, event)| (event.namespace.clone(), event.to.clone())).collect()
    }

    /// Moves a socket as its node would have if it had received everything.
    pub fn move_socket(&self, state: &mut State) {
        let Some(user) = state.user() else { return };
        let track = Track::Moves(state.caller.namespace.clone(), user);
        for (at, event) in self.moves_in(&state.received.clone(), |log, after| log.of(&track, after).collect()) {
            let place = |room: &str| state.stays.iter().position(|stay| &*stay.room == room && stay.to.is_none());
            match &event.to {
                Recipients::Join { room, .. } if place(room).is_none() => {
                    state.stays.push(Stay { room: room.as_str().into(), from: at, to: None });
                }
                Recipients::Leave { room, .. } => {
                    if let Some(place) = place(room) {
                        state.stays[place].to = Some(at);
                    }
                }
                _ => {}
            }
        }
    }

    /// The events that the client of a socket has missed since `offset`, in order.
    ///
    /// # Errors
    /// Not all of it is known.
    pub fn missed(&self, state: &State, offset: &Offset, ends: &Offset) -> Result<Vec<Missed>, Gap> {
        // The rooms of the host are joined first.
        let begin = state.stays.iter().find(|stay| *stay.room == *members::everyone()).map(|stay| stay.from);
        let began = begin.and_then(|begin| self.time(begin));
        let is_missing = |(id, log): (&u64, &Log)| {
            let (gap, noted) = log.gap;
            offset.of(*id) < gap && began.is_none_or(|began| began < noted)
        };
        let is_low = state.floor.is_some_and(|floor| offset.of(floor.log) < floor.position);
        if is_low || self.logs.iter().any(is_missing) { Err(Gap) } else { Ok(self.events(state, offset, ends)) }
    }

    /// The events for a socket after an offset and up to another one that are in the logs, in order.
    pub fn events(&self, state: &State, after: &Offset, ends: &Offset) -> Vec<Missed> {
        let namespace = &state.caller.namespace;
        let rooms: BTreeSet<&str> = state.stays.iter().map(|stay| &*stay.room).collect();
        let mut tracks: Vec<Track> = rooms.iter().map(|room| Track::Room(namespace.clone(), (*room).to_owned())).collect();
        tracks.extend(state.user().map(|user| Track::User(namespace.clone(), user)));
        tracks.push(Track::Socket(state.id));
        let mut found = BTreeSet::new();
        for (&id, log) in &self.logs {
            let (after, end) = (after.of(id), ends.of(id));
            for position in tracks.iter().flat_map(|track| log.of(track, after)).filter(|position| *position <= end) {
                if let Some(entry) = log.entries.get(&position) {
                    found.insert((entry.time, id, position));
                }
            }
        }
        let missed = found.into_iter().filter_map(|(time, log, position)| {
            let place = Position { log, position };
            let event = self.logs.get(&log)?.entries.get(&position)?.event.as_ref()?;
            self.was_for(event, state, place, time).then(|| Missed { place, text: event.text.clone() })
        });
        missed.collect()
    }

    fn was_for(&self, event: &Event, state: &State, place: Position, time: u64) -> bool {
        let was_in = |room: &str| state.stays.iter().any(|stay| &*stay.room == room && self.is_in(stay, place, time));
        let had_begun = was_in(&members::everyone());
        let is_addressed = match &event.to {
            Recipients::Socket(_) | Recipients::Users(_) => had_begun,
            Recipients::Rooms(rooms) => rooms.iter().any(|room| was_in(room)),
            Recipients::TenantInRoom { tenant, room } => was_in(&members::tenant(tenant)) && was_in(room),
            Recipients::Join { .. } | Recipients::Leave { .. } => false,
        };
        is_addressed && event.except_socket != Some(state.id) && !event.except.iter().any(|room| was_in(room))
    }
}

#[cfg(test)]
mod tests;
