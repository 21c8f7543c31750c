//! Clients that connect, join a room and stop reading. Each must never cost this process more than a socket.

use std::net::SocketAddr;
use std::process::Command;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use crate::server::Builder;
use crate::{Auth, Client};

/// The size of the kernel's receive buffer for one client: the minimum.
const RECEIVE_BUFFER: u32 = 2048;

/// How many connect at the same time.
const AT_ONCE: usize = 200;

/// Connections that are not read.
pub struct StalledClients(Vec<TcpStream>);

impl StalledClients {
    /// Connects this many clients to a namespace. Each sends one event, waits for its ack and stops reading.
    pub async fn join(at: SocketAddr, namespace: &str, event: &str, payload: &Value, count: usize) -> Self {
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            let joining = (0..AT_ONCE.min(count - streams.len())).map(async |_| {
                let socket = TcpSocket::new_v4().expect("a file descriptor is free: see `connection_limit`");
                socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a new socket accepts options");
                let stream = socket.connect(at).await.expect("the server listens");
                let mut client = Client::connect_on(stream, namespace, Auth::default()).await.expect("the client is accepted");
                client.ask(event, payload.clone()).await;
                client.into_stream()
            });
            streams.extend(join_all(joining).await);
        }
        Self(streams)
    }

    /// Reads everything that all of them have received so far and returns the number of bytes.
    pub fn drain(&self) -> usize {
        let mut buffer = [0; 4096];
        let mut bytes = 0;
        for stream in &self.0 {
            while let Ok(read @ 1..) = stream.try_read(&mut buffer) {
                bytes += read;
            }
        }
        bytes
    }

    /// The number of connections.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Files that this process, or a server, has open besides these connections.
const OTHER_FILES: usize = 1000;

/// The number of connections, up to `most`, that this process and the servers it starts from now on can have open.
pub fn connection_limit(most: usize) -> usize {
    most.min(allow_open_files((most + OTHER_FILES) as u64) as usize - OTHER_FILES)
}

/// Sets heartbeats so long that no connection ends for a missing pong.
pub fn without_heartbeats(server: Builder) -> Builder {
    server.env("HUBBUB_GATEWAY__PING_INTERVAL", "10m").env("HUBBUB_GATEWAY__PING_TIMEOUT", "10m")
}

/// Raises the limit of open files for this process and the servers it starts from now on, as far as the system allows. Returns
/// the limit.
fn allow_open_files(count: u64) -> u64 {
    let process = format!("--pid={}", std::process::id());
    let prlimit = |args: &[&str]| {
        let done = Command::new("prlimit").arg(&process).args(args).output().expect("prlimit is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    // "unlimited" is not a number, and high enough.
    let hard = prlimit(&["--nofile", "--noheadings", "--raw", "--output=HARD"]).parse().unwrap_or(u64::MAX);
    let count = count.min(hard);
    prlimit(&[&format!("--nofile={count}:")]);
    count
}
