//! The handles: a [`Socket`] is one client in one namespace, a [`Connection`] carries the sockets of one client.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::asks::{AskError, Asked};
use crate::handler::EngineBody;
use crate::id::{PrivateId, SocketId};
use crate::link::{How, Link, Sent};
use crate::message::Message;
use crate::positions::{Positions, Sequence};
use crate::reason::Reason;

/// One client in one namespace. A clone is cheap, and does not keep the connection open.
#[derive(Clone)]
pub struct Socket(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) link: Arc<Link>,
    namespace: Box<str>,
    ids: OnceLock<(SocketId, PrivateId)>,
    state: AtomicU8,
    /// Messages that were sent before the CONNECT was answered. They follow the answer.
    held: Mutex<Vec<Message>>,
    positions: Positions,
}

/// Its CONNECT is not answered yet.
const CONNECTING: u8 = 0;
const CONNECTED: u8 = 1;
/// The handler has disconnected it, and the connection's task has not ended it yet.
const LEAVING: u8 = 2;
const GONE: u8 = 3;

impl Socket {
    pub(crate) fn new(link: Arc<Link>, namespace: &str) -> Self {
        Self(Arc::new(Inner {
            link,
            namespace: namespace.into(),
            ids: OnceLock::new(),
            state: AtomicU8::new(CONNECTING),
            held: Mutex::default(),
            positions: Positions::default(),
        }))
    }

    /// A socket without a client: what is sent to it is dropped. For tests of a handler.
    pub fn unconnected(namespace: &str) -> Self {
        let socket = Self::new(Link::unconnected(), namespace);
        socket.gone();
        socket
    }

    fn ids(&self) -> &(SocketId, PrivateId) {
        self.0.ids.get_or_init(|| (SocketId::random(), PrivateId::random()))
    }

    /// The public id: `socket.id` of its client.
    pub fn id(&self) -> SocketId {
        self.ids().0
    }

    /// The secret with which its client can resume it. It is sent to the client only if [`Accepted::recoverable`] is set.
    ///
    /// [`Accepted::recoverable`]: crate::Accepted::recoverable
    pub fn private_id(&self) -> PrivateId {
        self.ids().1
    }

    /// Sets the ids. Returns false if the socket has ids already.
    pub(crate) fn resume(&self, id: SocketId, private: PrivateId) -> bool {
        self.0.ids.set((id, private)).is_ok()
    }

    /// The namespace, `/` or `/…`.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Its connection, which may carry sockets of other namespaces.
    pub fn connection(&self) -> Connection {
        Connection(self.0.link.clone())
    }

    /// Whether its CONNECT was answered and it has not ended.
    pub fn is_connected(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == CONNECTED
    }

    /// Sends a message. It is written at once if the queue is empty. Before the CONNECT is answered, messages are held.
    pub fn send(&self, message: &Message) -> Sent {
        self.deliver(message, false, None)
    }

    /// Sends an event that has a position in the application's log, as [`Outgoing::offset`](crate::Outgoing::offset) says it. See
    /// [`Socket::sequence`].
    pub fn send_at(&self, message: &Message, position: u64) -> Sent {
        self.deliver(message, false, Some(position))
    }

    /// The order in which events with positions were sent, as far as it differs from that of the positions.
    pub fn sequence(&self) -> Sequence {
        self.0.positions.sequence()
    }

    /// Sends a message, or drops it if the queue is full.
    pub fn send_volatile(&self, message: &Message) -> Sent {
        self.deliver(message, true, None)
    }

    /// As [`Socket::send_volatile`], for an event that has a position.
    pub fn send_volatile_at(&self, message: &Message, position: u64) -> Sent {
        self.deliver(message, true, Some(position))
    }

    fn deliver(&self, message: &Message, volatile: bool, position: Option<u64>) -> Sent {
        let note = || position.into_iter().for_each(|position| self.0.positions.note(position));
        match self.0.state.load(Ordering::Acquire) {
            CONNECTED => self.0.link.send_noting(message, volatile, note),
            CONNECTING => self.hold(message, volatile, note),
            _ => Sent::Closed,
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Message>> {
        // No code that can panic runs under this lock.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `note` is called under the lock that orders the messages of the socket.
    fn hold(&self, message: &Message, volatile: bool, note: impl FnOnce()) -> Sent {
        let mut held = self.held();
        // The CONNECT may have been answered meanwhile.
        match self.0.state.load(Ordering::Acquire) {
            CONNECTING => {
                match self.0.link.config.queue_limit(held.len(), held.iter().map(Message::size).sum(), message.size()) {
                    None => {
                        note();
                        held.push(message.clone());
                        Sent::Queued
                    }
                    Some(_) if volatile => Sent::Dropped,
                    Some(limit) => {
                        self.0.link.end(Reason::SlowConsumer(limit), How::Abort);
                        Sent::Closed
                    }
                }
            }
            CONNECTED => self.0.link.send_noting(message, volatile, note),
            _ => Sent::Closed,
        }
    }

    /// Answers an event. `args` are the answer's arguments as JSON, without the array's brackets.
    pub fn ack(&self, id: u64, args: &str) -> Sent {
        self.send(&Message::ack(self.namespace(), id, args, &[]))
    }

    /// Answers an event with attachments.
    pub fn ack_with(&self, id: u64, args: &str, attachments: &[Bytes]) -> Sent {
        self.send(&Message::ack(self.namespace(), id, args, attachments))
    }

    /// Sends an event that the client is to answer. `message` must be encoded with the same number as
    /// [`Outgoing::ask`](crate::Outgoing::ask).
    ///
    /// # Errors
    /// Too many answers are awaited from this client, or the socket has ended.
    pub fn ask(&self, message: &Message, number: u64) -> Result<Asked, AskError> {
        let asked = self.0.link.asks.add(Arc::downgrade(&self.0.link), self.namespace(), number)?;
        match self.send(message) {
            Sent::Closed => Err(AskError::Closed),
            Sent::Written | Sent::Queued | Sent::Dropped => Ok(asked),
        }
    }

    /// Disconnects the client from this namespace with a DISCONNECT packet, after which a stock client does not reconnect by itself.
    /// After [`Connection::close`] it does.
    pub fn disconnect(&self) {
        let leave = |state: u8| (state <= CONNECTED).then_some(LEAVING);
        match self.0.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave) {
            Ok(CONNECTED) => {
                self.0.link.send(&Message::disconnect(self.namespace()), false);
                self.0.link.sweep_later();
            }
            Ok(_) => self.0.link.sweep_later(),
            Err(_) => {}
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == LEAVING
    }

    /// Answers the CONNECT: after the missed messages, before the held ones.
    pub(crate) fn open(&self, missed: &[Message], connect: &Message) {
        let mut held = self.held();
        let link = &self.0.link;
        link.send_missed(missed);
        for message in [connect].into_iter().chain(held.iter()) {
            link.send(message, false);
        }
        *held = Vec::new();
        if self.0.state.compare_exchange(CONNECTING, CONNECTED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // The handler has disconnected it before it was connected.
            link.send(&Message::disconnect(self.namespace()), false);
        }
    }

    /// Marks it as ended.
    pub(crate) fn gone(&self) {
        self.0.state.store(GONE, Ordering::Release);
        *self.held() = Vec::new();
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl Hash for Socket {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // To read the id would fix it, and a socket that is being resumed has none yet.
        f.debug_tuple("Socket").field(&self.namespace()).field(&self.0.ids.get().map(|ids| ids.0)).finish()
    }
}

/// One connection of a client, over any transport.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Link>);

impl Connection {
    /// Closes the connection after its queue was sent. A stock client reconnects by itself. Its sockets end with [`Reason::Closed`]
    /// and this label. Returns false if the connection had ended before.
    pub fn close(&self, label: &'static str) -> bool {
        self.0.end(Reason::Closed(label), How::Flush)
    }

    /// Closes the connection at once, and drops its queue.
    pub fn abort(&self, label: &'static str) -> bool {
        self.0.end(Reason::Closed(label), How::Abort)
    }

    /// Disconnects the client from all its namespaces, as [`Socket::disconnect`] does from one.
    pub fn disconnect(&self) {
        self.0.disconnect_all();
    }

    /// Stops reading from the client until [`Connection::resume`] is called as often. There is no ping timeout meanwhile.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Resumes reading after [`Connection::pause`].
    pub fn resume(&self) {
        self.0.resume();
    }

    /// Sends a message of the engine, for protocols other than Socket.IO.
    pub fn send(&self, body: EngineBody<'_>) -> Sent {
        let message = match body {
            EngineBody::Text(text) => Message::engine(&format!("4{text}")),
            EngineBody::Binary(bytes) => Message::binary(bytes),
        };
        self.0.send(&message, false)
    }

    /// A random number from 0 to 1 that never changes, to spread work over all connections, such as closing them one after the other.
    pub fn spread(&self) -> f64 {
        self.0.id.fraction()
    }

    /// Packets and bytes in the queue.
    pub fn waiting(&self) -> (usize, usize) {
        self.0.waiting()
    }

    /// Whether it is a websocket now.
    pub fn is_websocket(&self) -> bool {
        self.0.is_websocket()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connection {}
