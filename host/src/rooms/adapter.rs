//! One namespace of this node: joins, leaves and sends to its sockets. It never decides which sockets may join or what is sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use hubbub_wire::{Asked, Message, Outgoing, Socket, next_ask};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::time::timeout;

use super::members::{self, Joined, Left, Members, Order, Recipient, Size};
use super::peers::Change;
use super::{Rooms, Send, To};
use crate::json::{self, InvalidJson};
use crate::names::{self, SocketId};

pub struct Adapter {
    path: Arc<str>,
    rooms: Arc<Rooms>,
    members: Mutex<Members>,
    /// It is not removed when it has no members.
    kept: AtomicBool,
}

impl Adapter {
    pub(super) fn new(path: &str, rooms: Arc<Rooms>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), rooms, members: Mutex::default(), kept: AtomicBool::new(false) })
    }

    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Adds a socket.
    pub(super) fn add(&self, id: SocketId, socket: Socket, user: Option<&str>, tenant: Option<&str>) {
        let user: Option<Arc<str>> = user.map(|user| names::scoped(tenant, user).into());
        let mut members = lock(&self.members);
        members.add(id, socket, user.clone());
        if let Some(peers) = &self.rooms.peers {
            user.iter().for_each(|user| peers.user_changed(&self.path, user, true));
        }
        drop(members);
        for room in std::iter::once(members::everyone()).chain(tenant.map(members::tenant)) {
            // Joins to the host's rooms are never refused.
            let _ = self.join(id, &room);
        }
    }

    /// Removes a socket that has disconnected from all its rooms.
    pub(super) fn remove(&self, socket: SocketId) {
        let rooms = {
            let mut members = lock(&self.members);
            let removed = members.remove(socket);
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

    pub fn join(&self, socket: SocketId, room: &str) -> Result<(), TooManyRooms> {
        let joined = {
            let mut members = lock(&self.members);
            let joined = members.join(socket, room, self.rooms.per_socket);
            // Reported under the lock, so that the reports have the order of the changes.
            if let (Some(peers), Joined::Joined) = (&self.rooms.peers, &joined) {
                peers.changed(self.joined(&members, socket, room));
            }
            joined
        };
        match joined {
            Joined::Joined => {
                self.rooms.note_change(&self.path, room);
                Ok(())
            }
            Joined::Already | Joined::Removed => Ok(()),
            Joined::TooMany => Err(TooManyRooms),
        }
    }

    pub fn leave(&self, socket: SocketId, room: &str) {
        let left = {
            let mut members = lock(&self.members);
            let left = members.leave(socket, room);
            if let (Some(peers), Some(left)) = (&self.rooms.peers, &left) {
                peers.changed(self.change(&members, left));
            }
            left
        };
        if left.is_some() {
            self.rooms.note_change(&self.path, room);
        }
    }

    /// Every socket of a user joins or leaves a room.
    pub fn move_user(&self, user: &str, room: &str, joins: bool) {
        let sockets: SmallVec<[SocketId; 4]> = lock(&self.members).sockets_of(user).into();
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

    /// Sends an event that requires acks. Returns a stream of the arrays of the acks' arguments, with None for a socket that does
    /// not answer in time, or answers with binary data.
    ///
    /// # Errors
    /// `text` is not an event.
    pub fn ask(
        &self,
        sockets: &[SocketId],
        text: &str,
        wait: Duration,
    ) -> Result<FuturesUnordered<impl Future<Output = Option<String>> + use<>>, InvalidJson> {
        let (name, args) = json::split_event(text)?;
        let number = next_ask();
        let message = Outgoing { namespace: &self.path, name: &name, args, ask: Some(number), ..Outgoing::default() }.encode();
        let sockets: Vec<Socket> = {
            let members = lock(&self.members);
            sockets.iter().filter_map(|socket| members.socket(*socket).cloned()).collect()
        };
        self.rooms.deliveries.fetch_add(sockets.len() as u64, Ordering::Relaxed);
        let answer = |asked: Option<Asked>| async move {
            let answer = timeout(wait, asked?).await.ok()?.ok()?;
            answer.attachments.is_empty().then(|| format!("[{}]", answer.args))
        };
        Ok(sockets.iter().map(|socket| answer(socket.ask(&message, number).ok())).collect())
    }

    /// The most sockets of this node that a send reaches: a socket in two of its rooms counts twice.
    pub fn reached(&self, to: &To<'_>) -> u64 {
        self.members(|members| {
            let of = |room: &str| members.count(room);
            match to {
                To::Socket(_) => 1,
                To::Rooms(rooms) => rooms.iter().map(|room| of(room)).sum(),
                To::TenantInRoom { tenant, room } => of(room).min(of(&members::tenant(tenant))),
                To::Users(users) => users.iter().map(|user| members.sockets_of(user).len() as u64).sum(),
                To::Tenant(tenant) => of(&members::tenant(tenant)),
                To::Everyone => of(&members::everyone()),
            }
        })
    }

    /// Sends an event. Waits only in a room of more than one part, where it yields to other tasks between two parts.
    pub async fn send(&self, send: &Send<'_>) {
        if let Some(parts) = self.send_now(send) {
            // Boxed: few rooms have several parts, and each call's future has room for what is not.
            Box::pin(self.to_parts(parts, send)).await;
        }
    }

    /// Sends an event, unless it is to a room of more than one part: that is returned.
    fn send_now(&self, send: &Send<'_>) -> Option<Parts> {
        if self.rooms.taps.is_on() {
            let reached = self.reached(&send.to);
            self.members(|members| self.rooms.taps.sent(&self.path, send, reached, members));
        }
        match send.to {
            To::Tenant(tenant) => return self.to_room(&members::tenant(tenant), send),
            To::Everyone => return self.to_room(&members::everyone(), send),
            To::Rooms([room]) => return self.to_room(room, send),
            To::Rooms(rooms) => self.to_rooms(rooms, send),
            To::Socket(socket) => self.to_sockets(&[socket], send),
            To::Users(users) => {
                let sockets = self.members(|members| {
                    users.iter().flat_map(|user| members.sockets_of(user)).copied().collect::<SmallVec<[SocketId; 4]>>()
                });
                self.to_sockets(&sockets, send);
            }
            To::TenantInRoom { tenant, room } => {
                let sockets = self.members(|members| members.in_both(&members::tenant(tenant), room));
                self.to_sockets(&sockets, send);
            }
        }
        None
    }

    /// Sends to sockets that may have disconnected meanwhile.
    fn to_sockets(&self, sockets: &[SocketId], send: &Send<'_>) {
        let recipients: SmallVec<[Recipient; 4]> = {
            let members = lock(&self.members);
            let excepted = Excepted::new(&members, send);
            let recipient = |id: &SocketId| Some(Recipient { id: *id, socket: members.socket(*id)?.clone() });
            sockets.iter().filter_map(recipient).filter(|recipient| !excepted.has(recipient.id)).collect()
        };
        if !recipients.is_empty() {
            self.deliver(recipients.iter(), &self.message(send), send.volatile);
        }
    }

    /// Sends to a room of one part.
    fn to_room(&self, room: &str, send: &Send<'_>) -> Option<Parts> {
        let (first, order, excepted) = {
            let members = lock(&self.members);
            (members.part(room, 0)?, members.order(room), Excepted::new(&members, send))
        };
        if let Some(order) = order {
            return Some(Parts { room: room.to_owned(), order, excepted });
        }
        self.to_part(&first, &excepted, &self.message(send), send.volatile);
        None
    }

    /// Sends to a room of several parts. Between two parts it yields to other tasks.
    async fn to_parts(&self, parts: Parts, send: &Send<'_>) {
        let Parts { room, order, excepted } = parts;
        let message = self.message(send);
        let _turn = order.lock().await;
        for at in 0.. {
            if at > 0 {
                tokio::task::yield_now().await;
            }
            // Each part as it is when its turn comes.
            let Some(part) = self.members(|members| members.part(&room, at)) else { return };
            self.to_part(&part, &excepted, &message, send.volatile);
        }
    }

    fn to_part(&self, part: &[Recipient], excepted: &Excepted, message: &Message, volatile: bool) {
        self.deliver(part.iter().filter(|recipient| !excepted.has(recipient.id)), message, volatile);
    }

    /// Sends to several rooms at once, without pauses between parts: each member receives the event once.
    fn to_rooms(&self, rooms: &[String], send: &Send<'_>) {
        let recipients: Vec<Recipient> = {
            let members = lock(&self.members);
            let (excepted, mut seen) = (Excepted::new(&members, send), HashSet::new());
            let all = rooms.iter().flat_map(|room| members.members_of(room));
            all.filter(|recipient| !excepted.has(recipient.id) && seen.insert(recipient.id)).cloned().collect()
        };
        if !recipients.is_empty() {
            self.deliver(recipients.iter(), &self.message(send), send.volatile);
        }
    }

    /// The packet that all recipients share.
    fn message(&self, send: &Send<'_>) -> Message {
        Message::event(&self.path, send.text)
    }

    /// Sends a packet. The wire disconnects a client whose queue is full.
    fn deliver<'a>(&self, recipients: impl Iterator<Item = &'a Recipient>, message: &Message, volatile: bool) {
        let mut count = 0;
        for Recipient { socket, .. } in recipients {
            count += 1;
            if volatile {
                socket.send_volatile(message);
            } else {
                socket.send(message);
            }
        }
        self.rooms.deliveries.fetch_add(count, Ordering::Relaxed);
    }
}

/// A room of several parts.
struct Parts {
    room: String,
    order: Order,
    excepted: Excepted,
}

/// The sockets that are left out of a send.
struct Excepted {
    socket: Option<SocketId>,
    members: HashSet<SocketId>,
}

impl Excepted {
    fn new(members: &Members, send: &Send<'_>) -> Self {
        let all = send.except.iter().flat_map(|room| members.members_of(room)).map(|member| member.id);
        Self { socket: send.except_socket, members: all.collect() }
    }

    fn has(&self, socket: SocketId) -> bool {
        self.socket == Some(socket) || (!self.members.is_empty() && self.members.contains(&socket))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is in as many rooms as it may be")]
pub struct TooManyRooms;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves whole values behind: they are only counted and copied there.
    mutex.lock()
}
