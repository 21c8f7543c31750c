//! One Socket.IO client of the load generator, without a thread or a task of its own. It must never hide a refusal, a close or an
//! error of the server.

mod session;
mod swarm;
mod wire;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::clock::SECOND;
pub(crate) use session::{Entry, Session};
pub(crate) use swarm::{Swarm, accepted};
use wire::Frame;
pub(crate) use wire::Packet;

/// The time limit for all connects, joins or answers of one step together.
pub(crate) const STEP_LIMIT: u64 = 30 * SECOND;
/// Bytes that may be queued for one client if its server does not read. The run ends if there are more.
const PENDING_LIMIT: usize = 1 << 20;

/// The namespace that a client connects to, and its token.
pub(crate) struct Target {
    pub(crate) namespace: &'static str,
    pub(crate) token: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Upgrading,
    Opening,
    Connecting,
    Live,
    Closed,
}

/// One client. `index` is its position in the swarm, in the order of the targets.
pub(crate) struct Client {
    pub(crate) index: usize,
    namespace: &'static str,
    token: String,
    /// None while a client that may come back is away.
    stream: Option<TcpStream>,
    state: State,
    /// Of a client that may lose its connection and come back. The measure is notified of its end and of refusals, which end the run
    /// for any other client.
    session: Option<Session>,
    began: u64,
    /// Bytes of an incomplete frame.
    partial: Vec<u8>,
    /// Bytes that the socket has not accepted yet. Frames are also built here.
    pending: Vec<u8>,
    stuck: bool,
}

impl Client {
    /// Sends an event; `body` writes the JSON array.
    ///
    /// # Errors
    /// The server stopped reading, or the connection is gone.
    pub(crate) fn emit(&mut self, ack: Option<u32>, body: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let namespace = self.namespace;
        self.text(|out| {
            out.extend_from_slice(b"42");
            if namespace != "/" {
                out.extend_from_slice(namespace.as_bytes());
                out.push(b',');
            }
            if let Some(id) = ack {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{id}");
            }
            body(out);
        })
    }

    fn text(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        wire::put_text(&mut self.pending, fill)?;
        ensure!(
            self.pending.len() < PENDING_LIMIT,
            "client {} has {PENDING_LIMIT} bytes waiting: the server does not read",
            self.index
        );
        if self.stuck { Ok(()) } else { self.flush() }
    }

    /// How the client's last CONNECT was answered.
    pub(crate) fn entry(&self) -> Entry {
        self.session.as_ref().map(|session| session.entry).unwrap_or_default()
    }

    /// Closes the connection without a word, as a lost network does.
    fn cut(&mut self) {
        // Closing a socket removes it from the epoll.
        self.stream = None;
        self.state = State::Closed;
        self.partial.clear();
        self.pending.clear();
        self.stuck = false;
    }

    /// The connection ended without the client's doing.
    fn lost<H>(&mut self, why: impl FnOnce() -> String, on_packet: &mut H) -> Result<()>
    where
        H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
    {
        if self.session.is_none() {
            bail!("client {} {}", self.index, why());
        }
        if self.state == State::Closed {
            return Ok(());
        }
        self.cut();
        on_packet(self, Packet::Closed)
    }

    fn flush(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut done = 0;
        while done < self.pending.len() {
            match stream.write(&self.pending[done..]) {
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // The reader notices the end, and reports it.
                Err(_) if self.session.is_some() => done = self.pending.len(),
                Err(e) => return Err(e).with_context(|| format!("client {} writes", self.index)),
            }
        }
        self.pending.drain(..done);
        self.stuck = !self.pending.is_empty();
        Ok(())
    }

    fn upgrade(&mut self, addr: SocketAddr) -> Result<()> {
        write!(
            self.pending,
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        self.flush()
    }

    /// Handles one complete unit at the front of `bytes` and returns its length, or `None` if it is incomplete.
    fn take<H>(&mut self, bytes: &[u8], on_packet: &mut H) -> Result<Option<usize>>
    where
        H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
    {
        if self.state == State::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let why = || format!("got no websocket: {}", String::from_utf8_lossy(&bytes[..end]));
                self.lost(why, on_packet)?;
                return Ok(Some(bytes.len()));
            }
            self.state = State::Opening;
            return Ok(Some(end + 4));
        }
        let Some((frame, len)) = wire::frame(bytes) else { return Ok(None) };
        match frame {
            Frame::Text(text) => self.packet(wire::packet(text), on_packet)?,
            Frame::Ping(payload) => {
                wire::put_pong(&mut self.pending, payload)?;
                self.flush()?;
            }
            Frame::Close => self.packet(Packet::Closed, on_packet)?,
            Frame::Other => {}
        }
        Ok(Some(len))
    }

    /// Only a client that may come back needs its token again.
    fn token_once(&mut self) -> String {
        if self.session.is_some() { self.token.clone() } else { std::mem::take(&mut self.token) }
    }

    fn packet<H>(&mut self, packet: Packet<'_>, on_packet: &mut H) -> Result<()>
    where
        H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
    {
        match packet {
            Packet::Ping => return self.text(|out| out.push(b'3')),
            Packet::Open => {
                self.state = State::Connecting;
                let (namespace, token) = (self.namespace, self.token_once());
                let session = self.session.as_ref().map(Session::auth).unwrap_or_default();
                return self.text(|out| {
                    let place = if namespace == "/" { String::new() } else { format!("{namespace},") };
                    let _ = write!(out, "40{place}{{\"token\":\"{token}\"{session}}}");
                });
            }
            Packet::Connected(answer) => {
                self.state = State::Live;
                if let Some(session) = &mut self.session {
                    session.connected(answer);
                }
            }
            Packet::Event(event) => {
                if let Some(session) = &mut self.session {
                    session.heard(event);
                }
            }
            Packet::Refused(why) => {
                ensure!(self.session.is_some(), "client {} was refused: {}", self.index, String::from_utf8_lossy(why));
                self.cut();
            }
            Packet::Closed => return self.lost(|| "was disconnected by the server".to_owned(), on_packet),
            _ => {}
        }
        on_packet(self, packet)
    }
}

/// Reads what has arrived. `ended`: the server has closed, so that even a read that is not full is not the last.
fn read<H>(client: &mut Client, buffer: &mut [u8], ended: bool, on_packet: &mut H) -> Result<()>
where
    H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
{
    loop {
        let Some(stream) = &mut client.stream else { return Ok(()) };
        let n = match stream.read(buffer) {
            Ok(0) => return client.lost(|| "was closed by the server".to_owned(), on_packet),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return client.lost(|| format!("reads: {e}"), on_packet),
        };
        if client.partial.is_empty() {
            let used = take_all(client, &buffer[..n], on_packet)?;
            client.partial.extend_from_slice(&buffer[used..n]);
        } else {
            let mut bytes = std::mem::take(&mut client.partial);
            bytes.extend_from_slice(&buffer[..n]);
            let used = take_all(client, &bytes, on_packet)?;
            bytes.drain(..used);
            client.partial = bytes;
        }
        if n < buffer.len() && !ended {
            return Ok(());
        }
    }
}

fn take_all<H>(client: &mut Client, bytes: &[u8], on_packet: &mut H) -> Result<usize>
where
    H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
{
    let mut used = 0;
    while used < bytes.len() {
        match client.take(&bytes[used..], on_packet)? {
            Some(len) => used += len,
            None => break,
        }
    }
    Ok(used)
}
