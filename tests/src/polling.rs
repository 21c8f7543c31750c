//! A hand-written client over HTTP long polling. Must never upgrade.

use serde_json::Value;

use crate::Server;
use crate::packet::{self, Packet};

/// The separator of packets in one body.
const SEPARATOR: char = '\u{1e}';

/// An Engine.IO session over polling.
pub struct Polling {
    http: reqwest::Client,
    url: String,
}

impl Polling {
    /// Reads the Engine.IO handshake.
    pub async fn open(server: &Server) -> Self {
        Self::open_at(server.http().clone(), &server.url("")).await
    }

    /// Like [`open`](Self::open), on the admin port.
    pub async fn open_admin(server: &Server) -> Self {
        Self::open_at(server.http().clone(), &server.admin_url("")).await
    }

    /// Like [`open`](Self::open), at any URL and with an HTTP client of the test.
    pub async fn open_at(http: reqwest::Client, url: &str) -> Self {
        let base = format!("{url}/socket.io/?EIO=4&transport=polling");
        let body = http.get(&base).send().await.expect("the server answers").text().await.expect("a body of text");
        let Ok(Packet::Open(open)) = Packet::parse(&body) else { panic!("expected the Engine.IO handshake, got {body}") };
        let sid = open["sid"].as_str().expect("a handshake has a session id");
        Self { http, url: format!("{base}&sid={sid}") }
    }

    /// The URL that this session polls.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The session's id.
    pub fn sid(&self) -> &str {
        self.url.rsplit_once('=').map_or("", |(_, sid)| sid)
    }

    /// Connects to a namespace and returns the answer.
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

    /// Posts a frame and returns the HTTP status.
    pub async fn send(&self, frame: String) -> u16 {
        self.http.post(&self.url).body(frame).send().await.expect("the server answers").status().as_u16()
    }

    /// The packets that are queued, or the next ones.
    pub async fn poll(&self) -> Vec<Packet> {
        let answer = self.http.get(&self.url).send().await.expect("the server answers");
        let body = answer.text().await.expect("a body of text");
        body.split(SEPARATOR).map(|frame| Packet::parse(frame).unwrap_or_else(|wrong| panic!("{wrong}"))).collect()
    }
}
