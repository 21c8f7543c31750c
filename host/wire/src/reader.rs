//! The reading side of a connection: packets, namespaces, heartbeat. It has one owner at a time and no locks: the task of a
//! websocket owns it for life, the task and the POSTs of a polling session in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use crate::asks::Answer;
use crate::config::Config;
use crate::handler::{Accepted, Connect, EngineBody, EngineMessage, Event, Handler, Refused};
use crate::link::{End, How, Link};
use crate::message::Message;
use crate::packet::{self, Body, Packet};
use crate::reason::{BadPacket, Limit, Reason};
use crate::shared::Shared;
use crate::socket::Socket;
use heartbeat::Heartbeat;
use pending::PendingPacket;

mod heartbeat;
mod pending;

/// The reading side of one connection.
pub(crate) struct Reader<H: Handler> {
    shared: Arc<Shared<H>>,
    pub(crate) link: Arc<Link>,
    /// None after [`Handler::closed`] was called.
    data: Option<H::Connection>,
    sockets: Vec<Entry<H>>,
    connects: Vec<PendingConnect<H>>,
    /// A packet that waits for attachments.
    pending: Option<Box<PendingPacket>>,
    heartbeat: Heartbeat,
    /// The deadline of a connection that has no namespace.
    connect_by: Option<Instant>,
    /// The reason, once the connection has ended.
    ended: Option<Reason>,
}

struct Entry<H: Handler> {
    socket: Socket,
    state: State<H>,
}

enum State<H: Handler> {
    /// The handler decides on its connect. Its events wait.
    Connecting(Vec<EarlyEvent>),
    Connected(H::Socket),
    /// The handler has disconnected it. Packets that its client sent before it was notified are ignored.
    Left,
}

/// An event that was received before its socket was connected.
struct EarlyEvent {
    name: String,
    args: String,
    ack: Option<u64>,
    attachments: Vec<Bytes>,
    is_binary: bool,
}

type Decision<H> = Result<Accepted<<H as Handler>::Socket>, Refused>;

struct PendingConnect<H: Handler> {
    socket: Socket,
    decision: Pin<Box<dyn Future<Output = Decision<H>> + Send>>,
}

impl<H: Handler> Reader<H> {
    pub(crate) fn new(shared: Arc<Shared<H>>, link: Arc<Link>, data: H::Connection) -> Box<Self> {
        let now = Instant::now();
        Box::new(Self {
            heartbeat: Heartbeat::new(now, &shared.config),
            connect_by: Some(now + shared.config.connect_timeout),
            shared,
            link,
            data: Some(data),
            sockets: Vec::new(),
            connects: Vec::new(),
            pending: None,
            ended: None,
        })
    }

    fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Handles one text packet of the engine.
    ///
    /// # Errors
    /// The connection ends.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), End> {
        match text.as_bytes().first() {
            Some(b'4') => self.message(&text[1..]).map_err(|reason| End { reason, how: How::Flush }),
            Some(b'3') => {
                self.heartbeat.pong(self.shared.config.ping_interval);
                Ok(())
            }
            // A noop, and packets that only matter during a handshake.
            Some(b'0' | b'5' | b'6') => Ok(()),
            Some(b'1') if self.link.is_websocket() => Err(End { reason: Reason::TransportClose, how: How::Code(None) }),
            Some(b'1') => Err(End { reason: Reason::TransportClose, how: How::Gone }),
            // Only servers send pings.
            Some(b'2') => Err(End { reason: Reason::TransportError, how: How::Code(None) }),
            _ => Err(End { reason: BadPacket::Type.into(), how: How::Code(None) }),
        }
    }

    fn message(&mut self, text: &str) -> Result<(), Reason> {
        if self.shared.handler.message(EngineMessage { link: &self.link, body: EngineBody::Text(text) }) {
            return Ok(());
        }
        if self.pending.is_some() {
            return Err(BadPacket::MissingAttachment.into());
        }
        let packet = packet::parse(text, self.config().attachments)?;
        match packet.attachments {
            Some(count) if count > 0 => {
                self.pending = Some(PendingPacket::new(text, count, Instant::now() + self.config().attachment_timeout));
                Ok(())
            }
            _ => self.packet(packet, Vec::new()),
        }
    }

    /// Handles one binary packet of the engine: an attachment.
    ///
    /// # Errors
    /// The connection ends.
    pub(crate) fn binary(&mut self, bytes: Bytes) -> Result<(), End> {
        self.attachment(bytes).map_err(|reason| End { reason, how: How::Flush })
    }

    fn attachment(&mut self, bytes: Bytes) -> Result<(), Reason> {
        if self.shared.handler.message(EngineMessage { link: &self.link, body: EngineBody::Binary(&bytes) }) {
            return Ok(());
        }
        let Some(mut pending) = self.pending.take() else { return Err(BadPacket::UnexpectedAttachment.into()) };
        if !pending.add(bytes, self.config().attachment_bytes)? {
            self.pending = Some(pending);
            return Ok(());
        }
        let (text, attachments) = pending.open();
        self.packet(packet::parse(&text, attachments.len())?, attachments)
    }

    fn packet(&mut self, packet: Packet<'_>, attachments: Vec<Bytes>) -> Result<(), Reason> {
        let Packet { namespace, attachments: count, body } = packet;
        let at = self.sockets.iter().position(|entry| entry.socket.namespace() == namespace);
        let auth = match body {
            Body::Connect(auth) => auth,
            Body::ConnectError => return Err(BadPacket::Unexpected.into()),
            other => {
                let at = at.ok_or(BadPacket::Unexpected)?;
                return self.of_socket(at, other, attachments, count.is_some());
            }
        };
        if let Some(at) = at {
            // A second CONNECT is refused, unless the first socket has ended.
            if !matches!(self.sockets[at].state, State::Left) {
                return Err(BadPacket::Unexpected.into());
            }
            self.sockets.swap_remove(at);
        }
        self.connect(namespace, auth)
    }

    fn connect(&mut self, namespace: &str, auth: Option<&str>) -> Result<(), Reason> {
        if namespace.len() > self.config().namespace_bytes {
            return Err(Limit::NamespaceBytes.into());
        }
        if self.sockets.len() >= self.config().namespaces {
            self.sockets.retain(|entry| !matches!(entry.state, State::Left));
            if self.sockets.len() >= self.config().namespaces {
                return Err(Limit::Namespaces.into());
            }
        }
        let Some(connection) = self.data.clone() else { return Ok(()) };
        let socket = Socket::new(self.link.clone(), namespace);
        // Most connections have one namespace.
        self.sockets.reserve_exact(1);
        self.sockets.push(Entry { socket: socket.clone(), state: State::Connecting(Vec::new()) });
        let connect = Connect { connection, socket: socket.clone(), auth: auth.map(Into::into) };
        let decision = Box::pin(self.shared.handler.clone().connect(connect));
        self.connects.push(PendingConnect { socket, decision });
        Ok(())
    }

    fn of_socket(&mut self, at: usize, body: Body<'_>, attachments: Vec<Bytes>, is_binary: bool) -> Result<(), Reason> {
        let most = self.config().early_events;
        let Entry { socket, state } = &mut self.sockets[at];
        match (body, state) {
            (_, State::Left) => {}
            // As for a namespace that is not connected.
            (Body::Disconnect, State::Connecting(_)) => return Err(BadPacket::Unexpected.into()),
            (Body::Event { .. }, State::Connecting(early)) if early.len() >= most => return Err(Limit::EarlyEvents.into()),
            (Body::Event { name, args, ack }, State::Connecting(early)) => {
                early.push(EarlyEvent { name: name.into_owned(), args: args.to_owned(), ack, attachments, is_binary });
            }
            // The handler has disconnected it, and gets no more events of it.
            (_, State::Connected(_)) if socket.is_leaving() => {}
            (Body::Event { name, args, ack }, State::Connected(data)) => {
                self.shared.handler.event(socket, data, Event { name, args, ack, attachments, is_binary });
            }
            (Body::Disconnect, State::Connected(_)) => {
                self.leave(at, Reason::ClientDisconnect, false);
                // Python's client may end without a close packet, after its last poll was answered.
                self.link.release_poll();
            }
            (Body::Ack { id: Some(id), args }, _) => {
                self.link.asks.answer(socket.namespace(), id, Answer { args: args.to_owned(), attachments });
            }
            (Body::Ack { id: None, .. } | Body::Nothing | Body::Connect(_) | Body::ConnectError, _) => {}
        }
        Ok(())
    }

    /// Ends a socket, but not its connection. `keep` leaves a `State::Left` behind.
    fn leave(&mut self, at: usize, reason: Reason, keep: bool) {
        let entry = &mut self.sockets[at];
        let State::Connected(data) = std::mem::replace(&mut entry.state, State::Left) else { return };
        let socket = entry.socket.clone();
        if !keep {
            self.sockets.swap_remove(at);
        }
        self.link.asks.end(Some(socket.namespace()));
        if !self.sockets.iter().any(|entry| matches!(entry.state, State::Connected(_))) {
            self.connect_by = Some(Instant::now() + self.config().connect_timeout);
        }
        socket.gone();
        self.shared.handler.disconnected(&socket, data, reason);
    }

    /// Ends the sockets that the handler has disconnected.
    pub(crate) fn sweep(&mut self) {
        if self.link.take_leaving() {
            self.sockets.iter().for_each(|entry| entry.socket.disconnect());
        }
        for at in 0..self.sockets.len() {
            let entry = &self.sockets[at];
            if matches!(entry.state, State::Connected(_)) && entry.socket.is_leaving() {
                self.leave(at, Reason::ServerDisconnect, true);
            }
        }
    }

    /// Whether connects are pending.
    pub(crate) fn is_deciding(&self) -> bool {
        !self.connects.is_empty()
    }

    /// Drives the pending connects, and answers those that are decided. Ready when none is pending.
    pub(crate) fn poll_connects(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut at = 0;
        while let Some(connect) = self.connects.get_mut(at) {
            match connect.decision.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(decision) => {
                    let socket = self.connects.remove(at).socket;
                    self.decided(&socket, decision);
                }
            }
        }
        if self.connects.is_empty() {
            self.connects = Vec::new();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn decided(&mut self, socket: &Socket, decision: Decision<H>) {
        let at = self.sockets.iter().position(|entry| Arc::ptr_eq(&entry.socket.0, &socket.0));
        match (decision, at, self.ended) {
            (Ok(accepted), Some(at), None) => self.accept(at, socket, accepted),
            (Ok(accepted), _, ended) => {
                socket.gone();
                self.shared.handler.disconnected(socket, accepted.data, ended.unwrap_or(Reason::TransportClose));
            }
            (Err(refused), at, ended) => {
                at.map(|at| self.sockets.swap_remove(at));
                socket.gone();
                if ended.is_none() {
                    self.link.send(&Message::connect_error(socket.namespace(), &refused.to_json()), false);
                }
            }
        }
    }

    fn accept(&mut self, at: usize, socket: &Socket, accepted: Accepted<H::Socket>) {
        let Accepted { data, recoverable, missed } = accepted;
        let sid = socket.id();
        let ids = if recoverable {
            format!(r#"{{"sid":"{sid}","pid":"{}"}}"#, socket.private_id())
        } else {
            format!(r#"{{"sid":"{sid}"}}"#)
        };
        self.connect_by = None;
        socket.open(&missed, &Message::connect(socket.namespace(), &ids));
        let state = std::mem::replace(&mut self.sockets[at].state, State::Left);
        self.shared.handler.connected(socket, &data);
        if let State::Connecting(early) = state {
            for EarlyEvent { name, args, ack, attachments, is_binary } in early {
                // The handler may have disconnected it just now, and gets no more events of it.
                if socket.is_leaving() {
                    break;
                }
                let event = Event { name: name.into(), args: &args, ack, attachments, is_binary };
                self.shared.handler.event(socket, &data, event);
            }
        }
        self.sockets[at].state = State::Connected(data);
        self.sweep();
    }

    /// The time of the next [`Reader::tick`].
    pub(crate) fn deadline(&self) -> Instant {
        let pending = self.pending.as_ref().map(|pending| pending.by);
        self.heartbeat.next.min(self.connect_by.unwrap_or(self.heartbeat.next)).min(pending.unwrap_or(self.heartbeat.next))
    }

    /// Sends a ping, or ends the connection at a deadline.
    ///
    /// # Errors
    /// The connection ends.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), End> {
        let end = |reason: Reason, how| Err(End { reason, how });
        if self.pending.as_ref().is_some_and(|pending| pending.by <= now) {
            return end(Limit::AttachmentTimeout.into(), How::Flush);
        }
        if self.connect_by.is_some_and(|by| by <= now) {
            if self.connects.is_empty() {
                return end(Limit::ConnectTimeout.into(), How::Flush);
            }
            // The handler limits the time of a connect.
            self.connect_by = Some(now + self.config().connect_timeout);
        }
        match self.heartbeat.tick(now, &self.shared.config, || self.link.is_paused() || self.link.take_resumed()) {
            heartbeat::Beat::None => Ok(()),
            heartbeat::Beat::Ping => {
                self.link.send(&Message::PING, false);
                Ok(())
            }
            heartbeat::Beat::Timeout => end(Reason::PingTimeout, How::Code(None)),
        }
    }

    /// Ends all sockets after the end of the connection. Pending connects end when they are decided.
    pub(crate) fn finish(&mut self, reason: Reason) {
        self.ended = Some(reason);
        self.pending = None;
        for Entry { socket, state } in std::mem::take(&mut self.sockets) {
            let reason = if socket.is_leaving() { Reason::ServerDisconnect } else { reason };
            socket.gone();
            if let State::Connected(data) = state {
                self.shared.handler.disconnected(&socket, data, reason);
            }
        }
        self.link.asks.end(None);
    }

    /// Removes the session, so that requests for it are refused.
    pub(crate) fn forget(&self) {
        self.shared.sessions.remove(self.link.id);
    }

    /// After [`Reader::finish`]: drives the pending connects, and then calls [`Handler::closed`].
    pub(crate) fn poll_finished(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_connects(cx).is_pending() {
            return Poll::Pending;
        }
        if let (Some(data), Some(reason)) = (self.data.take(), self.ended) {
            self.shared.handler.closed(data, reason);
        }
        Poll::Ready(())
    }
}

impl<H: Handler> Drop for Reader<H> {
    /// Finishes a connection whose task was dropped: its handler has panicked, or the runtime stops.
    fn drop(&mut self) {
        let Some(data) = self.data.take() else { return };
        self.link.end(Reason::TransportError, How::Abort);
        // A second panic during unwinding would abort the process.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let reason = self.ended.unwrap_or(Reason::TransportError);
            self.forget();
            self.finish(reason);
            self.connects.clear();
            self.shared.handler.closed(data, reason);
        }));
        self.link.close();
    }
}
