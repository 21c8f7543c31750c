//! The load generator: many Socket.IO clients on one thread and one epoll, so that its own load on the CPU is small and steady.
//! It must never block on one client, or hide a refusal, a close or an error of the server.

mod wire;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::clock::{MILLI, Pace, SECOND, now};
use crate::measure::Latency;
use wire::Frame;
pub(crate) use wire::Packet;

/// Connects in progress at once. Further ones wait, so that no server's accept queue (Node: 511) overflows.
const OPENING_AT_ONCE: usize = 64;
/// The time limit for all connects, joins or answers of one step together.
pub(crate) const STEP_LIMIT: u64 = 30 * SECOND;
/// Bytes that may be queued for one client if its server does not read. The run ends if there are more.
const PENDING_LIMIT: usize = 1 << 20;
/// The maximum size of one read. A shorter read has emptied the socket.
const READ_SIZE: usize = 128 * 1024;
/// Sockets handled before the caller may send again.
const EVENTS_AT_ONCE: usize = 128;
const TIMER: u64 = u64::MAX;

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
    stream: TcpStream,
    state: State,
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

    fn flush(&mut self) -> Result<()> {
        let mut done = 0;
        while done < self.pending.len() {
            match self.stream.write(&self.pending[done..]) {
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
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
            ensure!(bytes.starts_with(b"HTTP/1.1 101"), "the websocket was refused: {}", String::from_utf8_lossy(&bytes[..end]));
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

    fn packet<H>(&mut self, packet: Packet<'_>, on_packet: &mut H) -> Result<()>
    where
        H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
    {
        match packet {
            Packet::Ping => return self.text(|out| out.push(b'3')),
            Packet::Open => {
                self.state = State::Connecting;
                let (namespace, token) = (self.namespace, std::mem::take(&mut self.token));
                return self.text(|out| {
                    let place = if namespace == "/" { String::new() } else { format!("{namespace},") };
                    let _ = write!(out, "40{place}{{\"token\":\"{token}\"}}");
                });
            }
            Packet::Connected => self.state = State::Live,
            Packet::Refused(why) => bail!("client {} was refused: {}", self.index, String::from_utf8_lossy(why)),
            Packet::Closed => {
                self.state = State::Closed;
                bail!("client {} was disconnected by the server", self.index);
            }
            _ => {}
        }
        on_packet(self, packet)
    }
}

/// All clients of one measure. Dropping it closes them.
pub(crate) struct Swarm {
    epoll: Epoll,
    timer: TimerFd,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    stop: Arc<AtomicBool>,
}

impl Swarm {
    /// # Errors
    /// The kernel has no epoll or timer left to give.
    pub(crate) fn new(stop: &Arc<AtomicBool>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        // Edge-triggered: setting it again clears it, so it is never read.
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER))?;
        let buffer = vec![0; READ_SIZE].into_boxed_slice();
        Ok(Self { epoll, timer, clients: Vec::new(), buffer, stop: Arc::clone(stop) })
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn client(&mut self, index: usize) -> Result<&mut Client> {
        self.clients.get_mut(index).context("no such client")
    }

    /// Opens a client for each target, `per_second` of them or as fast as they are accepted, and returns when all are connected.
    /// Records the time from the first SYN to the answer of the CONNECT.
    ///
    /// # Errors
    /// One is refused, closed, or not connected within 30 s of the last.
    pub(crate) fn open(
        &mut self,
        addr: SocketAddr,
        targets: impl IntoIterator<Item = Target>,
        per_second: Option<f64>,
    ) -> Result<Latency> {
        let mut targets = targets.into_iter().peekable();
        let mut latency = Latency::new()?;
        let (mut opening, mut moved) = (0usize, now());
        let mut pace = Pace::per_second(per_second.unwrap_or(1e6), moved);
        while targets.peek().is_some() || opening > 0 {
            while opening < OPENING_AT_ONCE && pace.due(now()) {
                let Some(target) = targets.next() else { break };
                self.begin(addr, target)?;
                opening += 1;
                moved = now();
            }
            ensure!(now() < moved + STEP_LIMIT, "{opening} connects were not answered in time");
            let soon = now() + 20 * MILLI;
            let until = if targets.peek().is_some() && opening < OPENING_AT_ONCE { pace.next().min(soon) } else { soon };
            self.turn(until, |client, packet| {
                if packet == Packet::Connected {
                    opening -= 1;
                    latency.record(now() - client.began);
                }
                Ok(())
            })?;
        }
        Ok(latency)
    }

    /// Closes all clients without a word, as a lost network does. The next client opened is the first again.
    pub(crate) fn close(&mut self) {
        // Closing a socket removes it from the epoll.
        self.clients.clear();
    }

    fn begin(&mut self, addr: SocketAddr, target: Target) -> Result<()> {
        let began = now();
        let stream = TcpStream::connect(addr).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let index = self.clients.len();
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        self.epoll.add(&stream, EpollEvent::new(flags, index as u64))?;
        let Target { namespace, token } = target;
        let mut client = Client {
            index,
            namespace,
            token,
            stream,
            state: State::Upgrading,
            began,
            partial: Vec::new(),
            pending: Vec::new(),
            stuck: false,
        };
        client.upgrade(addr)?;
        self.clients.push(client);
        Ok(())
    }

    /// Sends one event from every client and waits for all acks.
    ///
    /// # Errors
    /// An ack carries an error, or is missing after 30 s.
    pub(crate) fn ask_all(&mut self, mut body: impl FnMut(usize, &mut Vec<u8>)) -> Result<()> {
        let mut missing = self.clients.len();
        let limit = now() + STEP_LIMIT;
        for index in 0..self.clients.len() {
            self.client(index)?.emit(Some(0), |out| body(index, out))?;
            // Read in between, so that early answers do not pile up while later requests are sent.
            self.turn(0, |_, packet| answered(packet, &mut missing))?;
        }
        while missing > 0 {
            ensure!(now() < limit, "{missing} of {} acks are missing", self.clients.len());
            self.turn(limit, |_, packet| answered(packet, &mut missing))?;
        }
        Ok(())
    }

    /// Waits until only pings have arrived for `quiet` ns, so that the events of connects and joins are over. At most 5 s.
    pub(crate) fn settle(&mut self, quiet: u64) -> Result<()> {
        let limit = now() + 5 * SECOND;
        let mut until = now() + quiet;
        while now() < until.min(limit) {
            self.turn(until.min(limit), |_, _| {
                until = now() + quiet;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until a socket is readable or the clock reaches `until` (ns), and passes every packet except pings to `on_packet`.
    /// One turn handles each ready socket once; callers loop.
    ///
    /// # Errors
    /// A client was refused or closed, `on_packet` returned an error, or the run was interrupted.
    pub(crate) fn turn<H>(&mut self, until: u64, mut on_packet: H) -> Result<()>
    where
        H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
    {
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        let timeout = if until <= now() {
            EpollTimeout::ZERO
        } else {
            let at = TimeSpec::new((until / SECOND) as i64, (until % SECOND) as i64);
            self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            EpollTimeout::NONE
        };
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        let ready = match self.epoll.wait(&mut events, timeout) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in events.iter().take(ready).filter(|event| event.data() != TIMER) {
            let Some(client) = self.clients.get_mut(event.data() as usize) else { continue };
            if client.stuck && event.events().contains(EpollFlags::EPOLLOUT) {
                client.flush()?;
            }
            let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
            if event.events().intersects(readable) {
                read(client, &mut self.buffer, &mut on_packet)?;
            }
        }
        Ok(())
    }
}

fn answered(packet: Packet<'_>, missing: &mut usize) -> Result<()> {
    if let Packet::Ack(_, args) = packet {
        accepted(args)?;
        *missing -= 1;
    }
    Ok(())
}

/// # Errors
/// The ack says that the event was refused.
pub(crate) fn accepted(args: &[u8]) -> Result<()> {
    ensure!(!args.starts_with(b"[{\"error\""), "refused: {}", String::from_utf8_lossy(args));
    Ok(())
}

fn read<H>(client: &mut Client, buffer: &mut [u8], on_packet: &mut H) -> Result<()>
where
    H: FnMut(&mut Client, Packet<'_>) -> Result<()>,
{
    loop {
        let n = match client.stream.read(buffer) {
            Ok(0) => bail!("client {} was closed by the server", client.index),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).with_context(|| format!("client {} reads", client.index)),
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
        if n < buffer.len() {
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
