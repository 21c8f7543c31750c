//! A client that speaks the wire format over a websocket, in one namespace. Must never repair a packet or reconnect: tests assert
//! what happened to the connection.
//!
//! Nothing runs in the background: packets are read and pings are answered while a test waits.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderName};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::packet::{self, Packet};
use crate::token::Token;
use crate::wait::DEADLINE;

/// The credentials that a client sends when it connects.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    object: Option<Value>,
    headers: Vec<(HeaderName, String)>,
}

impl Auth {
    /// The token in `Authorization: Bearer` of the handshake, and no `auth` object.
    pub fn bearer(token: &Token) -> Self {
        Self::default().header(AUTHORIZATION, &format!("Bearer {}", token.sign()))
    }

    /// The `auth` object, for clients that send it themselves.
    pub(crate) fn object(&self) -> &Option<Value> {
        &self.object
    }

    /// One more header on the handshake, such as `Origin`.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl From<()> for Auth {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Token> for Auth {
    fn from(token: Token) -> Self {
        Self::from(token.sign().as_str())
    }
}

impl From<&Token> for Auth {
    fn from(token: &Token) -> Self {
        Self::from(token.sign().as_str())
    }
}

/// Sends the text as the token, valid or not.
impl From<&str> for Auth {
    fn from(token: &str) -> Self {
        Self::from(json!({ "token": token }))
    }
}

/// Sends this `auth` object.
impl From<Value> for Auth {
    fn from(object: Value) -> Self {
        Self { object: Some(object), headers: Vec::new() }
    }
}

/// Why a client could not connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// No process listens on the port.
    Unreachable,
    /// The handshake was answered with this HTTP status.
    Http(u16),
    /// The namespace was refused with this sentence.
    Refused(String),
    /// The connection was closed without an answer.
    Closed,
}

async fn stream_from(from: Ipv4Addr, at: SocketAddr) -> Result<TcpStream, ConnectFailure> {
    let socket = TcpSocket::new_v4().expect("the system has sockets left");
    if !from.eq(&Ipv4Addr::LOCALHOST) {
        socket.bind((from, 0).into()).expect("all of 127.0.0.0/8 is loopback");
    }
    socket.connect(at).await.map_err(|_| ConnectFailure::Unreachable)
}

/// A websocket and the one namespace that it is connected to.
pub struct Client {
    ws: WebSocketStream<TcpStream>,
    namespace: String,
    /// Packets that were read and not yet asked for.
    inbox: VecDeque<Packet>,
    next_ack: u64,
    pings: u64,
    closed: bool,
    /// The content of the answer to its CONNECT.
    answer: Value,
}

impl Client {
    /// Opens a websocket and reads the Engine.IO handshake. Connects to no namespace yet.
    pub async fn open(at: SocketAddr, auth: &Auth) -> Result<Self, ConnectFailure> {
        Self::open_from(Ipv4Addr::LOCALHOST, at, auth).await
    }

    /// Like [`open`](Self::open), from another of this machine's loopback addresses (127.0.0.0/8).
    pub async fn open_from(from: Ipv4Addr, at: SocketAddr, auth: &Auth) -> Result<Self, ConnectFailure> {
        Self::open_on(stream_from(from, at).await?, auth).await
    }

    /// Opens a websocket and connects to a namespace, from another of this machine's loopback addresses.
    pub async fn connect_from(
        from: Ipv4Addr,
        at: SocketAddr,
        namespace: &str,
        auth: impl Into<Auth>,
    ) -> Result<Self, ConnectFailure> {
        Self::connect_on(stream_from(from, at).await?, namespace, auth).await
    }

    async fn open_on(stream: TcpStream, auth: &Auth) -> Result<Self, ConnectFailure> {
        let Ok(at) = stream.peer_addr() else { return Err(ConnectFailure::Closed) };
        let mut request =
            format!("ws://{at}/socket.io/?EIO=4&transport=websocket").into_client_request().expect("the address is valid");
        for (name, value) in &auth.headers {
            request.headers_mut().insert(name.clone(), HeaderValue::from_str(value).expect("a header's value"));
        }
        stream.set_nodelay(true).expect("a new socket accepts options");
        let ws = match client_async(request, stream).await {
            Ok((ws, _)) => ws,
            Err(tungstenite::Error::Http(response)) => {
                return Err(ConnectFailure::Http(response.status().as_u16()));
            }
            Err(_) => return Err(ConnectFailure::Closed),
        };
        let mut client =
            Self { ws, namespace: "/".into(), inbox: VecDeque::new(), next_ack: 0, pings: 0, closed: false, answer: Value::Null };
        match client.packet(deadline()).await {
            Some(Packet::Open(_)) => Ok(client),
            None => Err(ConnectFailure::Closed),
            other => panic!("expected the Engine.IO handshake, got {other:?}"),
        }
    }

    /// Opens a websocket and connects to a namespace.
    pub async fn connect(at: SocketAddr, namespace: &str, auth: impl Into<Auth>) -> Result<Self, ConnectFailure> {
        let Ok(stream) = TcpStream::connect(at).await else { return Err(ConnectFailure::Unreachable) };
        Self::connect_on(stream, namespace, auth).await
    }

    /// Like [`connect`](Self::connect), over a connection that the test has made.
    pub async fn connect_on(stream: TcpStream, namespace: &str, auth: impl Into<Auth>) -> Result<Self, ConnectFailure> {
        let auth = auth.into();
        let mut client = Self::open_on(stream, &auth).await?;
        client.namespace = namespace.to_owned();
        client.send_raw(&packet::connect(namespace, auth.object.as_ref())).await;
        loop {
            match client.packet(deadline()).await {
                Some(Packet::Connect { namespace: ns, data }) if ns == namespace => {
                    client.answer = data;
                    return Ok(client);
                }
                Some(Packet::ConnectError { namespace: ns, data }) if ns == namespace => {
                    let message = data["message"].as_str().unwrap_or_else(|| panic!("a refusal without a message: {data}"));
                    return Err(ConnectFailure::Refused(message.to_owned()));
                }
                Some(early) => client.inbox.push_back(early),
                None => return Err(ConnectFailure::Closed),
            }
        }
    }

    /// Waits for the sentence that refuses a CONNECT which the test has sent itself.
    pub async fn refusal(&mut self) -> String {
        self.find("a refused CONNECT", DEADLINE, |packet| match packet {
            Packet::ConnectError { data, .. } => data["message"].as_str().map(str::to_owned),
            _ => None,
        })
        .await
    }

    /// The TCP connection, which is not read any more.
    pub fn into_stream(self) -> TcpStream {
        self.ws.into_inner()
    }

    /// Its public id, `socket.id`.
    pub fn sid(&self) -> &str {
        self.answer["sid"].as_str().expect("a connected socket has an id")
    }

    /// Its private id, if it may come back when its connection has ended.
    pub fn pid(&self) -> Option<&str> {
        self.answer["pid"].as_str()
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Emits an event with one argument and asks for no ack.
    pub async fn emit(&mut self, event: &str, payload: Value) {
        let frame = packet::event(&self.namespace, None, &json!([event, payload]));
        self.send_raw(&frame).await;
    }

    /// Emits an event with one argument and waits for its ack.
    pub async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let id = self.emit_for_ack(&json!([event, payload])).await;
        self.acked(id).await
    }

    /// Emits an event and waits for the refusal in its ack: `(code, message)`.
    pub async fn refused(&mut self, event: &str, payload: Value) -> (String, String) {
        let ack = self.ask(event, payload).await;
        let error = &ack["error"];
        match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => (code.to_owned(), message.to_owned()),
            _ => panic!("{event} was not refused: {ack}"),
        }
    }

    /// Emits an array of arguments unchanged, for an ack that [`acked`](Self::acked) waits for.
    pub async fn emit_for_ack(&mut self, args: &Value) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        let frame = packet::event(&self.namespace, Some(id), args);
        self.send_raw(&frame).await;
        id
    }

    /// Waits for the ack with that id.
    pub async fn acked(&mut self, id: u64) -> Value {
        let what = format!("the ack {id}");
        self.find(&what, DEADLINE, |packet| match packet {
            Packet::Ack { id: of, args, .. } if *of == id => Some(args.first().cloned().unwrap_or(Value::Null)),
            _ => None,
        })
        .await
    }

    /// Waits for the ack with that id or for the end of the connection.
    pub async fn acked_or_ended(&mut self, id: u64) -> Option<Value> {
        let end = deadline();
        loop {
            match self.packet(end).await? {
                Packet::Ack { id: of, args, .. } if of == id => return Some(args.into_iter().next().unwrap_or(Value::Null)),
                other => self.inbox.push_back(other),
            }
        }
    }

    /// Waits for the next event of that name and returns its first argument. Earlier packets stay in the inbox.
    pub async fn next(&mut self, event: &str) -> Value {
        self.next_within(event, DEADLINE).await
    }

    /// Waits for the next event of that name and returns its name and all its arguments.
    pub async fn next_args(&mut self, event: &str) -> Vec<Value> {
        self.find(&format!("the event {event}"), DEADLINE, |packet| match packet {
            Packet::Event { args, .. } if args.first().is_some_and(|name| name == event) => Some(args.clone()),
            _ => None,
        })
        .await
    }

    /// The next event with its name and all its arguments. None at this time, or when the connection has ended.
    pub async fn event_until(&mut self, end: Instant) -> Option<Vec<Value>> {
        let is_event = |packet: &Packet| matches!(packet, Packet::Event { .. });
        if let Some(at) = self.inbox.iter().position(is_event)
            && let Some(Packet::Event { args, .. }) = self.inbox.remove(at)
        {
            return Some(args);
        }
        loop {
            match self.read(end).await {
                Read::Packet(Packet::Event { args, .. }) => return Some(args),
                Read::Packet(other) => self.inbox.push_back(other),
                Read::Nothing if Instant::now() >= end => return None,
                Read::Nothing => {}
                Read::End => return None,
            }
        }
    }

    /// Waits for an event that asks for an ack, sends the ack, and returns the event's first argument.
    pub async fn answer(&mut self, event: &str, answer: Value) -> Value {
        let (id, asked) = self
            .find(&format!("the event {event} that asks for an ack"), DEADLINE, |packet| match packet {
                Packet::Event { id: Some(id), args, .. } if args.first().is_some_and(|name| name == event) => {
                    Some((*id, args.get(1).cloned().unwrap_or(Value::Null)))
                }
                _ => None,
            })
            .await;
        let frame = packet::ack(&self.namespace, id, &json!([answer]));
        self.send_raw(&frame).await;
        asked
    }

    pub async fn next_within(&mut self, event: &str, deadline: Duration) -> Value {
        self.find(&format!("the event {event}"), deadline, |packet| match packet {
            Packet::Event { args, .. } if args.first().is_some_and(|name| name == event) => {
                Some(args.get(1).cloned().unwrap_or(Value::Null))
            }
            _ => None,
        })
        .await
    }

    /// The first argument of the event of that name, if the server has sent it by now. A round trip makes sure that everything
    /// queued has arrived.
    pub async fn received(&mut self, event: &str) -> Option<Value> {
        self.refused("nothing:answers:to:this", Value::Null).await;
        let is_it = |packet: &Packet| matches!(packet, Packet::Event { args, .. } if args.first().is_some_and(|n| n == event));
        let at = self.inbox.iter().position(is_it)?;
        match self.inbox.remove(at) {
            Some(Packet::Event { args, .. }) => Some(args.get(1).cloned().unwrap_or(Value::Null)),
            _ => None,
        }
    }

    /// Asserts that no event of that name has been sent to this client so far. A round trip makes sure of it: everything that the
    /// server had queued is in the inbox once it has answered.
    pub async fn expect_none(&mut self, event: &str) {
        let (code, _) = self.refused("nothing:answers:to:this", Value::Null).await;
        assert_eq!(code, "not_found", "the answer that ends the round trip");
        let is_it = |packet: &&Packet| matches!(packet, Packet::Event { args, .. } if args.first().is_some_and(|n| n == event));
        if let Some(found) = self.inbox.iter().find(is_it) {
            panic!("unexpected {event}: {found:?}");
        }
    }

    /// Waits for that many pings from the server.
    pub async fn pinged(&mut self, times: u64) {
        let (end, times) = (deadline(), self.pings + times);
        while self.pings < times {
            assert!(Instant::now() < end, "{} pings in {DEADLINE:?}, expected {times}", self.pings);
            match self.read(end).await {
                Read::Packet(packet) => self.inbox.push_back(packet),
                Read::Nothing => {}
                Read::End => panic!("the connection ended after {} pings", self.pings),
            }
        }
    }

    /// Asserts that every received ack was asked for and waited for. Makes a round trip first, as
    /// [`expect_none`](Self::expect_none) does.
    pub async fn expect_no_ack(&mut self) {
        self.refused("nothing:answers:to:this", Value::Null).await;
        if let Some(found) = self.inbox.iter().find(|packet| matches!(packet, Packet::Ack { .. })) {
            panic!("an ack that was not asked for: {found:?}");
        }
    }

    /// Waits until the server ends this client's namespace or connection and returns which of them ended.
    pub async fn ended(&mut self) -> End {
        let at = self.inbox.iter().position(|packet| matches!(packet, Packet::Disconnect { .. }));
        if let Some(at) = at {
            self.inbox.remove(at);
            return End::Disconnected;
        }
        let end = deadline();
        loop {
            match self.packet(end).await {
                Some(Packet::Disconnect { .. }) => return End::Disconnected,
                Some(other) => self.inbox.push_back(other),
                None => return End::Closed,
            }
        }
    }

    /// Disconnects from the namespace, as a stock client's `disconnect()` does, and closes the websocket.
    pub async fn leave(mut self) {
        let frame = packet::disconnect(&self.namespace);
        self.send_raw(&frame).await;
        let _ = self.ws.close(None).await;
    }

    /// Closes the websocket without disconnecting from the namespace, as reloading a page does.
    pub async fn close(mut self) {
        let _ = self.ws.close(None).await;
    }

    /// Sends a text frame unchanged. On a closed connection the frame is lost.
    pub async fn send_raw(&mut self, frame: &str) {
        self.closed |= self.ws.send(Message::text(frame)).await.is_err();
    }

    /// Sends a binary frame: an attachment.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.closed |= self.ws.send(Message::binary(bytes)).await.is_err();
    }

    async fn find<T>(&mut self, what: &str, wait: Duration, pick: impl Fn(&Packet) -> Option<T>) -> T {
        if let Some((at, found)) = self.inbox.iter().enumerate().find_map(|(at, packet)| Some((at, pick(packet)?))) {
            self.inbox.remove(at);
            return found;
        }
        let end = Instant::now() + wait;
        loop {
            if Instant::now() >= end {
                panic!("waited {wait:?} in {} for {what}; received so far: {:#?}", self.namespace, self.inbox);
            }
            match self.read(end).await {
                Read::Packet(packet) => match pick(&packet) {
                    Some(found) => return found,
                    None => self.inbox.push_back(packet),
                },
                Read::Nothing => {}
                Read::End => {
                    panic!("the connection to {} ended before {what}; received so far: {:#?}", self.namespace, self.inbox)
                }
            }
        }
    }

    /// The next packet other than a ping. None once the connection has ended.
    async fn packet(&mut self, end: Instant) -> Option<Packet> {
        loop {
            match self.read(end).await {
                Read::Packet(packet) => return Some(packet),
                Read::Nothing if Instant::now() >= end => {
                    panic!("no more packets in {}: {:#?}", self.namespace, self.inbox)
                }
                Read::Nothing => {}
                Read::End => return None,
            }
        }
    }

    async fn read(&mut self, end: Instant) -> Read {
        if self.closed {
            return Read::End;
        }
        match timeout_at(end, self.ws.next()).await {
            Err(_) => Read::Nothing,
            Ok(Some(Ok(Message::Text(text)))) => match Packet::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}")) {
                Packet::Ping => {
                    self.pings += 1;
                    self.send_raw("3").await;
                    Read::Nothing
                }
                packet => Read::Packet(packet),
            },
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Read::Nothing,
            Ok(Some(Ok(Message::Binary(_) | Message::Frame(_)))) => {
                panic!("a binary frame from a server that sends none")
            }
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => {
                self.closed = true;
                Read::End
            }
        }
    }
}

/// How the server ended the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a packet that ends the namespace.
    Disconnected,
    /// By closing the connection.
    Closed,
}

enum Read {
    Packet(Packet),
    Nothing,
    End,
}

fn deadline() -> Instant {
    Instant::now() + DEADLINE
}
