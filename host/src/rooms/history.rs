//! The events of one namespace as positions in the node's log, by their recipients, and the rooms of each socket at these positions.
//! Both together give the events that a socket that was away has missed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use hubbub_wire::{Message, Sequence};
use serde::{Deserialize, Serialize};

use crate::names::SocketId;
use crate::recovery::log::{Found, Log, Logged};

/// The positions of the events of one room, user or socket.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Track {
    positions: VecDeque<u64>,
    /// The highest position that was dropped.
    dropped: u64,
}

/// The positions of a namespace's events, by what they were sent to.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Index {
    rooms: HashMap<Arc<str>, Track>,
    users: HashMap<Arc<str>, Track>,
    sockets: HashMap<SocketId, Track>,
    /// The highest position of a room that is gone.
    dropped: u64,
}

/// A time that a socket was in a room: from one position to before another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stay {
    pub(super) room: Arc<str>,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The history of a socket that may come back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// The rooms that it has left.
    pub(super) left: Vec<Stay>,
    /// Its client has everything up to this position.
    pub(super) floor: u64,
    /// Positions above the floor that its client had when it came back the last time.
    pub(super) early: Vec<u64>,
}

/// A socket that is away.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Away {
    pub(super) user: Option<Arc<str>>,
    /// The rooms that it is in, each with the position of its join.
    pub(super) rooms: Vec<(Arc<str>, u64)>,
    pub(super) history: Box<History>,
    /// The order in which events were sent to it.
    #[serde(with = "sequence")]
    pub(super) sequence: Sequence,
}

/// Why it is not known what a client has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// An event that it missed is being encoded just now.
    Writing,
    /// An event that it may have missed is no longer in the log.
    Dropped,
}

/// A socket that is back: what its client has missed, and its rooms.
pub struct Back {
    pub missed: Vec<Message>,
    pub rooms: Vec<Arc<str>>,
}

/// The events that a client has missed.
pub(super) struct Missed {
    pub(super) messages: Vec<Message>,
    /// Its history from now on.
    pub(super) history: History,
}

impl Track {
    fn drop_before(&mut self, first: u64) {
        while let Some(position) = self.positions.front().filter(|position| **position < first) {
            self.dropped = *position;
            self.positions.pop_front();
        }
    }

    fn push(&mut self, position: u64, first: u64) {
        self.drop_before(first);
        self.positions.push_back(position);
    }
}

impl Index {
    /// Notes an event to a room. `first` is the first position of the log.
    pub(super) fn note_room(&mut self, room: &str, position: u64, first: u64) {
        match self.rooms.get_mut(room) {
            Some(track) => track.push(position, first),
            None => self.rooms.entry(room.into()).or_default().push(position, first),
        }
    }

    /// Notes an event to all sockets of a user.
    pub(super) fn note_user(&mut self, user: &Arc<str>, position: u64, first: u64) {
        self.users.entry(user.clone()).or_default().push(position, first);
    }

    /// Notes an event to one socket.
    pub(super) fn note_socket(&mut self, socket: SocketId, position: u64, first: u64) {
        self.sockets.entry(socket).or_default().push(position, first);
    }

    /// Removes what is no longer in the log, except for rooms, users and sockets that are needed.
    pub(super) fn sweep(
        &mut self,
        first: u64,
        rooms: impl Fn(&Arc<str>) -> bool,
        users: impl Fn(&Arc<str>) -> bool,
        sockets: impl Fn(SocketId) -> bool,
    ) {
        let mut dropped = self.dropped;
        let mut keep = |track: &mut Track, is_needed: bool| {
            track.drop_before(first);
            let keeps = is_needed || !track.positions.is_empty();
            if !keeps {
                dropped = dropped.max(track.dropped);
            }
            keeps
        };
        self.rooms.retain(|room, track| keep(track, rooms(room)));
        self.users.retain(|user, track| keep(track, users(user)));
        self.sockets.retain(|socket, track| keep(track, sockets(*socket)));
        self.dropped = dropped;
    }

    /// The positions from `from` to before `to` of what was sent to a track.
    fn positions(track: Option<&mut Track>, from: u64, to: u64, first: u64, into: &mut Vec<u64>) -> Result<(), Gap> {
        let Some(track) = track else { return Ok(()) };
        track.drop_before(first);
        if track.dropped >= from {
            return Err(Gap::Dropped);
        }
        let start = track.positions.partition_point(|position| *position < from);
        into.extend(track.positions.range(start..).take_while(|position| **position < to));
        Ok(())
    }

    /// The events that a socket's client has missed after `offset`, its last event. None: it has received no event.
    pub(super) fn missed(&mut self, socket: SocketId, away: &Away, offset: Option<u64>, log: &Log) -> Result<Missed, Gap> {
        let (first, end, history, sequence) = (log.first(), log.next(), &*away.history, &away.sequence);
        // A client keeps its last offset, which may be from before its session began.
        let offset = offset.filter(|offset| *offset > history.floor).unwrap_or(history.floor);
        if offset < sequence.forgotten {
            return Err(Gap::Dropped);
        }
        let has = |position: u64| history.early.contains(&position) || sequence.has(position, offset).unwrap_or(false);
        let late = sequence.late.iter().map(|late| late.position).filter(|position| !has(*position)).min();
        let low = late.unwrap_or(u64::MAX).min(offset + 1).max(history.floor + 1);
        let mut positions = Vec::new();
        for (room, from) in &away.rooms {
            Self::positions(self.rooms.get_mut(room), low.max(*from), end, first, &mut positions)?;
        }
        for Stay { room, from, to } in history.left.iter().filter(|stay| stay.to > low) {
            let track = self.rooms.get_mut(room);
            if track.is_none() && self.dropped >= low.max(*from) {
                return Err(Gap::Dropped);
            }
            Self::positions(track, low.max(*from), *to, first, &mut positions)?;
        }
        if let Some(user) = &away.user {
            Self::positions(self.users.get_mut(user), low, end, first, &mut positions)?;
        }
        Self::positions(self.sockets.get_mut(&socket), low, end, first, &mut positions)?;
        positions.sort_unstable();
        positions.dedup();
        let (mut messages, mut floor, mut early) = (Vec::new(), None, Vec::new());
        for position in positions {
            let logged = match log.get(position) {
                Found::Event(logged) => logged,
                Found::Nothing => continue,
                Found::Writing => return Err(Gap::Writing),
                Found::Dropped => return Err(Gap::Dropped),
            };
            if !away.got(socket, position, &logged) {
                continue;
            }
            if !has(position) {
                messages.push(logged.message.clone());
                floor.get_or_insert(position - 1);
            } else if floor.is_some() {
                early.push(position);
            }
        }
        let mut left = history.left.clone();
        left.retain(|stay| stay.to > first);
        Ok(Missed { messages, history: History { left, floor: floor.unwrap_or(end - 1), early } })
    }
}

impl Away {
    /// Whether an event to one of its rooms, its user or itself was for it.
    fn got(&self, socket: SocketId, position: u64, logged: &Logged) -> bool {
        let was_in = |room: &str| {
            self.rooms.iter().any(|(other, from)| &**other == room && *from <= position)
                || self.history.left.iter().any(|stay| &*stay.room == room && stay.from <= position && position < stay.to)
        };
        logged.except_socket != Some(socket)
            && logged.only.as_deref().is_none_or(was_in)
            && !logged.except.iter().any(|room| was_in(room))
    }

    pub(super) fn is_in(&self, room: &str) -> bool {
        self.rooms.iter().any(|(other, _)| &**other == room)
    }

    pub(super) fn join(&mut self, room: &str, at: u64) {
        self.rooms.push((room.into(), at));
    }

    /// Returns false if it was not in the room.
    pub(super) fn leave(&mut self, room: &str, at: u64, first: u64) -> bool {
        let Some(index) = self.rooms.iter().position(|(other, _)| &**other == room) else { return false };
        let (room, from) = self.rooms.swap_remove(index);
        self.history.leave(Stay { room, from, to: at }, first);
        true
    }
}

impl History {
    /// Notes that the socket has left a room. Stays that ended before the log begins are dropped.
    pub(super) fn leave(&mut self, stay: Stay, first: u64) {
        self.left.retain(|stay| stay.to > first);
        self.left.push(stay);
    }
}

/// A [`Sequence`] as pairs of positions.
mod sequence {
    use hubbub_wire::{Late, Sequence};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(sequence: &Sequence, serializer: S) -> Result<S::Ok, S::Error> {
        let late: Vec<_> = sequence.late.iter().map(|late| (late.position, late.after)).collect();
        (late, sequence.forgotten).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sequence, D::Error> {
        let (late, forgotten) = <(Vec<(u64, u64)>, u64)>::deserialize(deserializer)?;
        Ok(Sequence { late: late.into_iter().map(|(position, after)| Late { position, after }).collect(), forgotten })
    }
}

/// The rooms that sockets that are away are in.
pub(super) fn rooms_of<'a>(away: impl Iterator<Item = &'a Away>) -> HashSet<Arc<str>> {
    away.flat_map(|away| away.rooms.iter().map(|(room, _)| room.clone())).collect()
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
