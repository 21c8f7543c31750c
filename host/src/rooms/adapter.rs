//! One namespace of this node: joins and leaves of its sockets, and what is sent to them. It never decides which sockets may join or what
//! is sent.

mod fan_out;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hubbub_wire::{Message, Socket};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::task::yield_now;

use super::Rooms;
use super::catch_up::ComingBack;
use super::history::{Back, Gap};
use super::members::away::Saved;
use super::members::{self, Joined, Left, Members, Recovery, Size};
use super::peers::Change;
use crate::names::{self, SocketId};

/// How often a socket that comes back waits for an event that is being encoded.
const MAX_WRITING: usize = 10_000;

pub struct Adapter {
    path: Arc<str>,
    rooms: Arc<Rooms>,
    members: Mutex<Members>,
    /// In a cluster with a log, held by the event that is being sent.
    turn: tokio::sync::Mutex<()>,
    /// It is not removed when it has no members.
    kept: AtomicBool,
}

impl Adapter {
    pub(super) fn new(path: &str, rooms: Arc<Rooms>) -> Arc<Self> {
        Arc::new(Self {
            path: path.into(),
            rooms,
            members: Mutex::default(),
            turn: Default::default(),
            kept: AtomicBool::new(false),
        })
    }

    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// Waits for the turn of an event, in a cluster with a log.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Adds a socket.
    pub(super) fn add(&self, id: SocketId, socket: Socket, user: Option<&str>, tenant: Option<&str>, recovers: bool) {
        let user: Option<Arc<str>> = user.map(|user| names::scoped(tenant, user).into());
        let mut members = lock(&self.members);
        let recovery = match &self.rooms.peers {
            _ if !recovers => Recovery::Off,
            Some(peers) if peers.is_logged() => Recovery::Shared(None),
            _ => Recovery::From(self.rooms.log.next()),
        };
        members.add(id, socket, user.clone(), recovery);
        if let Some(peers) = &self.rooms.peers {
            user.iter().for_each(|user| peers.user_changed(&self.path, user, true));
        }
        drop(members);
        for room in std::iter::once(members::everyone()).chain(tenant.map(members::tenant)) {
            // Joins to the host's rooms are never refused.
            let _ = self.join(id, &room);
        }
    }

    /// Removes a socket that has disconnected from all its rooms. If it is `kept`, it may come back.
    pub(super) fn remove(&self, socket: SocketId, kept: bool) {
        let rooms = {
            let mut members = lock(&self.members);
            let removed = members.remove(socket, kept);
            if let Some(peers) = &self.rooms.peers {
                removed.left.iter().for_each(|left| peers.changed(self.change(&members, left)));
                for user in removed.user.iter().filter(|user| members.sockets_of(user).is_empty()) {
                    peers.user_changed(&self.path, user, false);
                }
            }
            removed.left
        };
        for left in rooms {
            self.rooms.note_change(&self.path, &left.room);
        }
    }

    /// Adds a socket that comes back in a cluster, to the rooms that it was in. Events for it wait until it has caught up. `begin` is
    /// called before any event can be sent to it.
    pub(super) fn come_back<R>(&self, back: ComingBack<'_>, begin: impl FnOnce() -> R) -> R {
        let ComingBack { id, socket, user, catch_up, rooms } = back;
        let begun = {
            let mut members = lock(&self.members);
            let begun = begin();
            members.add(id, socket, user.clone(), Recovery::Shared(Some(catch_up)));
            self.enter(&mut members, id, rooms);
            if let (Some(peers), Some(user)) = (&self.rooms.peers, &user) {
                peers.user_changed(&self.path, user, true);
            }
            begun
        };
        rooms.iter().for_each(|room| self.rooms.note_change(&self.path, room));
        begun
    }

    fn enter(&self, members: &mut Members, id: SocketId, rooms: &[Arc<str>]) {
        for room in rooms {
            if members.join(id, room, usize::MAX, 0) == Joined::Joined
                && let Some(peers) = &self.rooms.peers
            {
                peers.changed(self.joined(members, id, room));
            }
        }
    }

    /// Ends a socket that is away.
    pub(super) fn forget(&self, socket: SocketId) {
        lock(&self.members).forget(socket);
    }

    /// Brings a socket that is away back to its rooms. Returns what its client has missed since its last event, `offset`; None if the
    /// socket is not away.
    ///
    /// # Errors
    /// Not all that it missed is known. It stays away.
    pub async fn resume(&self, id: SocketId, socket: &Socket, offset: Option<u64>) -> Result<Option<Vec<Message>>, Gap> {
        let mut writing = 0;
        let resumed = loop {
            let resumed = {
                let mut members = lock(&self.members);
                let resumed = members.resume(id, socket.clone(), offset, &self.rooms.log);
                if let (Ok(Some(Back { rooms, .. })), Some(peers)) = (&resumed, &self.rooms.peers) {
                    members.user_of(id).into_iter().for_each(|user| peers.user_changed(&self.path, user, true));
                    rooms.iter().for_each(|room| peers.changed(self.joined(&members, id, room)));
                }
                resumed
            };
            match resumed {
                // Another thread is at it.
                Err(Gap::Writing) if writing < MAX_WRITING => {
                    writing += 1;
                    yield_now().await;
                }
                other => break other?,
            }
        };
        let Some(Back { missed, rooms }) = resumed else { return Ok(None) };
        rooms.iter().for_each(|room| self.rooms.note_change(&self.path, room));
        Ok(Some(missed))
    }

    /// The state of the sockets that are away, to be stored. None if no socket is away.
    pub fn save(&self) -> Option<Saved> {
        lock(&self.members).save()
    }

    /// Restores the stored state of the sockets that are away.
    pub(super) fn restore(&self, saved: Saved) {
        lock(&self.members).restore(saved);
    }

    /// Drops what is no longer in the log.
    pub(super) fn sweep(&self, first: u64) {
        lock(&self.members).sweep(first);
    }

    pub fn join(&self, socket: SocketId, room: &str) -> Result<(), TooManyRooms> {
        let joined = {
            let mut members = lock(&self.members);
            let joined = members.join(socket, room, self.rooms.per_socket, self.rooms.log.next());
            // Reported under the lock, so that the reports have the order of the changes.
            if let (Some(peers), Joined::Joined) = (&self.rooms.peers, &joined) {
                peers.changed(self.joined(&members, socket, room));
                if members.is_shared(socket) {
                    peers.moved(socket, room, true);
                }
            }
            joined
        };
        match joined {
            Joined::Joined => {
                self.rooms.note_change(&self.path, room);
                Ok(())
            }
            Joined::Already | Joined::Away | Joined::Removed => Ok(()),
            Joined::TooMany => Err(TooManyRooms),
        }
    }

    pub fn leave(&self, socket: SocketId, room: &str) {
        let left = {
            let mut members = lock(&self.members);
            let left = members.leave(socket, room, &self.rooms.log);
            if let (Some(peers), Some(left)) = (&self.rooms.peers, &left) {
                peers.changed(self.change(&members, left));
                if members.is_shared(socket) {
                    peers.moved(socket, room, false);
                }
            }
            left
        };
        if left.is_some() {
            self.rooms.note_change(&self.path, room);
        }
    }

    /// Every socket of a user joins or leaves a room, also those that are away.
    pub fn move_user(&self, user: &str, room: &str, joins: bool) {
        let sockets: SmallVec<[SocketId; 4]> = {
            let members = lock(&self.members);
            members.sockets_of(user).iter().chain(members.away_of(user)).copied().collect()
        };
        for socket in sockets {
            if joins {
                // A socket at its limit does not prevent the user's other sockets from joining.
                let _ = self.join(socket, room);
            } else {
                self.leave(socket, room);
            }
        }
    }

    /// The change for the other nodes after a socket has joined a room.
    fn joined(&self, members: &Members, socket: SocketId, room: &str) -> Change {
        let first = |user: &Arc<str>| members.user_in(user, room) == 1;
        let user = members.user_of(socket).filter(|user| first(user)).map(|user| (user.clone(), true));
        Change { namespace: self.path.clone(), room: room.into(), size: members.size(room), user }
    }

    /// The change for the other nodes after a socket has left a room.
    fn change(&self, members: &Members, left: &Left) -> Change {
        let last = |user: &Arc<str>| members.user_in(user, &left.room) == 0;
        let user = left.user.clone().filter(last).map(|user| (user, false));
        Change { namespace: self.path.clone(), room: left.room.clone(), size: members.size(&left.room), user }
    }

    /// The current state of all rooms, as one change for each room and for each of its users.
    pub fn count_changes(&self) -> Vec<Change> {
        let members = lock(&self.members);
        let mut changes = Vec::new();
        for room in members.rooms().filter(|room| !members::is_hosts(room)) {
            let change = |user| Change { namespace: self.path.clone(), room: room.clone(), size: members.size(room), user };
            changes.push(change(None));
            changes.extend(members.users_in(room).map(|user| change(Some((user.clone(), true)))));
        }
        changes
    }

    /// Reads the members, under their lock.
    pub fn members<R>(&self, read: impl FnOnce(&Members) -> R) -> R {
        read(&lock(&self.members))
    }

    pub fn size(&self, room: &str) -> Size {
        lock(&self.members).size(room)
    }

    pub fn socket(&self, id: SocketId) -> Option<Socket> {
        lock(&self.members).socket(id).cloned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is in as many rooms as it may be")]
pub struct TooManyRooms;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves whole values behind: they are only counted and copied there.
    mutex.lock()
}
