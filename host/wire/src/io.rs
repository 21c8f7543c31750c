//! The TCP connection under a websocket, taken out of hyper: past its handshake nothing of hyper is left on it.

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
    /// What was read of it already.
    pub early: Bytes,
    /// Something that lives as long as the connection, such as a permit that counts it.
    pub keep: Option<Box<dyn Any + Send>>,
}

/// Takes the TCP connection out of what hyper was given. None: there is none in it, and the websocket is closed.
pub type Takeover = fn(Upgraded) -> Option<Tcp>;

/// The TCP connection of a server that serves `TokioIo<TcpStream>`, as `axum::serve` and hyper's own servers do.
pub fn plain(upgraded: Upgraded) -> Option<Tcp> {
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Some(Tcp { stream: parts.io.into_inner(), early: parts.read_buf, keep: None }),
        Err(upgraded) => {
            let parts = hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded).ok()?;
            Some(Tcp { stream: parts.io.into_inner(), early: parts.read_buf, keep: None })
        }
    }
}

/// The reading side of a websocket, with what was read and not taken yet.
pub(crate) struct Incoming {
    pub(crate) reader: OwnedReadHalf,
    pub(crate) held: Vec<u8>,
    pub(crate) keep: Option<Box<dyn Any + Send>>,
}

/// Takes a connection apart. A copy of what was read early lets hyper's buffer go.
pub(crate) fn split(tcp: Tcp) -> (Incoming, OwnedWriteHalf) {
    // An event must not wait for another one to fill its segment. This fails only where the connection has ended already.
    let _ = tcp.stream.set_nodelay(true);
    let (reader, writer) = tcp.stream.into_split();
    (Incoming { reader, held: tcp.early.to_vec(), keep: tcp.keep }, writer)
}
