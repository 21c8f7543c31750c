//! The sockets of a namespace that are away, and the positions of what was sent to those that may come back.

use std::collections::HashMap;

use hubbub_wire::Socket;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Joined, Member, Members, is_hosts};
use crate::names::SocketId;
use crate::recovery::log::Log;
use crate::rooms::history::{Away, Back, Gap, Index, Missed, rooms_of};

/// The stored form of a namespace.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    away: HashMap<SocketId, Away>,
    index: Index,
}

impl Members {
    /// Ends a socket that is away. Returns false if it is not.
    pub fn forget(&mut self, socket: SocketId) -> bool {
        let is_away = self.remove_away(socket).is_some();
        self.recoverable -= usize::from(is_away);
        is_away
    }

    fn remove_away(&mut self, socket: SocketId) -> Option<Away> {
        let away = self.away.remove(&socket)?;
        if let Some(user) = &away.user
            && let Some(sockets) = self.away_users.get_mut(user)
        {
            sockets.retain(|other| *other != socket);
            if sockets.is_empty() {
                self.away_users.remove(user);
            }
        }
        Some(away)
    }

    /// Brings a socket that is away back to its rooms. `offset` is the last event that its client has received. None: it is not away.
    ///
    /// # Errors
    /// Not all that it missed is known. It stays away.
    pub fn resume(&mut self, id: SocketId, socket: Socket, offset: Option<u64>, log: &Log) -> Result<Option<Back>, Gap> {
        let Some(away) = self.away.get(&id) else { return Ok(None) };
        let Missed { messages, history } = self.index.missed(id, away, offset, log)?;
        let Some(away) = self.remove_away(id) else { return Ok(None) };
        let (user, history) = (away.user, Some(Box::new(history)));
        self.insert(id, Member { socket, user, rooms: SmallVec::new(), since: log.next(), history, catch_up: None });
        let rooms: Vec<_> = away.rooms.iter().map(|(room, _)| room.clone()).collect();
        for (room, from) in away.rooms {
            self.join(id, &room, usize::MAX, from);
        }
        Ok(Some(Back { missed: messages, rooms }))
    }

    pub(super) fn join_away(&mut self, socket: SocketId, name: &str, limit: usize, at: u64) -> Joined {
        let Some(away) = self.away.get_mut(&socket) else { return Joined::Removed };
        if !away.is_in(name) {
            if away.rooms.iter().filter(|(room, _)| !is_hosts(room)).count() >= limit {
                return Joined::TooMany;
            }
            away.join(name, at);
        }
        Joined::Away
    }

    /// Whether any socket may come back.
    pub fn is_logged(&self) -> bool {
        self.recoverable > 0
    }

    /// The sockets of a user that are away.
    pub fn away_of(&self, user: &str) -> &[SocketId] {
        self.away_users.get(user).map_or(&[], |sockets| sockets)
    }

    /// Notes an event to a room.
    pub fn note_room(&mut self, room: &str, position: u64, first: u64) {
        self.index.note_room(room, position, first);
    }

    /// Notes an event to all sockets of a user, if the user has any.
    pub fn note_user(&mut self, user: &str, position: u64, first: u64) {
        let known = self.users.get_key_value(user).map(|(user, _)| user);
        let known = known.or_else(|| self.away_users.get_key_value(user).map(|(user, _)| user));
        if let Some(user) = known.cloned() {
            self.index.note_user(&user, position, first);
        }
    }

    /// Notes an event to a socket, if it may come back.
    pub fn note_socket(&mut self, socket: SocketId, position: u64, first: u64) {
        let is_recoverable = self.sockets.get(&socket).is_some_and(|member| member.history.is_some());
        if is_recoverable || self.away.contains_key(&socket) {
            self.index.note_socket(socket, position, first);
        }
    }

    /// The state of the sockets that are away, to be stored. None if no socket is away.
    pub fn save(&self) -> Option<Saved> {
        (!self.away.is_empty()).then(|| Saved { away: self.away.clone(), index: self.index.clone() })
    }

    /// Restores the stored state, before the first socket connects.
    pub fn restore(&mut self, saved: Saved) {
        self.index = saved.index;
        self.away = saved.away;
        self.recoverable = self.away.len();
        for (socket, away) in &self.away {
            if let Some(user) = &away.user {
                self.away_users.entry(user.clone()).or_default().push(*socket);
            }
        }
    }

    /// Drops the positions that are no longer in the log.
    pub fn sweep(&mut self, first: u64) {
        let Self { sockets, rooms, users, away, away_users, index, .. } = self;
        let of_away = rooms_of(away.values());
        index.sweep(
            first,
            |room| rooms.contains_key(room) || of_away.contains(room),
            |user| users.contains_key(user) || away_users.contains_key(user),
            |socket| sockets.contains_key(&socket) || away.contains_key(&socket),
        );
    }
}
