//! The load generator: many Socket.IO clients on one thread and one epoll, so that its own load on the CPU is small and steady.
//! It must never block on one client, or hide a refusal, a close or an error of the server.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Socket, Type};

use super::{Client, Packet, STEP_LIMIT, Session, State, Target, read};
use crate::clock::{MILLI, Pace, SECOND, now};
use crate::measure::Latency;

/// Connects in progress at once. Further ones wait, so that no server's accept queue (Node: 511) overflows.
const OPENING_AT_ONCE: usize = 64;
/// The maximum size of one read. A shorter read has emptied the socket.
const READ_SIZE: usize = 128 * 1024;
/// Sockets handled before the caller may send again.
const EVENTS_AT_ONCE: usize = 128;
const TIMER: u64 = u64::MAX;

/// All clients of one measure. Dropping it closes them.
pub(crate) struct Swarm {
    epoll: Epoll,
    timer: TimerFd,
    clients: Vec<Client>,
    /// Whether clients remember what they need to come back.
    returning: bool,
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
        Ok(Self { epoll, timer, clients: Vec::new(), returning: false, buffer, stop: Arc::clone(stop) })
    }

    /// Clients that may lose their connection and come back. Their refusals and ends are passed to the measure.
    ///
    /// # Errors
    /// The kernel has no epoll or timer left to give.
    pub(crate) fn returning(stop: &Arc<AtomicBool>) -> Result<Self> {
        Ok(Self { returning: true, ..Self::new(stop)? })
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
                if matches!(packet, Packet::Connected(_)) {
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

    /// Closes one client without a word.
    pub(crate) fn cut(&mut self, index: usize) -> Result<()> {
        self.client(index)?.cut();
        Ok(())
    }

    /// Connects a client that was cut again, with what it remembers. Does not wait, not even for the server's accept queue.
    ///
    /// # Errors
    /// The kernel has no socket left to give.
    pub(crate) fn come_back(&mut self, index: usize, addr: SocketAddr) -> Result<()> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Until it is connected, writes wait. The reader reports a refusal.
        let _ = socket.connect(&addr.into());
        let stream = TcpStream::from(socket);
        self.epoll.add(&stream, EpollEvent::new(watched(), index as u64))?;
        let client = self.client(index)?;
        client.cut();
        (client.stream, client.state, client.began) = (Some(stream), State::Upgrading, now());
        client.upgrade(addr)
    }

    fn begin(&mut self, addr: SocketAddr, target: Target) -> Result<()> {
        let began = now();
        let stream = TcpStream::connect(addr).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let index = self.clients.len();
        self.epoll.add(&stream, EpollEvent::new(watched(), index as u64))?;
        let Target { namespace, token } = target;
        let mut client = Client {
            index,
            namespace,
            token,
            stream: Some(stream),
            state: State::Upgrading,
            session: self.returning.then(Session::default),
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
            let ended = event.events().intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            if ended || event.events().contains(EpollFlags::EPOLLIN) {
                read(client, &mut self.buffer, ended, &mut on_packet)?;
            }
        }
        Ok(())
    }
}

fn watched() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET
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
