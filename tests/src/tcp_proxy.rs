//! A TCP proxy that changes no byte. A test can cut it or redirect it to another server. Must never outlive its value.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A proxy that is open until it is cut.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    /// The server behind it. None while it is cut.
    end: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    pub async fn to(server: SocketAddr) -> Self {
        Self::slow_to(server, Duration::ZERO).await
    }

    /// Delays everything that the server sends.
    pub async fn slow_to(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the loopback has ports left");
        let address = listener.local_addr().expect("it is bound");
        let (end, ends) = watch::channel(Some(server));
        Self { address, end, task: tokio::spawn(serve(listener, ends, delay)) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and accepts no new one.
    pub fn cut(&self) {
        self.end.send_replace(None);
    }

    /// Passes new connections on to this server and closes the existing ones.
    pub fn redirect_to(&self, server: SocketAddr) {
        self.end.send_replace(Some(server));
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, mut ends: watch::Receiver<Option<SocketAddr>>, delay: Duration) {
    // Dropping the set ends the connections with this task.
    let mut ways = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (Ok((client, _)), Some(end)) = (accepted, *ends.borrow_and_update()) else { continue };
                ways.spawn(carry(client, end, delay));
            }
            changed = ends.changed() => {
                if changed.is_err() {
                    return;
                }
                ways.abort_all();
            }
        }
    }
}

async fn carry(mut client: TcpStream, end: SocketAddr, delay: Duration) {
    let Ok(mut server) = TcpStream::connect(end).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Both sides see the end of either.
    if delay.is_zero() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = async {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                tokio::time::sleep(delay).await;
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
        } => {}
    }
}
