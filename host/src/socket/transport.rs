//! TCP under the sockets: upgrades to websocket by the shortest way, and can end a connection whose client
//! no longer reads, or tell that it does not. Of Socket.IO it knows no more than how the engine names a connection.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socketioxide_core::Sid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::tcp_permits::TcpPermit;
use names::Names;
use watch::Watch;

pub mod names;
pub mod probe;
pub mod watch;

/// Ends a connection from outside, however full its queue is.
#[derive(Clone, Default)]
pub struct Closer(Arc<Ending>);

#[derive(Default)]
struct Ending {
    closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// The last write found no room, or no poll waits: the client does not read, or not as fast as it is sent to.
    stalled: AtomicBool,
    /// Among the stalled ones, until somebody has seen that it is none any more.
    listed: AtomicBool,
    /// Bytes that the kernel has taken.
    written: AtomicU64,
    name: OnceLock<Sid>,
    stalls: Option<Arc<Stalls>>,
}

/// The connections whose client does not read: few, at any time.
#[derive(Default)]
pub struct Stalls {
    list: Mutex<Vec<Closer>>,
    first: Notify,
}

impl Stalls {
    /// Those that have stalled since the last call.
    pub fn take(&self) -> Vec<Closer> {
        std::mem::take(&mut self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when there may be one.
    pub async fn some(&self) {
        self.first.notified().await;
    }

    fn add(&self, closer: Closer) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(closer);
        self.first.notify_one();
    }
}

impl Closer {
    /// One that is listed there while its client does not read.
    pub fn listed_in(stalls: Arc<Stalls>) -> Self {
        Self(Arc::new(Ending { stalls: Some(stalls), ..Ending::default() }))
    }

    /// How the engine calls the connection.
    pub fn name(&self, sid: Sid) {
        // It has one name for life.
        let _ = self.0.name.set(sid);
    }

    pub fn named(&self) -> Option<Sid> {
        self.0.name.get().copied()
    }

    /// Bytes that the kernel has taken so far.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Whether its client still does not read. One that does is listed again when it stops.
    pub fn is_stalled(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        if self.0.stalled.load(Ordering::SeqCst) {
            return true;
        }
        self.0.listed.store(false, Ordering::SeqCst);
        // One that has stalled again in between saw itself listed.
        self.0.stalled.load(Ordering::SeqCst) && !self.0.listed.swap(true, Ordering::SeqCst)
    }

    /// It is looked at no more, until it stalls anew.
    pub fn unlist(&self) {
        self.0.listed.store(false, Ordering::SeqCst);
    }

    /// Keeps what came of a write. On a busy connection that is a load and an addition.
    fn wrote(&self, answer: &Poll<io::Result<usize>>) {
        let stalled = self.0.stalled.load(Ordering::Relaxed);
        match answer {
            Poll::Ready(Ok(bytes)) => {
                self.0.written.fetch_add(*bytes as u64, Ordering::Relaxed);
                if stalled {
                    self.0.stalled.store(false, Ordering::SeqCst);
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending if stalled => {}
            Poll::Pending => self.stall(),
        }
    }

    /// A poll waits: its client has taken all there was.
    pub fn waited_for(&self) {
        self.0.stalled.store(false, Ordering::SeqCst);
    }

    /// A poll has ended with so many bytes. Whether the client comes for more is to be seen.
    pub fn answered(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Ordering::Relaxed);
        self.stall();
    }

    fn stall(&self) {
        self.0.stalled.store(true, Ordering::SeqCst);
        if let Some(stalls) = &self.0.stalls
            && !self.0.listed.swap(true, Ordering::SeqCst)
        {
            stalls.add(self.clone());
        }
    }

    /// The connection's next read or write answers its end, also one that waits for a client that does not read. A stock client
    /// sees the transport close, and comes again. Answers whether this was the first to close it.
    pub fn close(&self) -> bool {
        let first = !self.0.closed.swap(true, Ordering::AcqRel);
        self.0.reader.wake();
        self.0.writer.wake();
        first
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

fn aborted<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
}

/// What `poll` answers, unless the connection was closed. The waker is registered only where it waits: on a busy connection that
/// is seldom, and registering costs as much as the rest.
fn unless_closed<T>(
    closer: &Closer,
    waker: impl Fn(&Ending) -> &AtomicWaker,
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    if closer.is_closed() {
        return aborted();
    }
    let answer = poll(cx);
    if answer.is_pending() {
        waker(&closer.0).register(cx.waker());
        if closer.is_closed() {
            return aborted();
        }
    }
    answer
}

/// A TCP connection that a `Closer` can end.
pub struct Connection {
    io: TcpStream,
    /// What came with the upgrade's request.
    early: Bytes,
    /// Follows a websocket's events. None: it is none, or not yet.
    names: Option<Names>,
    /// The rest of an event's name, and what came with it.
    held: Vec<u8>,
    /// Bytes still to be written that the client has already, and is not sent again.
    muted: usize,
    /// Reads in a row that found something.
    burst: u8,
    closer: Closer,
    /// While it is an HTTP connection.
    watch: Option<Box<Watch>>,
    _place: Option<TcpPermit>,
}

impl Connection {
    /// `tcp_permit` is free again when the connection has ended.
    pub fn new(io: TcpStream, watch: Option<Watch>, tcp_permit: Option<TcpPermit>) -> Self {
        let (closer, watch) = (Closer::default(), watch.map(Box::new));
        Self { io, early: Bytes::new(), names: None, held: Vec::new(), muted: 0, burst: 0, closer, watch, _place: tcp_permit }
    }
}

/// Reads in a row after which others get their turn. A client that sends hundreds of events at once would otherwise fill its own
/// queue with the answers, before the task that writes them has run once.
const MAX_BURST: u8 = 2;

/// The engine's close packet as a frame of its own. Node's server never sends it over a websocket, and Python's clients do not reconnect
/// after it, so it is left out: the websocket is closed right after it anyway. No other frame ends like this, since JSON has no
/// byte 1.
const CLOSE_PACKET: [u8; 3] = [0x81, 1, b'1'];

impl Connection {
    /// Takes at most this many of the bytes that the client has already.
    fn mute(&mut self, bytes: usize) -> usize {
        let muted = bytes.min(self.muted);
        self.muted -= muted;
        muted
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.burst >= MAX_BURST {
            self.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mut read = self.poll_plain(cx, buf);
        if let Some(watch) = &mut self.watch {
            read = watch.read(cx, read, buf.filled().len() > before);
        }
        self.burst = if read.is_ready() { self.burst + 1 } else { 0 };
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.muted > 0 {
            return Poll::Ready(Ok(self.mute(buf.len())));
        }
        // Only a websocket follows names.
        let buf = match buf.strip_suffix(&CLOSE_PACKET) {
            Some([]) if self.names.is_some() => return Poll::Ready(Ok(CLOSE_PACKET.len())),
            Some(before) if self.names.is_some() => before,
            _ => buf,
        };
        let Self { io, closer, watch, .. } = &mut *self;
        let answer = unless_closed(closer, |ending| &ending.writer, cx, |cx| Pin::new(io).poll_write(cx, buf));
        closer.wrote(&answer);
        match watch {
            Some(watch) => watch.wrote(cx, answer),
            None => answer,
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.muted > 0 {
            return Poll::Ready(Ok(self.mute(bufs.iter().map(|buf| buf.len()).sum())));
        }
        let Self { io, closer, watch, .. } = &mut *self;
        let answer = unless_closed(closer, |ending| &ending.writer, cx, |cx| Pin::new(io).poll_write_vectored(cx, bufs));
        closer.wrote(&answer);
        match watch {
            Some(watch) => watch.wrote(cx, answer),
            None => answer,
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

/// Headers that are kept for the life of a connection; all others are hyper's read buffer, which they would keep alive.
const KEPT: [header::HeaderName; 3] = [header::AUTHORIZATION, header::ORIGIN, header::USER_AGENT];

/// Whether a request wants a websocket for Engine.IO 4. All others go to the engine's own service, which answers what is wrong.
pub fn wants_websocket<B>(request: &Request<B>) -> bool {
    let has = |name: header::HeaderName, value: &str| {
        let found = request.headers().get(name).and_then(|found| found.to_str().ok());
        found.is_some_and(|found| found.split(',').any(|part| part.trim().eq_ignore_ascii_case(value)))
    };
    let query = request.uri().query().unwrap_or_default();
    let asks = |pair: &str| query.split('&').any(|part| part == pair);
    asks("EIO=4")
        && asks("transport=websocket")
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
        && request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
}

/// Answers an upgrade and hands the bare TCP connection, which `closer` ends from now on, to `serve`. Past this point nothing of hyper is left: neither its task,
/// nor its boxed stream, nor the buffer that it read the request into.
pub fn upgrade<B>(
    mut request: Request<B>,
    closer: Closer,
    serve: impl FnOnce(Connection, Request<()>) + Send + 'static,
) -> Response<axum::body::Body> {
    let refused = |status| {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = status;
        response
    };
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let Some(accept) = key.map(|key| tungstenite::handshake::derive_accept_key(key.as_bytes())) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let kept = slim(&request);
    tokio::spawn(async move {
        // A client that has gone meanwhile needs no answer.
        let Ok(upgraded) = upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Connection>>() else { return };
        let mut connection = parts.io.into_inner();
        connection.early = if parts.read_buf.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&parts.read_buf) };
        connection.closer = closer;
        connection.watch = None;
        connection.names = Some(Names::default());
        serve(connection, kept);
    });
    let mut response = refused(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// A copy of what is kept of a request, which shares no buffer with it.
fn slim<B>(request: &Request<B>) -> Request<()> {
    let mut kept = Request::new(());
    *kept.method_mut() = request.method().clone();
    if let Ok(uri) = request.uri().to_string().parse() {
        *kept.uri_mut() = uri;
    }
    let mut headers = HeaderMap::new();
    for name in KEPT {
        if let Some(value) = request.headers().get(&name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            headers.insert(name, value);
        }
    }
    *kept.headers_mut() = headers;
    kept
}
