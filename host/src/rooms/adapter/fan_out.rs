//! Sends an event to its recipients in a namespace.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use hubbub_wire::{Asked, Outgoing, Socket, next_ask};
use smallvec::SmallVec;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::{Adapter, lock};
use crate::json::{self, InvalidJson};
use crate::names::SocketId;
use crate::recovery::log::Reserved;
use crate::rooms::members::{self, Members, Order, Recipient};
use crate::rooms::packet::{Packet, ends_in_text};
use crate::rooms::{Send, To};

impl Adapter {
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
        for recipient in recipients {
            count += 1;
            packet.deliver(recipient);
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
