//! The members of the rooms of one namespace: sizes, distinct users, and the parts that a large room is split into. It holds
//! state only: it sends nothing and takes no locks.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;
use socketioxide_core::Sid;

use crate::names::SocketId;
use crate::owners::Owners;

/// Members of one part of a room. A send does not yield within a part: 256 sends take about 60 µs.
pub const PART: u16 = 256;

/// Marks the parts of a room after the first, and the host's own rooms. Plugins cannot use this character in names.
const PART_MARK: char = '\u{1e}';

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
    sid: Sid,
    /// Scoped by tenant, if it has one: two companies may both have a user 1.
    user: Option<Arc<str>>,
    /// The rooms, each with the index of the socket's part.
    rooms: SmallVec<[(Arc<str>, u16); 2]>,
    /// Bytes sent to this socket alone.
    sent: u64,
}

#[derive(Default)]
struct Room {
    /// The size of each part. A part between two others may be empty.
    parts: SmallVec<[u16; 2]>,
    visitors: u32,
    users: HashMap<Arc<str>, u32>,
    /// Held during a broadcast to several parts, so that two broadcasts cannot interleave.
    order: Arc<tokio::sync::Mutex<()>>,
    /// Bytes ever sent to the room.
    sent: u64,
}

/// The size of a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub sockets: u64,
    pub users: u64,
    pub visitors: u64,
}

/// How to send to a whole room.
pub struct Reach {
    /// The number of parts; `part_name` is a part's name in socketioxide's own adapter.
    pub parts: usize,
    pub members: u64,
    pub order: Option<Arc<tokio::sync::Mutex<()>>>,
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
    /// Joined. The socket is to be added to this part in socketioxide's own adapter.
    Part(Sid, String),
    Already,
    /// The socket has disconnected.
    Removed,
    TooMany,
}

impl Members {
    pub fn add(&mut self, socket: SocketId, sid: Sid, user: Option<Arc<str>>) {
        if let Some(user) = &user {
            self.users.entry(user.clone()).or_default().push(socket);
        }
        self.sockets.insert(socket, Member { sid, user, rooms: SmallVec::new(), sent: 0 });
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
            self.shrink(room, *part, member.user.as_ref());
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
        let part = room.parts.iter().position(|size| *size < PART).unwrap_or_else(|| {
            room.parts.push(0);
            room.parts.len() - 1
        });
        room.parts[part] += 1;
        match &member.user {
            Some(user) => *room.users.entry(user.clone()).or_default() += 1,
            None => room.visitors += 1,
        }
        if let Some(user) = member.user.as_ref().filter(|_| !is_hosts(&name)) {
            self.owners.add(user);
        }
        member.rooms.push((name.clone(), part as u16));
        Joined::Part(member.sid, part_name(&name, part))
    }

    /// Removes a socket from a room. Returns the part in socketioxide's own adapter to remove it from.
    pub fn leave(&mut self, socket: SocketId, name: &str) -> Option<(Sid, String, Left)> {
        let member = self.sockets.get_mut(&socket)?;
        let at = member.rooms.iter().position(|(room, _)| &**room == name)?;
        let (room, part) = member.rooms.swap_remove(at);
        let (sid, user) = (member.sid, member.user.clone());
        self.shrink(&room, part, user.as_ref());
        Some((sid, part_name(&room, part as usize), Left { room, user }))
    }

    fn shrink(&mut self, name: &Arc<str>, part: u16, user: Option<&Arc<str>>) {
        if let Some(user) = user.filter(|_| !is_hosts(name)) {
            self.owners.remove(user);
        }
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.parts[part as usize] -= 1;
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
        while room.parts.last() == Some(&0) {
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
            sockets: room.parts.iter().map(|part| u64::from(*part)).sum(),
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

    pub fn reach(&self, name: &str) -> Option<Reach> {
        let room = self.rooms.get(name)?;
        Some(Reach {
            parts: room.parts.len(),
            members: room.parts.iter().map(|part| u64::from(*part)).sum(),
            order: (room.parts.len() > 1).then(|| room.order.clone()),
        })
    }

    /// How to send to a whole room. The bytes are counted by one addition, whatever the room's size.
    pub fn reach_sending(&mut self, name: &str, bytes: usize) -> Option<Reach> {
        self.rooms.get_mut(name)?.sent += bytes as u64;
        self.reach(name)
    }

    /// The socketioxide id of a socket to send to. The bytes are counted.
    pub fn sid_sending(&mut self, socket: SocketId, bytes: usize) -> Option<Sid> {
        let member = self.sockets.get_mut(&socket)?;
        member.sent += bytes as u64;
        Some(member.sid)
    }

    /// Bytes sent so far to a socket alone (under None), and to each of its rooms.
    pub fn sent(&self, socket: SocketId) -> impl Iterator<Item = (Option<&Arc<str>>, u64)> {
        let member = self.sockets.get(&socket);
        let rooms = member.into_iter().flat_map(|member| &member.rooms);
        let of = |(room, _): &'_ (Arc<str>, u16)| self.rooms.get(room).map_or(0, |room| room.sent);
        member.into_iter().map(|member| (None, member.sent)).chain(rooms.map(move |room| (Some(&room.0), of(room))))
    }

    pub fn sid(&self, socket: SocketId) -> Option<Sid> {
        self.sockets.get(&socket).map(|member| member.sid)
    }

    pub fn sockets_of(&self, user: &str) -> &[SocketId] {
        self.users.get(user).map_or(&[], |sockets| sockets)
    }

    pub fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.sockets.keys().copied()
    }

    /// The sockets that are in both rooms. Checks every socket of the namespace.
    pub fn in_both(&self, one: &str, other: &str) -> Vec<SocketId> {
        if !self.rooms.contains_key(one) || !self.rooms.contains_key(other) {
            return Vec::new();
        }
        let is_in = |member: &Member, room| member.rooms.iter().any(|(name, _)| &**name == room);
        let both = self.sockets.iter().filter(|(_, member)| is_in(member, one) && is_in(member, other));
        both.map(|(socket, _)| *socket).collect()
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

/// Whether a room is the host's own.
pub fn is_hosts(room: &str) -> bool {
    room.starts_with(PART_MARK)
}

/// The name of a room's part in socketioxide's own adapter.
pub fn part_name(room: &str, part: usize) -> String {
    if part == 0 { room.to_owned() } else { format!("{room}{PART_MARK}{part}") }
}

/// The host's own room of all sockets in a namespace.
pub fn everyone() -> String {
    PART_MARK.to_string()
}

/// The host's own room of a tenant.
pub fn tenant(tenant: &str) -> String {
    format!("{PART_MARK}{tenant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_on_two_devices_is_one_user_and_two_sockets() {
        let mut members = Members::default();
        let ana: Arc<str> = "ana".into();
        members.add(1, Sid::new(), Some(ana.clone()));
        members.add(2, Sid::new(), Some(ana));
        members.add(3, Sid::new(), None);
        for socket in 1..=3 {
            assert!(matches!(members.join(socket, "r", 64), Joined::Part(..)));
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
        let count = u64::from(PART) * 2 + 1;
        for socket in 0..count {
            members.add(socket, Sid::new(), None);
            members.join(socket, "r", 64);
        }
        assert_eq!(members.reach("r").map(|reach| reach.parts), Some(3));
        members.leave(0, "r");
        members.add(count, Sid::new(), None);
        let joined = members.join(count, "r", 64);
        assert!(matches!(joined, Joined::Part(_, part) if part == "r"));
    }

    #[test]
    fn the_room_past_the_limit_is_refused() {
        let mut members = Members::default();
        members.add(1, Sid::new(), None);
        assert!(matches!(members.join(1, "a", 1), Joined::Part(..)));
        assert_eq!(members.join(1, "a", 1), Joined::Already);
        assert_eq!(members.join(1, "b", 1), Joined::TooMany);
        assert_eq!(members.join(2, "a", 1), Joined::Removed);
    }

    #[test]
    fn sent_bytes_are_counted_per_room_and_per_socket() {
        let mut members = Members::default();
        for socket in 1..=2 {
            members.add(socket, Sid::new(), None);
            members.join(socket, "r", 64);
        }
        members.reach_sending("r", 10);
        members.sid_sending(1, 5);
        let sent = |socket| members.sent(socket).map(|(_, bytes)| bytes).collect::<Vec<_>>();
        assert_eq!((sent(1), sent(2), sent(3)), (vec![5, 10], vec![0, 10], vec![]));
    }
}
