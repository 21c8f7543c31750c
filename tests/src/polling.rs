//! A client over HTTP long polling, by hand. Must never upgrade.

use serde_json::Value;

use crate::Server;
use crate::packet::{self, Packet};

/// What separates packets in one body.
const SEPARATOR: char = '\u{1e}';

/// An engine session over polling.
pub struct Polling {
    http: reqwest::Client,
    url: String,
}

impl Polling {
    /// Takes the engine's handshake.
    pub async fn open(server: &Server) -> Self {
        Self::open_at(server, server.url("")).await
    }

    /// The same at the operator's port.
    pub async fn open_admin(server: &Server) -> Self {
        Self::open_at(server, server.admin_url("")).await
    }

    async fn open_at(server: &Server, port: String) -> Self {
        let base = format!("{port}/socket.io/?EIO=4&transport=polling");
        let body = server.http().get(&base).send().await.expect("the server answers").text().await.expect("a body of text");
        let Ok(Packet::Open(open)) = Packet::parse(&body) else { panic!("instead of the engine's handshake: {body}") };
        let sid = open["sid"].as_str().expect("a handshake has a session id");
        Self { http: server.http().clone(), url: format!("{base}&sid={sid}") }
    }

    /// Asks for a namespace, and gives what was answered.
    pub async fn connect(&self, namespace: &str, auth: Option<&Value>) -> Packet {
        assert_eq!(self.send(packet::connect(namespace, auth)).await, 200);
        loop {
            for packet in self.poll().await {
                match packet {
                    Packet::Ping => assert_eq!(self.send("3".into()).await, 200),
                    answer => return answer,
                }
            }
        }
    }

    /// Posts a frame: the HTTP status.
    pub async fn send(&self, frame: String) -> u16 {
        self.http.post(&self.url).body(frame).send().await.expect("the server answers").status().as_u16()
    }

    /// The packets that are there, or the first to come.
    pub async fn poll(&self) -> Vec<Packet> {
        let answer = self.http.get(&self.url).send().await.expect("the server answers");
        let body = answer.text().await.expect("a body of text");
        body.split(SEPARATOR).map(|frame| Packet::parse(frame).unwrap_or_else(|wrong| panic!("{wrong}"))).collect()
    }
}
