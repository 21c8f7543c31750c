//! The TCP connections under the sockets: upgrades them to websocket with the least work, closes them from outside, and detects
//! clients that do not read. Of Socket.IO it only uses the session id.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
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

/// Closes a connection from outside, even if its queue is full.
#[derive(Clone, Default)]
pub struct Closer(Arc<Ending>);

#[derive(Default)]
struct Ending {
    closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// The last write was blocked, or no poll waits: the client does not read, or reads slower than it is sent to.
    stalled: AtomicBool,
    /// In the list of stalled connections, or taken from it and still checked.
    listed: AtomicBool,
    /// Bytes that the kernel has accepted.
    written: AtomicU64,
    name: OnceLock<Sid>,
    stalls: Option<Arc<Stalls>>,
}

/// The connections with a client that does not read. There are few at any time.
#[derive(Default)]
pub struct Stalls {
    list: Mutex<Vec<Closer>>,
    first: Notify,
}

impl Stalls {
    /// The connections that have stalled since the last call.
    pub fn take(&self) -> Vec<Closer> {
        std::mem::take(&mut self.list.lock())
    }

    /// Resolves when a connection may have stalled.
    pub async fn some(&self) {
        self.first.notified().await;
    }

    fn add(&self, closer: Closer) {
        self.list.lock().push(closer);
        self.first.notify_one();
    }
}

impl Closer {
    /// A closer that is added to the list when its client does not read.
    pub fn listed_in(stalls: Arc<Stalls>) -> Self {
        Self(Arc::new(Ending { stalls: Some(stalls), ..Ending::default() }))
    }

    /// Sets the engine's session id of the connection.
    pub fn name(&self, sid: Sid) {
        // The id never changes.
        let _ = self.0.name.set(sid);
    }

    pub fn named(&self) -> Option<Sid> {
        self.0.name.get().copied()
    }

    /// Bytes that the kernel has accepted so far.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Whether the client still does not read. If it does, the connection is listed again at its next stall.
    pub fn is_stalled(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        if self.0.stalled.load(Ordering::SeqCst) {
            return true;
        }
        self.0.listed.store(false, Ordering::SeqCst);
        // If it has stalled again meanwhile, it found itself listed and did not add itself.
        self.0.stalled.load(Ordering::SeqCst) && !self.0.listed.swap(true, Ordering::SeqCst)
    }

    /// Ends the checks of this connection until it stalls again.
    pub fn unlist(&self) {
        self.0.listed.store(false, Ordering::SeqCst);
    }

    /// Records the result of a write. On a busy connection this is a load and an addition.
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

    /// A poll waits: its client has received everything so far.
    pub fn waited_for(&self) {
        self.0.stalled.store(false, Ordering::SeqCst);
    }

    /// A poll was answered with this many bytes. The client has stalled until it polls again.
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

    /// Fails the connection's next read or write, and any that is blocked by a client that does not read. A stock client sees that
    /// the transport is closed, and reconnects. Returns whether this call was the first.
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

/// The result of `poll`, unless the connection was closed. The waker is registered only if `poll` has to wait: that is rare on a
/// busy connection, and registering costs as much as the rest.
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

/// A TCP connection that a `Closer` can close.
pub struct Connection {
    io: TcpStream,
    /// Bytes that followed the upgrade's request.
    early: Bytes,
    /// The parser of event names. None: the connection is not a websocket, or not yet.
    names: Option<Names>,
    /// An incomplete event name, and the bytes after it.
    held: Vec<u8>,
    /// Bytes that are still to be written but that the client has received already. They are dropped.
    muted: usize,
    /// Successful reads in a row.
    burst: u8,
    closer: Closer,
    /// The timeouts of an HTTP connection.
    watch: Option<Box<Watch>>,
    _permit: Option<TcpPermit>,
}

impl Connection {
    /// `tcp_permit` is dropped with the connection.
    pub fn new(io: TcpStream, watch: Option<Watch>, tcp_permit: Option<TcpPermit>) -> Self {
        let (closer, watch) = (Closer::default(), watch.map(Box::new));
        Self { io, early: Bytes::new(), names: None, held: Vec::new(), muted: 0, burst: 0, closer, watch, _permit: tcp_permit }
    }
}

/// Reads in a row after which other tasks run. A client that sends hundreds of events at once would otherwise fill its own queue
/// with the answers before the task that writes them has run once.
const MAX_BURST: u8 = 2;

/// The engine's close packet as a frame. Node's server never sends it over a websocket, and Python's clients do not reconnect
/// after it, so it is dropped: the websocket is closed right after it anyway. No other frame ends with these bytes, since JSON
/// has no byte 1.
const CLOSE_PACKET: [u8; 3] = [0x81, 1, b'1'];

impl Connection {
    /// Drops at most this many of the bytes that the client has received already.
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
        // Only a websocket has `names`.
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

/// Headers that are stored for the life of a connection. Storing all would keep hyper's read buffer allocated.
const KEPT: [header::HeaderName; 3] = [header::AUTHORIZATION, header::ORIGIN, header::USER_AGENT];

/// Whether a request upgrades to a websocket of Engine.IO 4. The engine's own service answers all other requests.
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

/// Answers an upgrade, and passes the bare TCP connection to `serve`. From then on `closer` closes it, and nothing of hyper
/// remains: no task, no boxed stream, no read buffer.
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
        // The client may have disconnected.
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

/// A copy of a request's head that shares no buffer with it.
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
