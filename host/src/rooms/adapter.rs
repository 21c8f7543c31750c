//! The socketioxide adapter of one namespace: joins, leaves and sends to the sockets of this node. Only this file and the gateway
//! name socketioxide. It never decides which sockets may join or what is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use socketioxide::adapter::Emitter;
use socketioxide_core::Value;
use socketioxide_core::adapter::errors::SocketError;
use socketioxide_core::adapter::{
    BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, Room, SocketEmitter,
};
use socketioxide_core::packet::Packet;
pub use socketioxide_core::{Sid, Str};

use super::members::{self, Joined, Left, Members, Size, part_name};
use super::peers::Change;
use super::{Rooms, Send, To};
use crate::names::{self, SocketId};

pub struct Adapter {
    local: CoreLocalAdapter<Emitter>,
    path: Arc<str>,
    rooms: Arc<Rooms>,
    members: Mutex<Members>,
    replaced: AtomicBool,
    /// Since when the namespace has no members.
    empty_since: Mutex<Option<Instant>>,
}

impl DefinedAdapter for Adapter {}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = Arc<Rooms>;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(rooms: &Arc<Rooms>, local: CoreLocalAdapter<Emitter>) -> Self {
        Self {
            path: local.path().as_str().into(),
            local,
            rooms: rooms.clone(),
            members: Mutex::default(),
            replaced: AtomicBool::new(false),
            empty_since: Mutex::new(Some(Instant::now())),
        }
    }

    /// Two first connects to one dynamic namespace create it twice. In socketioxide the second replaces the first one, after which
    /// the sockets of the first would receive nothing.
    fn init(self: Arc<Self>, on_success: impl FnOnce() + std::marker::Send + 'static) {
        let old = self.rooms.add(self.clone());
        on_success();
        if let Some(old) = old {
            self.rooms.replace(old);
        }
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, opts, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl Adapter {
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// Whether another adapter replaced this one, so that its sockets receive nothing.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    pub(crate) fn set_replaced(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    /// Adds a socket, before it is in the namespace for socketioxide.
    pub fn add(&self, socket: SocketId, sid: Sid, user: Option<&str>, tenant: Option<&str>) {
        *lock(&self.empty_since) = None;
        let user: Option<Arc<str>> = user.map(|user| names::scoped(tenant, user).into());
        let mut members = lock(&self.members);
        members.add(socket, sid, user.clone());
        if let Some(peers) = &self.rooms.peers {
            user.iter().for_each(|user| peers.user_changed(&self.path, user, true));
        }
        drop(members);
        for room in std::iter::once(members::everyone()).chain(tenant.map(members::tenant)) {
            // Joins to the host's rooms are never refused.
            let _ = self.join(socket, &room);
        }
    }

    /// Removes a socket that has disconnected from all its rooms.
    pub fn remove(&self, socket: SocketId) {
        let (rooms, empty) = {
            let mut members = lock(&self.members);
            let removed = members.remove(socket);
            if let Some(peers) = &self.rooms.peers {
                removed.left.iter().for_each(|left| peers.changed(self.change(&members, left)));
                for user in removed.user.iter().filter(|user| members.sockets_of(user).is_empty()) {
                    peers.user_changed(&self.path, user, false);
                }
            }
            (removed.left, members.is_empty())
        };
        for left in rooms {
            self.rooms.note_change(&self.path, &left.room);
        }
        if empty {
            *lock(&self.empty_since) = Some(Instant::now());
        }
    }

    pub fn join(&self, socket: SocketId, room: &str) -> Result<(), TooManyRooms> {
        let joined = {
            let mut members = lock(&self.members);
            let joined = members.join(socket, room, self.rooms.per_socket);
            // Reported under the lock, so that the reports have the order of the changes.
            if let (Some(peers), Joined::Part(..)) = (&self.rooms.peers, &joined) {
                peers.changed(self.joined(&members, socket, room));
            }
            joined
        };
        match joined {
            Joined::Part(sid, part) => {
                self.local.add_all(sid, part);
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
            if let (Some(peers), Some((.., left))) = (&self.rooms.peers, &left) {
                peers.changed(self.change(&members, left));
            }
            left
        };
        if let Some((sid, part, _)) = left {
            self.local.del(sid, part);
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

    /// How long the namespace has had no members.
    pub fn empty_for(&self) -> Option<Duration> {
        lock(&self.empty_since).map(|since| since.elapsed())
    }

    /// Acknowledges an event of one socket.
    pub fn ack(&self, sid: Sid, ack: i64, text: String) {
        let packet = Packet::ack(self.local.path().clone(), Value::Str(text.into(), None), ack);
        self.deliver(packet, || BroadcastOptions::new(sid), false);
    }

    /// Sends one of the host's own events to one socket.
    pub fn send_to_socket(&self, sid: Sid, text: String) {
        let packet = Packet::event(self.local.path().clone(), Value::Str(text.into(), None));
        self.deliver(packet, || BroadcastOptions::new(sid), false);
    }

    /// Disconnects a socket from this namespace by a packet. The client does not reconnect by itself.
    pub fn disconnect(&self, sid: Sid) {
        if self.local.disconnect_socket(BroadcastOptions::new(sid)).is_err() {
            // Its queue is full, or it has disconnected: the gateway checks which.
            self.rooms.report_full(&self.path, vec![sid]);
        }
    }

    /// Sends an event that requires acks. Returns a stream of the arrays of the acks' arguments, with None for a socket that does
    /// not answer in time, or answers with binary data.
    pub fn ask(
        &self,
        sockets: &[SocketId],
        text: &str,
        wait: Duration,
    ) -> FuturesUnordered<impl Future<Output = Option<String>> + use<>> {
        let text = Str::from(text.to_owned());
        let sids: Vec<Sid> = {
            let mut members = lock(&self.members);
            sockets.iter().filter_map(|socket| members.sid_sending(*socket, text.len())).collect()
        };
        self.rooms.deliveries.fetch_add(sids.len() as u64, Ordering::Relaxed);
        let ask = |sid| {
            let packet = Packet::event(self.local.path().clone(), Value::Str(text.clone(), None));
            let mut acks = Box::pin(self.local.broadcast_with_ack(packet, BroadcastOptions::new(sid), Some(wait)).0);
            async move {
                match acks.next().await?.1.ok()? {
                    Value::Str(args, binary) if binary.as_ref().is_none_or(VecDeque::is_empty) => Some(args.to_string()),
                    _ => None,
                }
            }
        };
        sids.into_iter().map(ask).collect()
    }

    /// The most sockets of this node that a send reaches: a socket in two of its rooms counts twice.
    pub fn reached(&self, to: &To<'_>) -> u64 {
        self.members(|members| {
            let of = |room: &str| members.reach(room).map_or(0, |reach| reach.members);
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
    pub async fn send(&self, send: Send<'_>) {
        if self.rooms.taps.is_on() {
            let reached = self.reached(&send.to);
            self.members(|members| self.rooms.taps.sent(&self.path, &send, reached, members));
        }
        let options = self.options(&send);
        let packet = || Packet::event(self.local.path().clone(), Value::Str(send.text.clone(), None));
        match send.to {
            To::Socket(socket) => self.to_sockets(&[socket], &send, packet),
            To::Users(users) => {
                for user in users {
                    let sockets: SmallVec<[SocketId; 4]> = lock(&self.members).sockets_of(user).into();
                    self.to_sockets(&sockets, &send, packet);
                }
            }
            To::TenantInRoom { tenant, room } => {
                let sockets = self.members(|members| members.in_both(&members::tenant(tenant), room));
                self.to_sockets(&sockets, &send, packet);
            }
            To::Tenant(tenant) => self.to_room(&members::tenant(tenant), options, &send, packet).await,
            To::Everyone => self.to_room(&members::everyone(), options, &send, packet).await,
            To::Rooms([room]) => self.to_room(room, options, &send, packet).await,
            To::Rooms(rooms) => self.to_rooms(rooms, options, &send, packet),
        }
    }

    fn options(&self, send: &Send<'_>) -> BroadcastOptions {
        let mut options = BroadcastOptions::default();
        if send.except_socket.is_none() && send.except.is_empty() {
            return options;
        }
        let members = lock(&self.members);
        if let Some(sid) = send.except_socket.and_then(|socket| members.sid(socket)) {
            options.sid = Some(sid);
            options.add_flag(BroadcastFlags::Broadcast);
        }
        for room in send.except {
            let parts = members.reach(room).map_or(0, |reach| reach.parts);
            options.except.extend((0..parts).map(|part| Room::from(part_name(room, part))));
        }
        options
    }

    fn to_sockets(&self, sockets: &[SocketId], send: &Send<'_>, packet: impl Fn() -> Packet) {
        for socket in sockets.iter().filter(|socket| Some(**socket) != send.except_socket) {
            let sid = {
                let mut members = lock(&self.members);
                let excepted = send.except.iter().any(|room| members.is_in(*socket, room));
                if excepted { None } else { members.sid_sending(*socket, send.text.len()) }
            };
            if let Some(sid) = sid {
                self.rooms.deliveries.fetch_add(1, Ordering::Relaxed);
                self.deliver(packet(), || BroadcastOptions::new(sid), send.volatile);
            }
        }
    }

    async fn to_room(&self, room: &str, options: BroadcastOptions, send: &Send<'_>, packet: impl Fn() -> Packet) {
        let Some(reach) = lock(&self.members).reach_sending(room, send.text.len()) else { return };
        self.rooms.deliveries.fetch_add(reach.members, Ordering::Relaxed);
        let _turn = match &reach.order {
            Some(order) => Some(order.lock().await),
            None => None,
        };
        for part in 0..reach.parts {
            if part > 0 {
                tokio::task::yield_now().await;
            }
            let to = || {
                let mut options = options.clone();
                options.rooms.push(part_name(room, part).into());
                options
            };
            self.deliver(packet(), to, send.volatile);
        }
    }

    /// Sends to several rooms at once, without pauses between parts: each member receives the event once.
    fn to_rooms(&self, rooms: &[String], mut options: BroadcastOptions, send: &Send<'_>, packet: impl Fn() -> Packet) {
        for room in rooms {
            if let Some(reach) = lock(&self.members).reach_sending(room, send.text.len()) {
                self.rooms.deliveries.fetch_add(reach.members, Ordering::Relaxed);
                options.rooms.extend((0..reach.parts).map(|part| Room::from(part_name(room, part))));
            }
        }
        if !options.rooms.is_empty() {
            self.deliver(packet(), || options.clone(), send.volatile);
        }
    }

    /// Puts a packet into the members' queues. `to` is called a second time only if one of them is full.
    fn deliver(&self, packet: Packet, to: impl Fn() -> BroadcastOptions, volatile: bool) {
        let Err(errors) = self.local.broadcast(packet, to()) else { return };
        if !volatile && errors.iter().any(|e| matches!(e, SocketError::InternalChannelFull)) {
            // The errors name no socket: the gateway checks which queue is full.
            let sids = self.local.sockets(to());
            self.rooms.report_full(&self.path, sids);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket is in as many rooms as it may be")]
pub struct TooManyRooms;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves whole values behind: they are only counted and copied there.
    mutex.lock()
}
