//! A TCP connection on which a test writes HTTP by hand: slowly, in part, or with headers that no client library sends. Must
//! never add a byte of its own.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::wait::DEADLINE;

/// One connection.
pub struct Raw(TcpStream);

impl Raw {
    pub async fn open(at: SocketAddr) -> Self {
        Self(TcpStream::connect(at).await.expect("the port is open"))
    }

    /// Uses such a small receive buffer that the server soon fills it.
    pub async fn open_small(at: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("the system has sockets left");
        socket.set_recv_buffer_size(4096).expect("a new socket accepts options");
        Self(socket.connect(at).await.expect("the port is open"))
    }

    /// Writes. Returns `false` if the other side has closed the connection.
    pub async fn write(&mut self, text: &str) -> bool {
        timeout(DEADLINE, self.0.write_all(text.as_bytes())).await.expect("it is read in time").is_ok()
    }

    /// Waits for the end of the connection and returns everything read before it.
    pub async fn closed(mut self) -> String {
        let mut read = Vec::new();
        let end = timeout(DEADLINE, self.0.read_to_end(&mut read)).await;
        assert!(end.is_ok(), "the connection stayed open, after {:?}", String::from_utf8_lossy(&read));
        String::from_utf8_lossy(&read).into_owned()
    }

    /// The next bytes.
    pub async fn read(&mut self) -> String {
        let mut read = vec![0; 4096];
        let count = timeout(DEADLINE, self.0.read(&mut read)).await.expect("an answer in time").expect("a connection");
        String::from_utf8_lossy(&read[..count]).into_owned()
    }
}

/// Sends one request that asks to close the connection, and returns the whole answer.
pub async fn ask(at: SocketAddr, request: &str) -> String {
    let mut raw = Raw::open(at).await;
    raw.write(request).await;
    raw.closed().await
}
