//! Takes the TCP connection of a websocket out of hyper, so that nothing of hyper stays in memory after the handshake.

use std::any::Any;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A TCP connection that was taken out of hyper.
pub struct Tcp {
    /// The connection.
    pub stream: TcpStream,
    /// Bytes that hyper had read after the request.
    pub early: Bytes,
    /// A value that is dropped when the connection is closed, such as a permit.
    pub keep: Option<Box<dyn Any + Send>>,
}

/// Takes the TCP connection out of hyper's upgraded connection. If it returns None, the websocket is closed.
pub type Takeover = fn(Upgraded) -> Option<Tcp>;

/// The [`Takeover`] for servers on `TokioIo<TcpStream>`, as `axum::serve`.
pub fn plain(upgraded: Upgraded) -> Option<Tcp> {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Some(Tcp { stream: parts.io.into_inner(), early: parts.read_buf, keep: None }),
        Err(upgraded) => {
            let parts = hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
            Some(Tcp { stream: parts.io.into_inner(), early: parts.read_buf, keep: None })
        }
    }
}

/// The reading side of a websocket, with bytes that were read and not decoded.
pub(crate) struct Incoming {
    pub(crate) reader: OwnedReadHalf,
    pub(crate) held: Vec<u8>,
    pub(crate) keep: Option<Box<dyn Any + Send>>,
}

/// Splits a connection. The early bytes are copied, so that hyper's buffer is freed.
pub(crate) fn split(tcp: Tcp) -> (Incoming, OwnedWriteHalf) {
    // An event must not wait for a full segment. This fails only if the connection has ended.
    let _ = tcp.stream.set_nodelay(true);
    let (reader, writer) = tcp.stream.into_split();
    (Incoming { reader, held: tcp.early.to_vec(), keep: tcp.keep }, writer)
}
