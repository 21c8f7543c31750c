//! A client of the harness: what it sends, and what has reached it.

use std::fmt;

use serde_json::{Value, json};

use super::{DisconnectReason, Harness, fail, run};
use crate::{Plugin, Refusal, RefusalCode};

/// One connection to one namespace. Cheap to clone: clones are the same connection.
pub struct Client<P> {
    app: Harness<P>,
    socket: u64,
}

impl<P> Clone for Client<P> {
    fn clone(&self) -> Self {
        Self { app: self.app.clone(), socket: self.socket }
    }
}

impl<P> fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl<P: Plugin> Client<P> {
    pub(super) fn new(app: Harness<P>, socket: u64) -> Self {
        Self { app, socket }
    }

    /// Sends an event with one payload, and does everything that follows from it.
    #[track_caller]
    pub fn emit(&self, event: &str, payload: Value) -> Outcome<P> {
        self.emit_args(event, vec![payload])
    }

    /// Sends an event without a payload.
    #[track_caller]
    pub fn emit_bare(&self, event: &str) -> Outcome<P> {
        self.emit_args(event, Vec::new())
    }

    /// Sends an event with any number of arguments.
    #[track_caller]
    pub fn emit_args(&self, event: &str, args: Vec<Value>) -> Outcome<P> {
        let answer = run::event::<P>(&self.app.world, self.socket, event, &Value::from(args).to_string());
        Outcome { client: self.clone(), event: event.to_owned(), answer }
    }

    /// The first arguments of the events of this name that have reached the client since they were last asked for.
    pub fn received(&self, event: &str) -> Vec<Value> {
        let mut world = self.app.world.borrow_mut();
        let Some(socket) = world.sockets.get_mut(&self.socket) else { return Vec::new() };
        let (wanted, rest) = std::mem::take(&mut socket.inbox).into_iter().partition(|(name, _)| name == event);
        socket.inbox = rest;
        let wanted: Vec<(String, Vec<Value>)> = wanted;
        wanted.into_iter().map(|(_, args)| args.into_iter().next().unwrap_or(Value::Null)).collect()
    }

    /// The next event of this name has this payload.
    ///
    /// # Panics
    /// If it has another, or none has come.
    #[track_caller]
    pub fn expect(&self, event: &str, payload: Value) {
        match self.next(event) {
            Some(got) => assert_eq!(got, payload, "the payload of {event}"),
            None => fail(&format!("no {event} has come; there is {:?}", self.waiting())),
        }
    }

    /// The next event of this name.
    ///
    /// # Panics
    /// If none has come.
    #[track_caller]
    pub fn expect_any(&self, event: &str) -> Value {
        match self.next(event) {
            Some(payload) => payload,
            None => fail(&format!("no {event} has come; there is {:?}", self.waiting())),
        }
    }

    /// Nothing has come that was not asked for.
    ///
    /// # Panics
    /// If something has.
    #[track_caller]
    pub fn expect_nothing(&self) {
        let waiting = self.waiting();
        assert!(waiting.is_empty(), "expected nothing more, but there is {waiting:?}");
    }

    /// Forgets what has come.
    pub fn forget(&self) {
        if let Some(socket) = self.app.world.borrow_mut().sockets.get_mut(&self.socket) {
            socket.inbox.clear();
        }
    }

    /// The rooms that the client is in, in order.
    pub fn rooms(&self) -> Vec<String> {
        let world = self.app.world.borrow();
        let rooms = world.sockets.get(&self.socket).into_iter().flat_map(|socket| &socket.rooms);
        rooms.map(|room| room.name.clone()).collect()
    }

    /// The client is in a room that another plugin owns, and would have joined it to.
    ///
    /// # Panics
    /// If it has disconnected.
    #[track_caller]
    pub fn put_in(&self, room: &str) {
        run::put_in(&self.app.world, self.socket, room);
    }

    /// The client disconnects on purpose, as `socket.disconnect()` does: its presence ends at once. The events that it received can
    /// still be read.
    #[track_caller]
    pub fn disconnect(&self) {
        self.disconnect_because(DisconnectReason::Client);
    }

    /// The connection breaks, as with a reloaded page or a lost network: the client's presence waits for the grace period.
    #[track_caller]
    pub fn break_connection(&self) {
        self.disconnect_because(DisconnectReason::Transport);
    }

    /// The connection ends for a reason. Only [`DisconnectReason::Client`] is a clean disconnect.
    #[track_caller]
    pub fn disconnect_because(&self, reason: DisconnectReason) {
        run::disconnect::<P>(&self.app.world, self.socket, reason);
    }

    fn next(&self, event: &str) -> Option<Value> {
        let mut world = self.app.world.borrow_mut();
        let inbox = &mut world.sockets.get_mut(&self.socket)?.inbox;
        let at = inbox.iter().position(|(name, _)| name == event)?;
        let (_, args) = inbox.remove(at);
        Some(args.into_iter().next().unwrap_or(Value::Null))
    }

    fn waiting(&self) -> Vec<String> {
        let world = self.app.world.borrow();
        let inbox = world.sockets.get(&self.socket).into_iter().flat_map(|socket| &socket.inbox);
        inbox.map(|(name, args)| format!("{name} {}", Value::from(args.clone()))).collect()
    }
}

/// What became of an event.
#[must_use = "say what is expected of it"]
pub struct Outcome<P> {
    client: Client<P>,
    event: String,
    answer: Result<Option<String>, Refusal>,
}

impl<P> fmt::Debug for Outcome<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {:?}", self.event, self.answer)
    }
}

impl<P: Plugin> Outcome<P> {
    /// It was acknowledged with `{}`.
    ///
    /// # Panics
    /// If it was refused, or acknowledged with more.
    #[track_caller]
    pub fn expect_ok(self) {
        self.expect_ack(json!({}));
    }

    /// It was acknowledged with this.
    ///
    /// # Panics
    /// If it was refused, or acknowledged with something else.
    #[track_caller]
    pub fn expect_ack(self, ack: Value) {
        let event = self.event.clone();
        assert_eq!(self.ack(), ack, "the acknowledgement of {event}");
    }

    /// It was acknowledged with this, and the same reached the sender as an event of the same name.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn expect_reply(self, reply: Value) {
        let event = self.event.clone();
        self.expect_reply_as(&event, reply);
    }

    /// It was acknowledged with this, and the same reached the sender as an event of this name.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn expect_reply_as(self, event: &str, reply: Value) {
        let client = self.client.clone();
        self.expect_ack(reply.clone());
        client.expect(event, reply);
    }

    /// It was refused with this code, as clients see it (`not_found`), and this sentence.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn expect_refusal(self, code: &str, message: &str) {
        let refusal = self.refusal();
        assert_eq!((wire(refusal.code), refusal.message.as_str()), (code, message));
    }

    /// What it was acknowledged with.
    ///
    /// # Panics
    /// If it was refused.
    #[track_caller]
    pub fn ack(self) -> Value {
        match self.answer {
            Ok(None) => json!({}),
            Ok(Some(text)) => serde_json::from_str(&text).unwrap_or(Value::Null),
            Err(refusal) => {
                let logs = self.client.app.logs();
                fail(&format!("{} was refused: {refusal:?}; the log: {logs:?}", self.event))
            }
        }
    }

    /// The refusal.
    ///
    /// # Panics
    /// If it was not refused.
    #[track_caller]
    pub fn refusal(self) -> Refusal {
        match self.answer {
            Err(refusal) => refusal,
            Ok(ack) => fail(&format!("{} was not refused, but acknowledged with {ack:?}", self.event)),
        }
    }
}

/// A code as clients see it.
fn wire(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Unauthenticated => "unauthenticated",
        RefusalCode::Forbidden => "forbidden",
        RefusalCode::NotFound => "not_found",
        RefusalCode::Invalid => "invalid",
        RefusalCode::RateLimited => "rate_limited",
        RefusalCode::TooLarge => "too_large",
        RefusalCode::Unavailable => "unavailable",
        RefusalCode::Internal => "internal",
    }
}
