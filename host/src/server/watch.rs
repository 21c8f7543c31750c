//! An HTTP connection with its timeouts: for the head of a request, and for a client that does not read its answer. A websocket is
//! not watched: it has its heartbeat, and the limits of its queue.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hubbub_wire::Tcp;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::socket::tcp_permits::TcpPermit;

/// No request is being answered: bytes that are read belong to the next head.
const WAITS: u8 = 0;
/// A request is being answered: bytes that are read belong to its body.
const ANSWERS: u8 = 1;
/// The connection is a websocket's.
const UPGRADED: u8 = 2;

/// The state of a connection, shared by its HTTP service and its watch.
#[derive(Default)]
pub struct Exchange {
    state: AtomicU8,
    /// Requests so far.
    requests: AtomicU32,
    /// The timeout that closed the connection: 0 for none, otherwise its index in `LATE` plus 1.
    late: AtomicU8,
}

/// The timeouts, as in metrics and the log.
const LATE: [&str; 2] = ["head_timeout", "write_timeout"];

impl Exchange {
    /// A request is now being answered.
    pub fn begin(&self) {
        self.state.store(ANSWERS, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer was produced. It may be the answer to an upgrade.
    pub fn end(&self, upgraded: bool) {
        self.state.store(if upgraded { UPGRADED } else { WAITS }, Ordering::Relaxed);
    }

    /// The timeout that closed the connection.
    pub fn late(&self) -> Option<&'static str> {
        LATE.get(usize::from(self.late.load(Ordering::Relaxed)).checked_sub(1)?).copied()
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Relaxed) == state
    }
}

/// Watches one connection.
pub struct Watch {
    exchange: Arc<Exchange>,
    /// The time from the first byte of a head to its last.
    head_within: Duration,
    /// The time between two reads of an answer by the client.
    write_within: Duration,
    head: Option<Pin<Box<Sleep>>>,
    /// The number of complete heads so far.
    heads: u32,
    write: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub fn new(exchange: Arc<Exchange>, head_within: Duration, write_within: Duration) -> Self {
        Self { exchange, head_within, write_within, head: None, heads: 0, write: None }
    }

    /// Turns a read into an error if the head is late. `found`: the read returned bytes.
    fn read(&mut self, cx: &mut Context<'_>, read: Poll<io::Result<()>>, found: bool) -> Poll<io::Result<()>> {
        let heads = self.exchange.requests.load(Ordering::Relaxed);
        if heads != self.heads {
            (self.head, self.heads) = (None, heads);
        }
        if !self.exchange.is(WAITS) {
            return read;
        }
        match &read {
            Poll::Ready(Ok(())) if found => {
                let within = self.head_within;
                self.head.get_or_insert_with(|| Box::pin(sleep(within)));
                read
            }
            Poll::Pending => self.unless_late(cx, 0),
            Poll::Ready(_) => read,
        }
    }

    /// Turns a write into an error if the client reads nothing for too long.
    fn wrote(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if wrote.is_ready() || self.exchange.is(UPGRADED) {
            self.write = None;
            return wrote;
        }
        let within = self.write_within;
        self.write.get_or_insert_with(|| Box::pin(sleep(within)));
        self.unless_late(cx, 1)
    }

    fn unless_late<T>(&mut self, cx: &mut Context<'_>, limit: u8) -> Poll<io::Result<T>> {
        let timer = if limit == 0 { &mut self.head } else { &mut self.write };
        if timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            self.exchange.late.store(limit + 1, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

/// A TCP connection that is watched while it speaks HTTP.
pub struct Connection {
    io: TcpStream,
    /// None: past a port's limits, where the whole connection has a timeout.
    watch: Option<Box<Watch>>,
    tcp_permit: Option<TcpPermit>,
}

impl Connection {
    /// `tcp_permit` is dropped with the connection.
    pub fn new(io: TcpStream, watch: Option<Watch>, tcp_permit: Option<TcpPermit>) -> Self {
        Self { io, watch: watch.map(Box::new), tcp_permit }
    }
}

/// Takes the TCP connection of a websocket out of hyper. The permit is held until the websocket is closed.
pub fn take_over(upgraded: Upgraded) -> Option<Tcp> {
    let parts = upgraded.downcast::<TokioIo<Connection>>().ok()?;
    let Connection { io, tcp_permit, .. } = parts.io.into_inner();
    Some(Tcp { stream: io, early: parts.read_buf, keep: tcp_permit.map(|tcp_permit| Box::new(tcp_permit) as _) })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        match &mut self.watch {
            Some(watch) => watch.read(cx, read, buf.filled().len() > before),
            None => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, buf);
        match &mut self.watch {
            Some(watch) => watch.wrote(cx, wrote),
            None => wrote,
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        match &mut self.watch {
            Some(watch) => watch.wrote(cx, wrote),
            None => wrote,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
