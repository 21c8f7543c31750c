//! A client of the harness: it sends events, and collects the events that it receives.

use std::fmt;

use serde_json::{Value, json};

use super::{DisconnectReason, Harness, fail, run};
use crate::{Plugin, Refusal, RefusalCode};

/// One socket. Cheap to clone: clones are the same socket.
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

    /// Sends an event with one payload. Messages that follow from it are handled before this returns.
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

    /// The payloads of the events of this name that the client has received and no test has read.
    pub fn received(&self, event: &str) -> Vec<Value> {
        let mut world = self.app.world.borrow_mut();
        let Some(socket) = world.sockets.get_mut(&self.socket) else { return Vec::new() };
        let (wanted, rest) = std::mem::take(&mut socket.inbox).into_iter().partition(|(name, _)| name == event);
        socket.inbox = rest;
        let wanted: Vec<(String, Vec<Value>)> = wanted;
        wanted.into_iter().map(|(_, args)| args.into_iter().next().unwrap_or(Value::Null)).collect()
    }

    /// Reads the next event of this name, which must have this payload.
    ///
    /// # Panics
    /// If it has another payload, or the client has received none.
    #[track_caller]
    pub fn expect(&self, event: &str, payload: Value) {
        match self.next(event) {
            Some(got) => assert_eq!(got, payload, "the payload of {event}"),
            None => fail(&format!("the client has not received {event}, but {:?}", self.waiting())),
        }
    }

    /// Reads the payload of the next event of this name.
    ///
    /// # Panics
    /// If the client has received none.
    #[track_caller]
    pub fn expect_any(&self, event: &str) -> Value {
        match self.next(event) {
            Some(payload) => payload,
            None => fail(&format!("the client has not received {event}, but {:?}", self.waiting())),
        }
    }

    /// Checks that the client has received no event that the test has not read.
    ///
    /// # Panics
    /// If it has.
    #[track_caller]
    pub fn expect_nothing(&self) {
        let waiting = self.waiting();
        assert!(waiting.is_empty(), "expected nothing more, but there is {waiting:?}");
    }

    /// Drops the events that the client has received.
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

    /// Puts the client into a room that another plugin owns.
    ///
    /// # Panics
    /// If it has disconnected.
    #[track_caller]
    pub fn put_in(&self, room: &str) {
        run::put_in(&self.app.world, self.socket, room);
    }

    /// Disconnects cleanly, as `socket.disconnect()` does: the client's presence ends at once. Its received events can still be read.
    #[track_caller]
    pub fn disconnect(&self) {
        self.disconnect_because(DisconnectReason::Client);
    }

    /// Breaks the connection, as a reloaded page or a lost network does: the client's presence waits for the grace period.
    #[track_caller]
    pub fn break_connection(&self) {
        self.disconnect_because(DisconnectReason::Transport);
    }

    /// Ends the connection for a reason. Only [`DisconnectReason::Client`] is a clean disconnect.
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

/// The result of an event that a client sent.
#[must_use = "check it with one of the `expect_` methods"]
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
    /// The event was acknowledged with `{}`.
    ///
    /// # Panics
    /// If it was refused, or acknowledged with another value.
    #[track_caller]
    pub fn expect_ok(self) {
        self.expect_ack(json!({}));
    }

    /// The event was acknowledged with this value.
    ///
    /// # Panics
    /// If it was refused, or acknowledged with another value.
    #[track_caller]
    pub fn expect_ack(self, ack: Value) {
        let event = self.event.clone();
        assert_eq!(self.ack(), ack, "the acknowledgement of {event}");
    }

    /// The event was acknowledged with this value, and the sender received the value as an event of the same name.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn expect_reply(self, reply: Value) {
        let event = self.event.clone();
        self.expect_reply_as(&event, reply);
    }

    /// The event was acknowledged with this value, and the sender received the value as an event of this name.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn expect_reply_as(self, event: &str, reply: Value) {
        let client = self.client.clone();
        self.expect_ack(reply.clone());
        client.expect(event, reply);
    }

    /// The event was refused with this code, as clients see it (`not_found`), and this sentence.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn expect_refusal(self, code: &str, message: &str) {
        let refusal = self.refusal();
        assert_eq!((wire(refusal.code), refusal.message.as_str()), (code, message));
    }

    /// The acknowledgement.
    ///
    /// # Panics
    /// If the event was refused.
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
    /// If the event was not refused.
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
