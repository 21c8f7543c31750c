//! The server that socket.io-client's own tests expect on port 3210, with connection state recovery as an application above the wire
//! may build it. `cargo run -p hubbub-wire --example client_suite`

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use hubbub_wire::{
    Accepted, Config, Connect, Event, Handler, Message, Outgoing, PrivateId, Refused, Socket, SocketId, Wire, next_ask,
};
use serde_json::{Value, json};

const DATE: &str = r#""2026-01-01T00:00:00.000Z""#;
const BUFFER: &str = r#"{"_placeholder":true,"num":0}"#;

#[derive(Default)]
struct Server {
    /// The messages of each socket, in order. The offset of a message is its index.
    logs: Mutex<HashMap<PrivateId, (SocketId, Vec<Message>)>>,
}

/// The data of a socket: its handshake.
type Handshake = Value;

impl Server {
    fn logs(&self) -> MutexGuard<'_, HashMap<PrivateId, (SocketId, Vec<Message>)>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, socket: &Socket, name: &str, args: &str, attachments: &[Bytes]) {
        let mut logs = self.logs();
        let (_, log) = logs.entry(socket.private_id()).or_insert_with(|| (socket.id(), Vec::new()));
        let (namespace, offset) = (socket.namespace(), log.len().to_string());
        let event = Outgoing { namespace, name, args, offset: Some(&offset), attachments, ..Outgoing::default() };
        log.push(event.encode());
        // Under the lock, so that the order of the log is the order of sending.
        socket.send(&log[log.len() - 1]);
    }

    /// The messages after the offset that a client gives, if its socket can be resumed.
    fn missed(&self, connect: &Connect<Self>, auth: &Value) -> Option<Vec<Message>> {
        let private = PrivateId::parse(auth["pid"].as_str()?)?;
        let offset: usize = auth["offset"].as_str()?.parse().ok()?;
        let logs = self.logs();
        let (id, log) = logs.get(&private)?;
        connect.resume(*id, private).then(|| log[log.len().min(offset + 1)..].to_vec())
    }
}

fn query(request: &http::request::Parts) -> Value {
    let unescape = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            match hex {
                Some(byte) if *first == b'%' => (bytes.push(byte), rest = &after[2..]).1,
                _ => (bytes.push(*first), rest = after).1,
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = request.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (unescape(name), Value::from(unescape(value)))).collect::<serde_json::Map<_, _>>().into()
}

impl Handler for Server {
    type Connection = Arc<Value>;
    type Socket = Handshake;

    async fn open(self: Arc<Self>, request: http::request::Parts) -> Result<Arc<Value>, Response> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(Arc::new(query(&request)))
    }

    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<Handshake>, Refused> {
        match connect.socket.namespace() {
            "/" if connect.connection.get("fail").is_some() => return Err(Refused::new("Auth failed (main namespace)")),
            "/no" => return Err(Refused::new("Auth failed (custom namespace)")),
            "/" | "/foo" | "/timeout_socket" | "/valid" | "/asd" | "/abc" => {}
            _ => return Err(Refused::unknown_namespace()),
        }
        let auth = connect.auth.as_deref().and_then(|auth| serde_json::from_str(auth).ok()).unwrap_or_else(|| json!({}));
        let missed = self.missed(&connect, &auth).unwrap_or_default();
        Ok(Accepted { data: json!({ "query": &*connect.connection, "auth": auth }), recoverable: true, missed })
    }

    fn connected(&self, socket: &Socket, handshake: &Handshake) {
        if socket.namespace() == "/abc" {
            self.emit(socket, "handshake", &handshake.to_string(), &[]);
        }
    }

    fn event(&self, socket: &Socket, handshake: &Handshake, event: Event<'_>) {
        let Event { name, args, ack, attachments, .. } = event;
        let emit = |name: &str, args: &str| self.emit(socket, name, args, &[]);
        let buffer = |name: &str| self.emit(socket, name, BUFFER, &[Bytes::from_static(b"asdfasdf")]);
        if let Some(ack) = ack.filter(|_| name != "ack") {
            match &*name {
                "echo" => socket.ack_with(ack, args, &attachments),
                "getAckDate" => socket.ack(ack, DATE),
                "getHandshake" => socket.ack(ack, &handshake.to_string()),
                "getId" => socket.ack(ack, &format!("\"{}\"", socket.id())),
                _ => return,
            };
            return;
        }
        match &*name {
            "hi" => emit("hi", ""),
            "ack" => ask(socket.clone()),
            "getDate" => emit("takeDate", DATE),
            "getDateObj" => emit("takeDateObj", &format!("{{\"date\":{DATE}}}")),
            "getUtf8" => {
                for text in ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"] {
                    emit("takeUtf8", &format!("\"{text}\""));
                }
            }
            "false" => emit("false", "false"),
            "doge" => buffer("doge"),
            "getbin" => buffer("takebin"),
            "buffa" if attachments.len() == 1 => emit("buffack", ""),
            "jsonbuff" if attachments.len() == 1 => emit("jsonbuff-ack", ""),
            "abuff2" => emit("abuff2-ack", ""),
            "blob" if attachments.len() == 1 => emit("back", ""),
            "jsonblob" if attachments.len() == 1 => emit("jsonblob-ack", ""),
            "blob3" if attachments.len() == 1 => emit("blob3-ack", ""),
            _ => {}
        }
    }
}

/// Asks the client, and confirms its answer.
fn ask(socket: Socket) {
    let number = next_ask();
    let question = Outgoing { namespace: socket.namespace(), name: "ack", ask: Some(number), ..Outgoing::default() }.encode();
    let Ok(asked) = socket.ask(&question, number) else { return };
    tokio::spawn(async move {
        let Ok(answer) = asked.await else { return };
        let args: Value = serde_json::from_str(&format!("[{}]", answer.args)).unwrap_or_default();
        if args[0] == 5 && args[1]["test"] == true {
            socket.send(&Message::event(socket.namespace(), "[\"got it\"]"));
        }
    });
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let config = Config { ping_interval: Duration::from_secs(2), ..Config::default() };
    let routes = Router::new().route_service("/socket.io/", Wire::new(Arc::new(Server::default()), config));
    axum::serve(tokio::net::TcpListener::bind("0.0.0.0:3210").await?, routes).await
}
