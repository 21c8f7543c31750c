//! A proxy that breaks websockets, as some company proxies do: it passes the handshake on and nothing after it. Must never change
//! any other request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The fault of a websocket after its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both sides are closed.
    Cut,
    /// No frame is passed on.
    Silent,
}

/// The proxy. Dropping it stops it.
pub struct WebsocketBlocker {
    address: SocketAddr,
    broken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl WebsocketBlocker {
    pub async fn start(server: SocketAddr, breaks: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the system has ports left");
        let address = listener.local_addr().expect("it is bound");
        let broken = Arc::new(AtomicUsize::new(0));
        let count = broken.clone();
        let task = tokio::spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                carried.spawn(carry(client, server, breaks, count.clone()));
            }
        });
        Self { address, broken, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Number of websockets broken so far.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Drop for WebsocketBlocker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, breaks: Fault, broken: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let head = head(&mut client).await;
    if server.write_all(&head).await.is_err() {
        return;
    }
    if !String::from_utf8_lossy(&head).to_ascii_lowercase().contains("upgrade: websocket") {
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let answer = self::head(&mut server).await;
    let _ = client.write_all(&answer).await;
    broken.fetch_add(1, Ordering::Relaxed);
    if breaks == Fault::Silent {
        // Wait until the client gives up.
        let mut swallowed = [0; 256];
        while client.read(&mut swallowed).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

/// The bytes up to the end of an HTTP head, or of the connection.
async fn head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(bytes) if bytes > 0 => {}
            _ => break,
        }
    }
    head
}
