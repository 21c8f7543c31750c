//! A way to a server that can be cut, and laid to another: a TCP proxy that changes nothing. Must never outlive its value.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A way that is open until it is cut.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    /// Where it leads; nowhere while it is cut.
    end: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Cable {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the loopback has ports left");
        let address = listener.local_addr().expect("it is bound");
        let (end, ends) = watch::channel(Some(server));
        Self { address, end, task: tokio::spawn(serve(listener, ends)) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends what goes through it, and lets nothing through.
    pub fn cut(&self) {
        self.end.send_replace(None);
    }

    /// Leads there from now on; what went elsewhere ends.
    pub fn lead_to(&self, server: SocketAddr) {
        self.end.send_replace(Some(server));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, mut ends: watch::Receiver<Option<SocketAddr>>) {
    // Ends with this task what it has begun.
    let mut ways = JoinSet::new();
    loop {
        tokio::select! {
            came = listener.accept() => {
                let (Ok((client, _)), Some(end)) = (came, *ends.borrow_and_update()) else { continue };
                ways.spawn(carry(client, end));
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

async fn carry(mut client: TcpStream, end: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(end).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // However it ends, both ends see it.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
