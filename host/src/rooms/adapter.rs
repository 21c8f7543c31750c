//! One namespace of this node: joins, leaves and sends to its sockets. It never decides which sockets may join or what is sent.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use hubbub_wire::{Asked, Message, Outgoing, Socket, next_ask};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::history::{Back, Gap};
use super::members::away::Saved;
use super::members::{self, Joined, Left, Members, Order, Recipient, Recovery, Size};
use super::packet::{Packet, ends_in_text};
use super::peers::Change;
use super::{Rooms, Send, To};
use crate::json::{self, InvalidJson};
use crate::names::{self, SocketId};
use crate::recovery::log::Reserved;

/// How often a socket that comes back waits for an event that is being encoded.
const MAX_WRITING: usize = 10_000;

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
    pub(super) fn add(&self, id: SocketId, socket: Socket, user: Option<&str>, tenant: Option<&str>, recovers: bool) {
        let user: Option<Arc<str>> = user.map(|user| names::scoped(tenant, user).into());
        let mut members = lock(&self.members);
        let recovery = if recovers { Recovery::From(self.rooms.log.next()) } else { Recovery::Off };
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
            To::Socket(socket) => self.to_sockets(send, None, |members, note| {
                note.iter().for_each(|note| members.note_socket(socket, note.position, note.first));
                members.recipient(socket).into_iter().collect()
            }),
            To::Users(users) => self.to_sockets(send, None, |members, note| {
                if let Some(note) = note {
                    users.iter().for_each(|user| members.note_user(user, note.position, note.first));
                }
                let sockets = users.iter().flat_map(|user| members.sockets_of(user));
                sockets.filter_map(|socket| members.recipient(*socket)).collect()
            }),
            To::TenantInRoom { tenant, room } => {
                let tenant = members::tenant(tenant);
                self.to_sockets(send, Some(&tenant), |members, note| {
                    note.iter().for_each(|note| members.note_room(room, note.position, note.first));
                    let sockets = members.in_both(&tenant, room);
                    sockets.into_iter().filter_map(|socket| members.recipient(socket)).collect()
                });
            }
        }
        None
    }

    /// Reserves the position of an event in the log, under the lock of the members. None: no client could come back for it.
    fn note(&self, members: &Members, send: &Send<'_>) -> Option<Reserved> {
        let is_logged = members.is_logged() && (!send.volatile || ends_in_text(send.text));
        is_logged.then(|| self.rooms.log.reserve())
    }

    /// Sends to sockets, which are read under the lock of the members. `only` is a room that limits them.
    fn to_sockets(
        &self,
        send: &Send<'_>,
        only: Option<&str>,
        read: impl FnOnce(&mut Members, Option<Reserved>) -> SmallVec<[Recipient; 4]>,
    ) {
        let (recipients, note) = {
            let mut members = lock(&self.members);
            let note = self.note(&members, send);
            let mut recipients = read(&mut members, note);
            let excepted = Excepted::new(&members, send);
            recipients.retain(|recipient| !excepted.has(recipient.id));
            (recipients, note)
        };
        if !recipients.is_empty() || note.is_some() {
            self.deliver(recipients.iter(), &self.packet(send, note, only));
        }
    }

    fn packet<'a>(&'a self, send: &'a Send<'_>, note: Option<Reserved>, only: Option<&str>) -> Packet<'a> {
        Packet::new(&self.path, send, note.map(|note| note.position), &self.rooms.log, only)
    }

    /// Sends to a room of one part.
    fn to_room(&self, room: &str, send: &Send<'_>) -> Option<Parts> {
        let (first, order, note, excepted) = {
            let mut members = lock(&self.members);
            let (first, order) = (members.part(room, 0), members.order(room));
            if first.is_none() && !members.is_logged() {
                return None;
            }
            let note = self.note(&members, send);
            note.iter().for_each(|note| members.note_room(room, note.position, note.first));
            (first, order, note, Excepted::new(&members, send))
        };
        if let Some(order) = order {
            return Some(Parts { room: room.to_owned(), order, note, excepted });
        }
        let packet = self.packet(send, note, None);
        first.iter().for_each(|part| self.to_part(part, &excepted, &packet));
        None
    }

    /// Sends to a room of several parts. Between two parts it yields to other tasks.
    async fn to_parts(&self, parts: Parts, send: &Send<'_>) {
        let Parts { room, order, note, excepted } = parts;
        let packet = self.packet(send, note, None);
        let _turn = order.lock().await;
        for at in 0.. {
            if at > 0 {
                yield_now().await;
            }
            // Each part as it is when its turn comes.
            let Some(part) = self.members(|members| members.part(&room, at)) else { return };
            self.to_part(&part, &excepted, &packet);
        }
    }

    fn to_part(&self, part: &[Recipient], excepted: &Excepted, packet: &Packet<'_>) {
        self.deliver(part.iter().filter(|recipient| !excepted.has(recipient.id)), packet);
    }

    /// Sends to several rooms at once, without pauses between parts: each member receives the event once.
    fn to_rooms(&self, rooms: &[String], send: &Send<'_>) {
        let (recipients, note) = {
            let mut members = lock(&self.members);
            let note = self.note(&members, send);
            if let Some(note) = note {
                rooms.iter().for_each(|room| members.note_room(room, note.position, note.first));
            }
            let (excepted, mut seen) = (Excepted::new(&members, send), HashSet::new());
            let all = rooms.iter().flat_map(|room| members.members_of(room));
            let recipients: Vec<Recipient> =
                all.filter(|recipient| !excepted.has(recipient.id) && seen.insert(recipient.id)).cloned().collect();
            (recipients, note)
        };
        if !recipients.is_empty() || note.is_some() {
            self.deliver(recipients.iter(), &self.packet(send, note, None));
        }
    }

    /// Sends a packet. The wire disconnects a client whose queue is full.
    fn deliver<'a>(&self, recipients: impl Iterator<Item = &'a Recipient>, packet: &Packet<'_>) {
        let mut count = 0;
        for Recipient { socket, since, .. } in recipients {
            count += 1;
            packet.deliver(socket, *since);
        }
        self.rooms.deliveries.fetch_add(count, Ordering::Relaxed);
    }
}

/// A room of several parts.
struct Parts {
    room: String,
    order: Order,
    note: Option<Reserved>,
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
