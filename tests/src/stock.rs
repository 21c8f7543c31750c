//! Stock clients, unmodified: `socket.io-client` in Node and `python-socketio`. Must never use more than the client's public API.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Server;
use crate::client::Auth;
use crate::process::JsonLines;
use crate::wait::DEADLINE;

/// Which stock client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stock {
    Node,
    Python,
}

/// The transports that a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transports {
    Websocket,
    /// Long polling only.
    Polling,
    /// The clients' default: long polling first, then an upgrade.
    Upgrade,
}

/// A process with one stock client in one namespace.
pub struct StockSocket {
    process: JsonLines,
    inbox: VecDeque<Value>,
    next_ack: u64,
    id: String,
}

impl Stock {
    /// Both, for tests that hold for any stock client.
    pub const ALL: [Self; 2] = [Self::Node, Self::Python];

    /// Connects; `Err` is the sentence of the `connect_error`.
    pub async fn connect(
        self,
        server: &Server,
        namespace: &str,
        auth: impl Into<Auth>,
        transports: Transports,
    ) -> Result<StockSocket, String> {
        self.connect_at(&server.url(""), namespace, auth, transports).await
    }

    /// Like [`connect`](Self::connect), through a proxy's URL.
    pub async fn connect_at(
        self,
        url: &str,
        namespace: &str,
        auth: impl Into<Auth>,
        transports: Transports,
    ) -> Result<StockSocket, String> {
        self.connect_with(url, namespace, auth, transports, json!({})).await
    }

    /// Like [`connect_at`](Self::connect_at), with more options of the client in Node, such as `retries`.
    pub async fn connect_with(
        self,
        url: &str,
        namespace: &str,
        auth: impl Into<Auth>,
        transports: Transports,
        options: Value,
    ) -> Result<StockSocket, String> {
        let mut socket = StockSocket { process: self.start(), inbox: VecDeque::new(), next_ack: 0, id: String::new() };
        let auth = auth.into();
        let transports = match transports {
            Transports::Websocket => json!(["websocket"]),
            Transports::Polling => json!(["polling"]),
            Transports::Upgrade => json!(["polling", "websocket"]),
        };
        let mut connect =
            json!({"do": "connect", "url": url, "namespace": namespace, "auth": auth.object(), "transports": transports});
        if options != json!({}) {
            connect["options"] = options;
        }
        socket.process.send(&connect).await;
        let first = socket.find("the connection", |saw| matches!(saw["saw"].as_str(), Some("connect" | "refused"))).await;
        match first["saw"].as_str() {
            Some("connect") => {
                first["id"].as_str().unwrap_or_default().clone_into(&mut socket.id);
                Ok(socket)
            }
            _ => Err(first["message"].as_str().unwrap_or_default().to_owned()),
        }
    }

    fn start(self) -> JsonLines {
        let clients = crate::package_dir().join("clients");
        match self {
            Self::Node => JsonLines::start(&PathBuf::from("node"), &clients.join("node.mjs")),
            Self::Python => {
                let python = crate::checkout_dir().join("target/clients/venv/bin/python");
                JsonLines::start(&python, &clients.join("python.py"))
            }
        }
    }
}

impl StockSocket {
    /// Sets the `auth` object that the client sends from its next connect on.
    pub async fn set_auth(&mut self, auth: impl Into<Auth>) {
        self.process.send(&json!({"do": "auth", "auth": auth.into().object()})).await;
    }

    /// Waits until the client has been refused and returns the sentence.
    pub async fn refused(&mut self) -> String {
        let saw = self.find("a refusal", |saw| saw["saw"] == "refused").await;
        saw["message"].as_str().unwrap_or_default().to_owned()
    }

    pub async fn emit(&mut self, event: &str, payload: Value) {
        self.process.send(&json!({"do": "emit", "args": [event, payload]})).await;
    }

    /// Emits for an ack that [`acked`](Self::acked) waits for.
    pub async fn emit_for_ack(&mut self, event: &str, payload: Value) -> u64 {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.process.send(&json!({"do": "emit", "args": [event, payload], "ack": ack})).await;
        ack
    }

    /// Emits an array of arguments, as JSON that no `Value` can hold, for an ack.
    pub async fn emit_text_for_ack(&mut self, args: &str) -> u64 {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.process.send_text(&format!(r#"{{"do":"emit","args":{args},"ack":{ack}}}"#)).await;
        ack
    }

    pub async fn acked(&mut self, ack: u64) -> Value {
        let saw = self.find(&format!("the ack {ack}"), |saw| saw["saw"] == "ack" && saw["ack"] == ack).await;
        saw["args"][0].clone()
    }

    /// Emits an event and waits for its ack.
    pub async fn ask(&mut self, event: &str, payload: Value) -> Value {
        let ack = self.emit_for_ack(event, payload).await;
        self.acked(ack).await
    }

    /// Waits for the next event of that name and returns its first argument.
    pub async fn next(&mut self, event: &str) -> Value {
        let saw = self.find(&format!("the event {event}"), |saw| saw["saw"] == "event" && saw["args"][0] == event).await;
        saw["args"][1].clone()
    }

    /// Waits for the next event of that name and returns its name and all its arguments.
    pub async fn next_args(&mut self, event: &str) -> Vec<Value> {
        let saw = self.find(&format!("the event {event}"), |saw| saw["saw"] == "event" && saw["args"][0] == event).await;
        saw["args"].as_array().cloned().unwrap_or_default()
    }

    /// Disconnects with the client's `socket.disconnect()`.
    pub async fn disconnect(&mut self) {
        self.process.send(&json!({"do": "disconnect"})).await;
    }

    /// Asserts that the client has reported no such thing so far.
    pub fn expect_none(&self, saw: &str) {
        assert!(self.inbox.iter().all(|one| one["saw"] != saw), "{:#?}", self.inbox);
    }

    /// Asserts that the client has reported no event of that name that was not asked for.
    pub fn expect_no_event(&self, event: &str) {
        assert!(self.inbox.iter().all(|one| one["args"][0] != event), "{:#?}", self.inbox);
    }

    /// Waits until the client has reconnected by itself.
    pub async fn reconnected(&mut self) {
        self.find("a reconnection", |saw| saw["saw"] == "connect").await;
    }

    /// Waits until the client has reconnected by itself. Returns its `socket.id`, and whether it has got all that it missed.
    pub async fn back(&mut self) -> (String, bool) {
        let saw = self.find("a reconnection", |saw| saw["saw"] == "connect").await;
        (saw["id"].as_str().unwrap_or_default().to_owned(), saw["recovered"] == true)
    }

    /// Everything that the client reports until this time, with what it has reported before.
    pub async fn reports_until(&mut self, end: Instant) -> Vec<Value> {
        while let Some(saw) = self.process.receive(end.saturating_duration_since(Instant::now())).await {
            self.inbox.push_back(saw);
        }
        self.inbox.drain(..).collect()
    }

    /// The client's `socket.id` after its first connect.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the client has lost its connection and returns the reason that the client reports.
    pub async fn disconnected(&mut self) -> String {
        let saw = self.find("a disconnection", |saw| saw["saw"] == "disconnect").await;
        saw["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the client has upgraded to websocket.
    pub async fn upgraded(&mut self) {
        self.find("the upgrade", |saw| saw["saw"] == "transport" && saw["name"] == "websocket").await;
    }

    async fn find(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.inbox.iter().position(&is_it) {
            return self.inbox.remove(at).expect("it was just found");
        }
        let end = Instant::now() + DEADLINE;
        loop {
            let left: Duration = end.saturating_duration_since(Instant::now());
            match self.process.receive(left).await {
                Some(saw) if is_it(&saw) => return saw,
                Some(saw) => self.inbox.push_back(saw),
                None => panic!("waited {DEADLINE:?} for {what}; received so far: {:#?}", self.inbox),
            }
        }
    }
}
