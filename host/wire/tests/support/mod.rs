//! A server whose handler records its calls, and clients that send raw bytes.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use hubbub_wire::{
    Accepted, Config, Connect, Connection, Event, Handler, Message, Notice, Outgoing, Reason, Refused, Socket, Wire,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

mod ws;

pub use ws::{Frame, UPGRADE, Ws, masked};

/// The longest wait of a test.
pub const SOON: Duration = Duration::from_secs(10);

/// A call of the handler.
#[derive(Debug, PartialEq, Clone)]
pub enum Call {
    Open,
    Connected(String),
    Event(String, String, Option<u64>, usize),
    Disconnected(String, Reason),
    Closed(Reason),
    Notice(Notice),
}

/// The handler of the tests.
///
/// Namespaces: `/` and `/custom` are accepted; `/slow` after `gate` is notified; `/refused` is refused with data; `/missed` resumes an
/// earlier socket. Events: `message` is sent back as `message-back`; any event with an ack is answered with its arguments, `leave`
/// disconnects, `close` closes the connection, `panic` panics.
pub struct Probe {
    calls: mpsc::Sender<Call>,
    pub gate: Notify,
    pub sockets: Mutex<Vec<Socket>>,
    /// The number of open connections.
    pub open: AtomicI64,
    /// The number of connected sockets.
    pub connected: AtomicI64,
}

impl Probe {
    fn note(&self, call: Call) {
        // A test may ignore the calls.
        let _ = self.calls.try_send(call);
    }

    pub fn socket(&self, at: usize) -> Socket {
        self.sockets.lock().unwrap()[at].clone()
    }
}

impl Handler for Probe {
    type Connection = ();
    type Socket = ();

    async fn open(self: Arc<Self>, request: http::request::Parts) -> Result<(), Response> {
        if request.uri.query().unwrap_or_default().contains("forbidden") {
            return Err((http::StatusCode::SERVICE_UNAVAILABLE, "later\n").into_response());
        }
        self.note(Call::Open);
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<()>, Refused> {
        let namespace = connect.socket.namespace().to_owned();
        if namespace == "/missed" {
            let auth = connect.auth.as_deref().unwrap_or_default();
            let id = |at: usize| auth.split('"').nth(at).unwrap_or_default();
            assert!(connect.resume(id(3).parse_socket(), id(7).parse_private()), "its ids were not read");
        }
        self.sockets.lock().unwrap().push(connect.socket.clone());
        match &*namespace {
            "/slow" => {
                connect.socket.send(&Message::event("/slow", r#"["held"]"#));
                self.gate.notified().await;
                Ok(Accepted::new(()))
            }
            "/refused" => Err(Refused { message: "no \"entry\"".into(), data: Some(r#"{"code":7}"#.to_owned()) }),
            "/missed" => {
                let missed = vec![Message::event("/missed", r#"["one","o:1"]"#), Message::event("/missed", r#"["two","o:2"]"#)];
                Ok(Accepted { data: (), recoverable: true, missed })
            }
            "/" | "/custom" => Ok(Accepted::new(())),
            "/forgotten" => {
                // No socket is kept.
                self.sockets.lock().unwrap().clear();
                Ok(Accepted::new(()))
            }
            _ => Err(Refused::unknown_namespace()),
        }
    }

    fn connected(&self, socket: &Socket, (): &()) {
        self.connected.fetch_add(1, Ordering::SeqCst);
        self.note(Call::Connected(socket.namespace().to_owned()));
    }

    fn event(&self, socket: &Socket, (): &(), event: Event<'_>) {
        let Event { name, args, ack, attachments, .. } = event;
        self.note(Call::Event(name.to_string(), args.to_owned(), ack, attachments.len()));
        let namespace = socket.namespace();
        match (&*name, ack) {
            ("message", ack) => {
                let outgoing =
                    Outgoing { namespace, name: "message-back", args, attachments: &attachments, ..Outgoing::default() };
                socket.send(&outgoing.encode());
                ack.map(|ack| socket.ack_with(ack, args, &attachments));
            }
            (_, Some(ack)) => {
                socket.ack_with(ack, args, &attachments);
            }
            ("panic", _) => panic!("a handler that fails"),
            ("leave", _) => socket.disconnect(),
            ("close", _) => {
                socket.connection().close("come_back");
            }
            _ => {}
        }
    }

    fn disconnected(&self, socket: &Socket, (): (), reason: Reason) {
        self.connected.fetch_sub(1, Ordering::SeqCst);
        self.note(Call::Disconnected(socket.namespace().to_owned(), reason));
    }

    fn closed(&self, (): (), reason: Reason) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.note(Call::Closed(reason));
    }

    fn notice(&self, notice: Notice) {
        self.note(Call::Notice(notice));
    }
}

trait Ids {
    fn parse_socket(&self) -> hubbub_wire::SocketId;
    fn parse_private(&self) -> hubbub_wire::PrivateId;
}

impl Ids for str {
    fn parse_socket(&self) -> hubbub_wire::SocketId {
        hubbub_wire::SocketId::parse(self).expect("a socket id")
    }

    fn parse_private(&self) -> hubbub_wire::PrivateId {
        hubbub_wire::PrivateId::parse(self).expect("a private id")
    }
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub wire: Wire<Probe>,
    pub probe: Arc<Probe>,
    calls: mpsc::Receiver<Call>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(config: Config) -> Self {
        let (sender, calls) = mpsc::channel(1000);
        let probe = Arc::new(Probe {
            calls: sender,
            gate: Notify::new(),
            sockets: Mutex::default(),
            open: AtomicI64::new(0),
            connected: AtomicI64::new(0),
        });
        let wire = Wire::new(probe.clone(), config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route_service("/socket.io/", wire.clone());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, wire, probe, calls, task }
    }

    /// The next call.
    pub async fn call(&mut self) -> Call {
        timeout(SOON, self.calls.recv()).await.expect("a call comes").unwrap()
    }

    /// Skips calls up to this one.
    pub async fn wait_for(&mut self, wanted: &Call) {
        while self.call().await != *wanted {}
    }

    /// Skips calls up to the end of a connection.
    pub async fn ended(&mut self) -> Reason {
        loop {
            if let Call::Closed(reason) = self.call().await {
                return reason;
            }
        }
    }

    /// Waits until no connection is open.
    pub async fn is_empty(&self) {
        let empty = async {
            while !self.wire.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, empty).await.expect("no connection is counted");
    }

    pub async fn get(&self, query: &str) -> Answer {
        request(self.address, "GET", query, &[], "").await
    }

    pub async fn post(&self, query: &str, body: &str) -> Answer {
        request(self.address, "POST", query, &[], body).await
    }

    /// Opens a polling session, and returns the query of its requests.
    pub async fn poll(&self) -> String {
        open_polling(self.address).await
    }

    /// Opens a websocket and reads the engine's handshake.
    pub async fn websocket(&self) -> Ws {
        let mut ws = Ws::open(self.address, "EIO=4&transport=websocket").await.unwrap();
        assert!(ws.text().await.starts_with("0{"));
        ws
    }

    /// Opens a websocket that is connected to a namespace.
    pub async fn connected(&self, namespace: &str) -> Ws {
        let mut ws = self.websocket().await;
        ws.send(&format!("40{namespace}")).await;
        let answer = ws.text().await;
        assert!(answer.starts_with("40"), "{answer}");
        ws
    }
}

pub async fn open_polling(address: SocketAddr) -> String {
    let answer = request(address, "GET", "EIO=4&transport=polling", &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let sid = answer.body.split('"').nth(3).unwrap().to_owned();
    format!("EIO=4&transport=polling&sid={sid}")
}

pub fn connection(server: &Server) -> Connection {
    server.wire.connections().pop().unwrap()
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub kind: Option<String>,
    pub body: String,
}

/// Sends one request on its own TCP connection.
pub async fn request(address: SocketAddr, method: &str, query: &str, headers: &[&str], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = if body.is_empty() && method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let close = if lines.contains("Connection:") { "" } else { "Connection: close\r\n" };
    let head = format!("{method} /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\n{close}{lines}{length}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer before it has read the body.
    let _ = stream.write_all(body.as_bytes()).await;
    timeout(SOON, read_answer(&mut stream)).await.expect("an answer comes").unwrap_or(Answer {
        status: 0,
        kind: None,
        body: String::new(),
    })
}

/// Reads one answer. Returns None if the connection ends first.
pub async fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let mut body = bytes.split_off(end + 4);
    let length = header("content-length:").and_then(|length| length.parse().ok());
    let is_chunked = header("transfer-encoding:").is_some();
    loop {
        let is_whole = match length {
            Some(length) => body.len() >= length,
            None if is_chunked => body.ends_with(b"0\r\n\r\n"),
            None => head.starts_with("http/1.1 101"),
        };
        if is_whole || stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
            break;
        }
    }
    let mut body = String::from_utf8_lossy(&body).into_owned();
    if is_chunked {
        body = body.split("\r\n").skip(1).step_by(2).collect();
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, kind: header("content-type:"), body })
}
