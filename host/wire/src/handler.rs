//! The [`Handler`] trait: it accepts connections and sockets, receives events, and is called when they end.

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

/// The application of a wire.
///
/// Calls for one connection are made one at a time, in the order of its packets. All but `open` and `connect` are made from the task
/// that reads the connection, so they must not block; a handler that cannot keep up calls [`Connection::pause`]. The wire holds no
/// lock during a call.
pub trait Handler: Send + Sync + Sized + 'static {
    /// The handler's own data of a connection. It is cloned for each connect.
    type Connection: Clone + Send + Sync + 'static;

    /// The handler's own data of a connected socket.
    type Socket: Send + Sync + 'static;

    /// Decides whether a client may open a connection. It runs before the client gets any answer, may wait, and may refuse with a
    /// response of its own.
    ///
    /// Headers and URI share the buffer that the request was read into: copy the parts that are kept, or all of it stays in memory.
    ///
    /// Each accepted connection ends with one call of [`Handler::closed`], even if its handshake fails later.
    fn open(self: Arc<Self>, request: Parts) -> impl Future<Output = Result<Self::Connection, Response>> + Send;

    /// Decides whether a client may connect to a namespace. It runs before the client gets any answer, may wait, and may refuse with
    /// data.
    ///
    /// It is called for any namespace, and the wire keeps no list of them; a namespace that does not exist is refused with
    /// [`Refused::unknown_namespace`]. Messages may be sent to the socket already: they are held, and follow the answer. Events that
    /// the client sends before the answer are delivered after [`Handler::connected`].
    ///
    /// It always runs to its end, even if the connection ends before. Each accepted socket ends with one call of
    /// [`Handler::disconnected`].
    fn connect(
        self: Arc<Self>,
        connect: Connect<Self>,
    ) -> impl Future<Output = Result<Accepted<Self::Socket>, Refused>> + Send + 'static;

    /// Receives a message of Engine.IO before it is read as a packet of Socket.IO, which is skipped where this returns true. It allows
    /// another protocol over Engine.IO; [`Config::connect_timeout`](crate::Config::connect_timeout) still applies.
    fn message(&self, message: EngineMessage<'_>) -> bool {
        let _ = message;
        false
    }

    /// A socket is connected: its CONNECT was answered.
    fn connected(&self, socket: &Socket, data: &Self::Socket) {
        let _ = (socket, data);
    }

    /// A client has sent an event.
    fn event(&self, socket: &Socket, data: &Self::Socket, event: Event<'_>);

    /// A socket has ended. This is the last call for it.
    fn disconnected(&self, socket: &Socket, data: Self::Socket, reason: Reason) {
        let _ = (socket, data, reason);
    }

    /// A connection has ended, after all its sockets. This is the last call for it.
    fn closed(&self, data: Self::Connection, reason: Reason) {
        let _ = (data, reason);
    }

    /// Something happened that does not end the connection, and is worth a metric.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }
}

/// A client's request to connect to a namespace.
pub struct Connect<H: Handler> {
    /// The handler's data of its connection.
    pub connection: H::Connection,
    /// The socket, which is not connected yet.
    pub socket: Socket,
    /// The client's `auth`: the text of a JSON object, unchanged.
    pub auth: Option<Box<str>>,
}

impl<H: Handler> Connect<H> {
    /// Gives the socket the ids of the earlier socket that its client resumes. Returns false if the ids of this socket were read
    /// before.
    #[must_use]
    pub fn resume(&self, id: SocketId, private: PrivateId) -> bool {
        self.socket.resume(id, private)
    }

    /// The connection's handle.
    pub fn handle(&self) -> Connection {
        self.socket.connection()
    }
}

/// An accepted socket.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The handler's data of the socket.
    pub data: S,
    /// Whether the client gets its private id (`pid`), with which it can resume the socket on another connection.
    pub recoverable: bool,
    /// The messages that the client missed, in order. They are sent before the answer, as Node's server does.
    pub missed: Vec<Message>,
}

impl<S> Accepted<S> {
    /// A new socket that cannot be resumed.
    pub fn new(data: S) -> Self {
        Self { data, recoverable: false, missed: Vec::new() }
    }
}

/// A refused connect: the content of the client's `connect_error`.
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

    /// The answer of Node's server for an unknown namespace.
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

/// An event of a client. It borrows the buffer that it was read into.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The name, with JSON's escapes resolved. Half a surrogate pair in it is U+FFFD. It may be one that the client libraries reserve, such
    /// as `connect`, which no stock client sends.
    pub name: Cow<'a, str>,
    /// The arguments as JSON, without the array's brackets, unchanged. Attachments are `{"_placeholder":true,"num":N}` in it;
    /// `N` is not checked.
    pub args: &'a str,
    /// The number for [`Socket::ack`], if the client waits for an answer.
    pub ack: Option<u64>,
    /// The attachments, in the order of their numbers.
    pub attachments: Vec<Bytes>,
    /// Whether the packet is a BINARY_EVENT, which may have no attachments.
    pub is_binary: bool,
}

/// A message of the engine.
pub struct EngineMessage<'a> {
    pub(crate) link: &'a Arc<Link>,
    /// Its content.
    pub body: EngineBody<'a>,
}

/// The content of a message of the engine.
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

/// An occurrence that does not end a connection.
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

/// The reasons for a failed upgrade from polling to websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeError {
    /// The websocket ended.
    Closed,
    /// It was not completed in time.
    Timeout,
    /// The client sent a packet that is not part of an upgrade.
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
