//! What the layer above a wire does: lets connections and sockets in, takes events, and is told of ends.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;

use crate::id::{PrivateId, SocketId};
use crate::json;
use crate::link::Link;
use crate::message::Message;
use crate::reason::Reason;
use crate::socket::{Connection, Socket};

/// The layer above a wire.
///
/// The calls of one connection come one at a time and in the order of its packets. All but `open` and `connect` are made where
/// packets are read, so they must not wait; a handler that cannot keep up calls [`Connection::pause`]. No lock is held during a call.
pub trait Handler: Send + Sync + Sized + 'static {
    /// What is kept of a connection, from its first request to its end. It is cloned for each connect.
    type Connection: Clone + Send + Sync + 'static;

    /// What is kept of a socket while it is connected.
    type Socket: Send + Sync + 'static;

    /// A client wants a connection. Nothing has been answered yet, so this may wait, and may refuse with a response of its own.
    ///
    /// Headers and path are pieces of the buffer that the request was read into, and keep all of it: copy what is to be kept.
    ///
    /// Each connection that is let in is told of by [`Handler::closed`] once, also where its handshake fails.
    fn open(self: Arc<Self>, request: Parts) -> impl Future<Output = Result<Self::Connection, Response>> + Send;

    /// A client wants a socket in a namespace. Nothing has been answered yet, so this may wait, and may refuse with data.
    ///
    /// Any namespace comes here, and one that nobody is in costs nothing; one that does not exist is refused with
    /// [`Refused::unknown_namespace`]. The socket may be sent to already: what is sent to it is kept, and follows the answer. Events
    /// that the client sends early are delivered after [`Handler::connected`].
    ///
    /// It runs to its end also where the connection ends meanwhile. Each socket that is let in is told of by
    /// [`Handler::disconnected`] once.
    fn connect(
        self: Arc<Self>,
        connect: Connect<Self>,
    ) -> impl Future<Output = Result<Accepted<Self::Socket>, Refused>> + Send + 'static;

    /// A message of the engine, before it is read as a packet of Socket.IO. True: it was taken here, and is not read further. So a
    /// protocol of one's own can be spoken over Engine.IO; a namespace must then be connected in
    /// [`Config::connect_timeout`](crate::Config::connect_timeout) all the same.
    fn message(&self, message: EngineMessage<'_>) -> bool {
        let _ = message;
        false
    }

    /// The client has been told that it is connected.
    fn connected(&self, socket: &Socket, data: &Self::Socket) {
        let _ = (socket, data);
    }

    /// A client has sent an event.
    fn event(&self, socket: &Socket, data: &Self::Socket, event: Event<'_>);

    /// A socket has ended. It is the last call for it.
    fn disconnected(&self, socket: &Socket, data: Self::Socket, reason: Reason) {
        let _ = (socket, data, reason);
    }

    /// A connection has ended, and all its sockets before it. It is the last call for it.
    fn closed(&self, data: Self::Connection, reason: Reason) {
        let _ = (data, reason);
    }

    /// Something has happened that ends nothing.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }
}

/// A client that wants a socket in a namespace.
pub struct Connect<H: Handler> {
    /// What is kept of its connection.
    pub connection: H::Connection,
    /// The socket, which is not connected yet.
    pub socket: Socket,
    /// The client's `auth`, a JSON object as it came.
    pub auth: Option<Box<str>>,
}

impl<H: Handler> Connect<H> {
    /// Gives the socket the ids of an earlier one, which its client resumes. To be called before the ids of the socket are read;
    /// false: that has happened.
    #[must_use]
    pub fn resume(&self, id: SocketId, private: PrivateId) -> bool {
        self.socket.resume(id, private)
    }

    /// The connection's handle.
    pub fn handle(&self) -> Connection {
        self.socket.connection()
    }
}

/// A socket that is let in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What is kept of it while it is connected.
    pub data: S,
    /// Whether the client is told its private id (`pid`), so that it may resume the socket on another connection.
    pub recoverable: bool,
    /// What the client missed, in order. It is sent before the answer.
    pub missed: Vec<Message>,
}

impl<S> Accepted<S> {
    /// A new socket that its client does not resume.
    pub fn new(data: S) -> Self {
        Self { data, recoverable: false, missed: Vec::new() }
    }
}

/// A client that is not let into a namespace: what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The `message` of the client's `connect_error`.
    pub message: Cow<'static, str>,
    /// The `data` of the client's `connect_error`, as JSON.
    pub data: Option<String>,
}

impl Refused {
    /// A refusal with a message alone.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// The answer of Node's server where there is no such namespace.
    pub fn unknown_namespace() -> Self {
        Self::new("Invalid namespace")
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json = br#"{"message":"#.to_vec();
        json::quote(&self.message, &mut json);
        if let Some(data) = &self.data {
            json.extend_from_slice(br#","data":"#);
            json.extend_from_slice(data.as_bytes());
        }
        json.push(b'}');
        json
    }
}

/// An event of a client. Its texts lie where they were read: copy what is to be kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The name, with JSON's escapes resolved. Half a surrogate pair in it is U+FFFD.
    pub name: Cow<'a, str>,
    /// The arguments as JSON, without the array's brackets, as they came. Attachments are `{"_placeholder":true,"num":N}` in it;
    /// no `N` has been checked.
    pub args: &'a str,
    /// The number to answer with, where the client wants an answer.
    pub ack: Option<u64>,
    /// The attachments, in the order of their numbers.
    pub attachments: Vec<Bytes>,
    /// Whether the packet is of a type that has attachments, also where it has none.
    pub is_binary: bool,
}

/// A message of the engine.
pub struct EngineMessage<'a> {
    pub(crate) link: &'a Arc<Link>,
    /// What it carries.
    pub body: EngineBody<'a>,
}

/// What a message of the engine carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineBody<'a> {
    /// A text, without the type of the engine's packet.
    Text(&'a str),
    /// Bytes.
    Binary(&'a Bytes),
}

impl EngineMessage<'_> {
    /// The connection that it came from.
    pub fn connection(&self) -> Connection {
        Connection(self.link.clone())
    }
}

/// Something that ends nothing, and is worth counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A polling connection is a websocket now.
    Upgraded,
    /// An upgrade from polling to websocket has failed. The connection polls on.
    UpgradeFailed(UpgradeError),
    /// A POST had more bytes than [`Config::max_payload`](crate::Config::max_payload), and was answered 413.
    BodyTooLong,
    /// A POST took longer than [`Config::body_timeout`](crate::Config::body_timeout), and was answered 408.
    BodyTooSlow,
}

/// Why an upgrade from polling to websocket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeError {
    /// The websocket ended.
    Closed,
    /// It was not completed in time.
    Timeout,
    /// The client sent something else than an upgrade's packets.
    Unexpected,
    /// The session ended meanwhile.
    SessionEnded,
}

impl UpgradeError {
    /// The error as metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Unexpected => "unexpected",
            Self::SessionEnded => "session_ended",
        }
    }
}
