//! The members of the rooms of one namespace: sizes, distinct users, and the parts that a large room is split into. It holds
//! state only: it sends nothing and takes no locks.

pub mod away;

use std::collections::HashMap;
use std::sync::Arc;

use hubbub_wire::Socket;
use smallvec::SmallVec;

use super::catch_up::CatchUp;
use super::history::{Away, History, Index, Stay};
use crate::names::SocketId;
use crate::owners::Owners;
use crate::recovery::log::Log;

/// Members of one part of a room. A send does not yield within a part: 256 writes take about a millisecond.
pub const PART: usize = 256;

/// Marks the host's own rooms. Plugins cannot use this character in names.
const HOSTS_MARK: char = '\u{1e}';

/// One part of a room, shared with the sends that are under way: a join or a leave then copies it.
pub type Part = Arc<Vec<Recipient>>;

/// The lock that keeps the sends to a room of several parts in order.
pub type Order = Arc<tokio::sync::Mutex<()>>;

/// A socket, with its id in this process.
#[derive(Debug, Clone)]
pub struct Recipient {
    pub id: SocketId,
    pub socket: Socket,
    /// The first position of the log that it is sent. 0: it cannot come back, and gets no offsets.
    pub since: u64,
    /// It has come back to this node of a cluster.
    pub catch_up: Option<Arc<CatchUp>>,
}

/// The sockets of a namespace and their rooms.
#[derive(Default)]
pub struct Members {
    sockets: HashMap<SocketId, Member>,
    rooms: HashMap<Arc<str>, Room>,
    users: HashMap<Arc<str>, SmallVec<[SocketId; 1]>>,
    /// The sockets that are away and may come back. They are in no room, user or count.
    away: HashMap<SocketId, Away>,
    away_users: HashMap<Arc<str>, SmallVec<[SocketId; 1]>>,
    /// Sockets that may come back, those that are away included. While there is none, no event is logged.
    recoverable: usize,
    index: Index,
    /// For each user, the number of rooms that plugins have joined the user's sockets to.
    owners: Owners,
}

struct Member {
    socket: Socket,
    /// Scoped by tenant, if it has one: two companies may both have a user 1.
    user: Option<Arc<str>>,
    rooms: SmallVec<[Membership; 2]>,
    /// The first position of the log that it is sent.
    since: u64,
    /// None: it cannot come back, or the cluster has its history.
    history: Option<Box<History>>,
    catch_up: Option<Arc<CatchUp>>,
}

/// A socket's place in a room.
struct Membership {
    room: Arc<str>,
    /// The index of the socket's part.
    part: u16,
    /// The position of the log at its join.
    from: u64,
}

#[derive(Default)]
struct Room {
    /// A part between two others may be empty.
    parts: SmallVec<[Part; 1]>,
    visitors: u32,
    users: HashMap<Arc<str>, u32>,
    /// Held during a broadcast to several parts, so that two broadcasts cannot interleave.
    order: Order,
}

/// The size of a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub sockets: u64,
    pub users: u64,
    pub visitors: u64,
}

/// A room that a socket has left.
#[derive(Debug)]
pub struct Left {
    pub room: Arc<str>,
    pub user: Option<Arc<str>>,
}

/// A removed socket.
#[derive(Debug, Default)]
pub struct Removed {
    pub left: SmallVec<[Left; 2]>,
    pub user: Option<Arc<str>>,
}

/// Whether a socket may come back after its connection has ended.
#[derive(Debug, Clone)]
pub enum Recovery {
    Off,
    /// It may come back to any node of the cluster, or has come back to this one.
    Shared(Option<Arc<CatchUp>>),
    /// Its session begins at this position of the log.
    From(u64),
}

/// The result of a join.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    Joined,
    Already,
    /// The socket is away, and is in the room when it comes back.
    Away,
    /// The socket has disconnected.
    Removed,
    TooMany,
}

impl Members {
    pub fn add(&mut self, id: SocketId, socket: Socket, user: Option<Arc<str>>, recovery: Recovery) {
        let (since, history, catch_up) = match recovery {
            Recovery::Off => (0, None, None),
            Recovery::Shared(catch_up) => (1, None, catch_up),
            Recovery::From(at) => {
                self.recoverable += 1;
                // The first position is 1.
                (at, Some(Box::new(History { floor: at - 1, ..History::default() })), None)
            }
        };
        self.insert(id, Member { socket, user, rooms: SmallVec::new(), since, history, catch_up });
    }

    fn insert(&mut self, id: SocketId, member: Member) {
        if let Some(user) = &member.user {
            self.users.entry(user.clone()).or_default().push(id);
        }
        self.sockets.insert(id, member);
    }

    /// Removes a socket. Returns the rooms that it was in. If it is `kept`, it may come back.
    pub fn remove(&mut self, socket: SocketId, kept: bool) -> Removed {
        let Some(mut member) = self.sockets.remove(&socket) else { return Removed::default() };
        if let Some(user) = &member.user
            && let Some(sockets) = self.users.get_mut(user)
        {
            sockets.retain(|other| *other != socket);
            if sockets.is_empty() {
                self.users.remove(user);
            }
        }
        for Membership { room, part, .. } in &member.rooms {
            self.shrink(socket, room, *part, member.user.as_ref());
        }
        match member.history.take() {
            Some(history) if kept => {
                let rooms = member.rooms.iter().map(|place| (place.room.clone(), place.from)).collect();
                let (user, sequence) = (member.user.clone(), member.socket.sequence());
                if let Some(user) = &user {
                    self.away_users.entry(user.clone()).or_default().push(socket);
                }
                self.away.insert(socket, Away { user, rooms, history, sequence });
            }
            Some(_) => self.recoverable -= 1,
            None => {}
        }
        let left = |place: Membership| Left { room: place.room, user: member.user.clone() };
        Removed { left: member.rooms.into_iter().map(left).collect(), user: member.user.clone() }
    }

    pub fn join(&mut self, socket: SocketId, name: &str, limit: usize, at: u64) -> Joined {
        let Some(member) = self.sockets.get_mut(&socket) else { return self.join_away(socket, name, limit, at) };
        if member.is_in(name) {
            return Joined::Already;
        }
        // The host's own rooms do not count, and joins to them are never refused.
        if !is_hosts(name) && member.own_rooms() >= limit {
            return Joined::TooMany;
        }
        let name: Arc<str> = match self.rooms.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        let room = self.rooms.entry(name.clone()).or_default();
        let part = room.parts.iter().position(|part| part.len() < PART).unwrap_or_else(|| {
            room.parts.push(Part::default());
            room.parts.len() - 1
        });
        let since = if member.history.is_some() { member.since.max(at) } else { member.since };
        let catch_up = member.catch_up.clone();
        push(Arc::make_mut(&mut room.parts[part]), Recipient { id: socket, socket: member.socket.clone(), since, catch_up });
        match &member.user {
            Some(user) => *room.users.entry(user.clone()).or_default() += 1,
            None => room.visitors += 1,
        }
        if let Some(user) = member.user.as_ref().filter(|_| !is_hosts(&name)) {
            self.owners.add(user);
        }
        member.rooms.push(Membership { room: name.clone(), part: part as u16, from: at });
        Joined::Joined
    }

    /// Removes a socket from a room, also one that is away.
    pub fn leave(&mut self, socket: SocketId, name: &str, log: &Log) -> Option<Left> {
        let Some(member) = self.sockets.get_mut(&socket) else {
            self.away.get_mut(&socket)?.leave(name, log.next(), log.first());
            return None;
        };
        let at = member.rooms.iter().position(|place| &*place.room == name)?;
        let Membership { room, part, from } = member.rooms.swap_remove(at);
        if let Some(history) = &mut member.history {
            history.leave(Stay { room: room.clone(), from, to: log.next() }, log.first());
        }
        let user = member.user.clone();
        self.shrink(socket, &room, part, user.as_ref());
        Some(Left { room, user })
    }

    fn shrink(&mut self, socket: SocketId, name: &Arc<str>, part: u16, user: Option<&Arc<str>>) {
        if let Some(user) = user.filter(|_| !is_hosts(name)) {
            self.owners.remove(user);
        }
        let Some(room) = self.rooms.get_mut(name) else { return };
        let part = Arc::make_mut(&mut room.parts[usize::from(part)]);
        if let Some(at) = part.iter().position(|member| member.id == socket) {
            part.swap_remove(at);
        }
        match user {
            Some(user) => {
                if let Some(count) = room.users.get_mut(user) {
                    *count -= 1;
                    if *count == 0 {
                        room.users.remove(user);
                    }
                }
            }
            None => room.visitors -= 1,
        }
        while room.parts.last().is_some_and(|part| part.is_empty()) {
            room.parts.pop();
        }
        if room.parts.is_empty() {
            self.rooms.remove(name);
        }
    }

    /// Whether it may come back to any node of the cluster.
    pub fn is_shared(&self, socket: SocketId) -> bool {
        self.sockets.get(&socket).is_some_and(|member| member.since > 0 && member.history.is_none())
    }

    pub fn is_in(&self, socket: SocketId, room: &str) -> bool {
        self.sockets.get(&socket).is_some_and(|member| member.is_in(room))
    }

    pub fn rooms_of(&self, socket: SocketId) -> impl Iterator<Item = &Arc<str>> {
        self.sockets.get(&socket).into_iter().flat_map(|member| member.rooms.iter().map(|place| &place.room))
    }

    /// How many rooms plugins have joined a socket to.
    pub fn own_rooms(&self, socket: SocketId) -> usize {
        self.sockets.get(&socket).map_or(0, Member::own_rooms)
    }

    /// How many rooms plugins have joined the sockets of a user, and of the user's tenant, to.
    pub fn rooms_by_owner(&self, user: &str) -> (usize, usize) {
        self.owners.counts(user)
    }

    pub fn size(&self, room: &str) -> Size {
        self.rooms.get(room).map_or(Size::default(), |room| Size {
            sockets: room.count(),
            users: room.users.len() as u64,
            visitors: u64::from(room.visitors),
        })
    }

    /// How many sockets a user has in a room.
    pub fn user_in(&self, user: &str, room: &str) -> u32 {
        self.rooms.get(room).and_then(|room| room.users.get(user)).copied().unwrap_or(0)
    }

    pub fn user_of(&self, socket: SocketId) -> Option<&Arc<str>> {
        self.sockets.get(&socket)?.user.as_ref()
    }

    /// All rooms, including the host's own.
    pub fn rooms(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rooms.keys()
    }

    pub fn users_in(&self, room: &str) -> impl Iterator<Item = &Arc<str>> {
        self.rooms.get(room).into_iter().flat_map(|room| room.users.keys())
    }

    /// How many sockets are in a room.
    pub fn count(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, Room::count)
    }

    /// The lock that a send to a room must hold, if the room has more than one part.
    pub fn order(&self, room: &str) -> Option<Order> {
        self.rooms.get(room).filter(|room| room.parts.len() > 1).map(|room| room.order.clone())
    }

    /// A part of a room. None past the last one.
    pub fn part(&self, room: &str, index: usize) -> Option<Part> {
        self.rooms.get(room)?.parts.get(index).cloned()
    }

    /// The members of a room, in no order.
    pub fn members_of(&self, room: &str) -> impl Iterator<Item = &Recipient> {
        self.rooms.get(room).into_iter().flat_map(|room| &room.parts).flat_map(|part| part.iter())
    }

    pub fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(&id).map(|member| &member.socket)
    }

    /// A socket as one of several recipients.
    pub fn recipient(&self, id: SocketId) -> Option<Recipient> {
        let member = self.sockets.get(&id)?;
        let Member { socket, since, catch_up, .. } = member;
        Some(Recipient { id, socket: socket.clone(), since: *since, catch_up: catch_up.clone() })
    }

    pub fn sockets_of(&self, user: &str) -> &[SocketId] {
        self.users.get(user).map_or(&[], |sockets| sockets)
    }

    pub fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.sockets.keys().copied()
    }

    pub fn all(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.values().map(|member| &member.socket)
    }

    /// The sockets that are in both rooms. Checks every member of the smaller one.
    pub fn in_both(&self, one: &str, other: &str) -> Vec<SocketId> {
        let (one, other) = if self.count(one) <= self.count(other) { (one, other) } else { (other, one) };
        self.members_of(one).map(|member| member.id).filter(|socket| self.is_in(*socket, other)).collect()
    }

    /// Whether no socket is connected or away.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.away.is_empty()
    }

    /// The number of rooms that plugins have made.
    pub fn room_count(&self) -> usize {
        self.rooms.keys().filter(|room| !is_hosts(room)).count()
    }
}

impl Member {
    fn own_rooms(&self) -> usize {
        self.rooms.iter().filter(|place| !is_hosts(&place.room)).count()
    }

    fn is_in(&self, room: &str) -> bool {
        self.rooms.iter().any(|place| &*place.room == room)
    }
}

impl Room {
    fn count(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

/// Grows in small steps, since most rooms are small and there are many.
fn push(part: &mut Vec<Recipient>, member: Recipient) {
    if part.len() == part.capacity() {
        part.reserve_exact((part.len() / 2).max(1));
    }
    part.push(member);
}

/// Whether a room is the host's own.
pub fn is_hosts(room: &str) -> bool {
    room.starts_with(HOSTS_MARK)
}

/// The host's own room of all sockets in a namespace.
pub fn everyone() -> String {
    HOSTS_MARK.to_string()
}

/// The host's own room of a tenant.
pub fn tenant(tenant: &str) -> String {
    format!("{HOSTS_MARK}{tenant}")
}

/// A socket without a client.
#[cfg(test)]
pub fn unconnected() -> Socket {
    Socket::unconnected("/x")
}

#[cfg(test)]
#[path = "members/tests.rs"]
mod tests;
