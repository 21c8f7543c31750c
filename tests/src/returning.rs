//! A client that loses its connection again and again and comes back as stock clients do: with its private id and its last offset.
//! Must never repair what it received.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Client, ConnectFailure};
use crate::token::Token;

pub struct Returning {
    namespace: String,
    token: Token,
    client: Option<Client>,
    sid: String,
    pid: Option<String>,
    offset: Option<String>,
    /// The events with their names and arguments, without offsets.
    pub received: Vec<Vec<Value>>,
    /// How often it came back to the same socket.
    pub recovered: usize,
    /// How often it got a new one.
    pub renewed: usize,
}

impl Returning {
    pub fn new(namespace: &str, token: Token) -> Self {
        Self {
            namespace: namespace.to_owned(),
            token,
            client: None,
            sid: String::new(),
            pid: None,
            offset: None,
            received: Vec::new(),
            recovered: 0,
            renewed: 0,
        }
    }

    /// Connects, or comes back. If it is still connected, its old connection stays open until the new one is.
    pub async fn connect(&mut self, at: SocketAddr) -> Result<(), ConnectFailure> {
        let client = Client::connect(at, &self.namespace, self.auth()).await?;
        match (self.pid.is_some(), client.sid() == self.sid) {
            (true, true) => self.recovered += 1,
            (true, false) => self.renewed += 1,
            _ => {}
        }
        self.sid = client.sid().to_owned();
        self.pid = client.pid().map(str::to_owned);
        self.client = Some(client);
        Ok(())
    }

    /// Its `auth` when it comes back.
    pub fn auth(&self) -> Value {
        let mut auth = json!({"token": self.token.sign()});
        if let Some(pid) = &self.pid {
            auth["pid"] = pid.as_str().into();
            auth["offset"] = self.offset.clone().into();
        }
        auth
    }

    /// The public id of its socket.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The connection. Panics if there is none.
    pub fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is connected")
    }

    /// Reads events until this time or the end of the connection.
    pub async fn read(&mut self, until: Instant) {
        let Some(client) = &mut self.client else { return };
        while let Some(mut args) = client.event_until(until).await {
            // As a stock client: any text at the end is the offset.
            if self.pid.is_some()
                && let Some(Value::String(offset)) = args.last()
            {
                self.offset = Some(offset.clone());
                args.pop();
            }
            self.received.push(args);
        }
    }

    /// Loses the connection with everything that it has not read yet.
    pub fn cut(&mut self) {
        self.client = None;
    }
}
