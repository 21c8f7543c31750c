//! The members of the rooms of one namespace: sizes, distinct users, and the parts that a large room is split into. It holds
//! state only: it sends nothing and takes no locks.

use std::collections::HashMap;
use std::sync::Arc;

use hubbub_wire::Socket;
use smallvec::SmallVec;

use crate::names::SocketId;
use crate::owners::Owners;

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
}

/// The sockets of a namespace and their rooms.
#[derive(Default)]
pub struct Members {
    sockets: HashMap<SocketId, Member>,
    rooms: HashMap<Arc<str>, Room>,
    users: HashMap<Arc<str>, SmallVec<[SocketId; 1]>>,
    /// For each user, the number of rooms that plugins have joined the user's sockets to.
    owners: Owners,
}

struct Member {
    socket: Socket,
    /// Scoped by tenant, if it has one: two companies may both have a user 1.
    user: Option<Arc<str>>,
    /// The rooms, each with the index of the socket's part.
    rooms: SmallVec<[(Arc<str>, u16); 2]>,
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

/// The result of a join.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    Joined,
    Already,
    /// The socket has disconnected.
    Removed,
    TooMany,
}

impl Members {
    pub fn add(&mut self, id: SocketId, socket: Socket, user: Option<Arc<str>>) {
        if let Some(user) = &user {
            self.users.entry(user.clone()).or_default().push(id);
        }
        self.sockets.insert(id, Member { socket, user, rooms: SmallVec::new() });
    }

    /// Removes a socket. Returns the rooms that it was in.
    pub fn remove(&mut self, socket: SocketId) -> Removed {
        let Some(member) = self.sockets.remove(&socket) else { return Removed::default() };
        if let Some(user) = &member.user
            && let Some(sockets) = self.users.get_mut(user)
        {
            sockets.retain(|other| *other != socket);
            if sockets.is_empty() {
                self.users.remove(user);
            }
        }
        for (room, part) in &member.rooms {
            self.shrink(socket, room, *part, member.user.as_ref());
        }
        let left = |(room, _)| Left { room, user: member.user.clone() };
        Removed { left: member.rooms.into_iter().map(left).collect(), user: member.user.clone() }
    }

    pub fn join(&mut self, socket: SocketId, name: &str, limit: usize) -> Joined {
        let Some(member) = self.sockets.get_mut(&socket) else { return Joined::Removed };
        if member.rooms.iter().any(|(room, _)| &**room == name) {
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
        push(Arc::make_mut(&mut room.parts[part]), Recipient { id: socket, socket: member.socket.clone() });
        match &member.user {
            Some(user) => *room.users.entry(user.clone()).or_default() += 1,
            None => room.visitors += 1,
        }
        if let Some(user) = member.user.as_ref().filter(|_| !is_hosts(&name)) {
            self.owners.add(user);
        }
        member.rooms.push((name.clone(), part as u16));
        Joined::Joined
    }

    /// Removes a socket from a room.
    pub fn leave(&mut self, socket: SocketId, name: &str) -> Option<Left> {
        let member = self.sockets.get_mut(&socket)?;
        let at = member.rooms.iter().position(|(room, _)| &**room == name)?;
        let (room, part) = member.rooms.swap_remove(at);
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

    pub fn is_in(&self, socket: SocketId, room: &str) -> bool {
        self.sockets.get(&socket).is_some_and(|member| member.rooms.iter().any(|(name, _)| &**name == room))
    }

    pub fn rooms_of(&self, socket: SocketId) -> impl Iterator<Item = &Arc<str>> {
        self.sockets.get(&socket).into_iter().flat_map(|member| member.rooms.iter().map(|(room, _)| room))
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

    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The number of rooms that plugins have made.
    pub fn room_count(&self) -> usize {
        self.rooms.keys().filter(|room| !is_hosts(room)).count()
    }
}

impl Member {
    fn own_rooms(&self) -> usize {
        self.rooms.iter().filter(|(room, _)| !is_hosts(room)).count()
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
mod tests {
    use super::unconnected as socket;
    use super::*;

    #[test]
    fn a_user_on_two_devices_is_one_user_and_two_sockets() {
        let mut members = Members::default();
        let ana: Arc<str> = "ana".into();
        members.add(1, socket(), Some(ana.clone()));
        members.add(2, socket(), Some(ana));
        members.add(3, socket(), None);
        for socket in 1..=3 {
            assert_eq!(members.join(socket, "r", 64), Joined::Joined);
        }
        assert_eq!(members.size("r"), Size { sockets: 3, users: 1, visitors: 1 });
        members.remove(1);
        assert_eq!(members.size("r"), Size { sockets: 2, users: 1, visitors: 1 });
        members.leave(2, "r");
        members.remove(3);
        assert_eq!(members.size("r"), Size::default());
        assert_eq!(members.room_count(), 0);
    }

    #[test]
    fn a_large_room_is_split_and_its_gaps_are_filled() {
        let mut members = Members::default();
        let count = PART as u64 * 2 + 1;
        for id in 0..count {
            members.add(id, socket(), None);
            members.join(id, "r", 64);
        }
        let sizes = |members: &Members| (0..4).map(|at| members.part("r", at).map(|part| part.len())).collect::<Vec<_>>();
        assert_eq!(sizes(&members), [Some(PART), Some(PART), Some(1), None]);
        members.leave(0, "r");
        members.add(count, socket(), None);
        members.join(count, "r", 64);
        assert_eq!(sizes(&members), [Some(PART), Some(PART), Some(1), None]);
        assert!(members.part("r", 0).is_some_and(|part| part.iter().any(|member| member.id == count)));
    }

    #[test]
    fn a_part_that_is_being_sent_to_is_not_changed() {
        let mut members = Members::default();
        for id in 1..=2 {
            members.add(id, socket(), None);
            members.join(id, "r", 64);
        }
        let sending = members.part("r", 0).unwrap();
        members.remove(1);
        assert_eq!((sending.len(), members.count("r")), (2, 1));
    }

    #[test]
    fn the_room_past_the_limit_is_refused() {
        let mut members = Members::default();
        members.add(1, socket(), None);
        assert_eq!(members.join(1, "a", 1), Joined::Joined);
        assert_eq!(members.join(1, "a", 1), Joined::Already);
        assert_eq!(members.join(1, "b", 1), Joined::TooMany);
        assert_eq!(members.join(2, "a", 1), Joined::Removed);
    }

    #[test]
    fn the_members_of_two_rooms_are_those_in_both() {
        let mut members = Members::default();
        for (id, rooms) in [(1, &["a", "b"][..]), (2, &["a"]), (3, &["b"])] {
            members.add(id, socket(), None);
            for room in rooms {
                members.join(id, room, 64);
            }
        }
        assert_eq!((members.in_both("a", "b"), members.in_both("a", "c")), (vec![1], vec![]));
    }
}
