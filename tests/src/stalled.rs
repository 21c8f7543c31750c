//! Clients that connect, join a room and never read again of themselves. Must never hold more of this process than a socket each.

use std::net::SocketAddr;
use std::process::Command;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use crate::server::Builder;
use crate::{Auth, Client};

/// What the kernel keeps for one of them on this side: as little as it takes.
const RECEIVE_BUFFER: u32 = 2048;

/// On their way in at once.
const AT_ONCE: usize = 200;

/// Connections that nobody reads.
pub struct Stalled(Vec<TcpStream>);

impl Stalled {
    /// Lets so many into a namespace, each of which sends one event there, waits for its ack, and falls silent.
    pub async fn join(at: SocketAddr, namespace: &str, event: &str, payload: &Value, count: usize) -> Self {
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            let joining = (0..AT_ONCE.min(count - streams.len())).map(async |_| {
                let socket = TcpSocket::new_v4().expect("a file descriptor is free: see `room_for`");
                socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("a fresh socket takes options");
                let stream = socket.connect(at).await.expect("the server listens");
                let mut client = Client::connect_on(stream, namespace, Auth::default()).await.expect("it is let in");
                client.ask(event, payload.clone()).await;
                client.into_stream()
            });
            streams.extend(join_all(joining).await);
        }
        Self(streams)
    }

    /// Reads away what has come to all of them up to now: how many bytes.
    pub fn read_away(&self) -> usize {
        let mut buffer = [0; 4096];
        let mut bytes = 0;
        for stream in &self.0 {
            while let Ok(read @ 1..) = stream.try_read(&mut buffer) {
                bytes += read;
            }
        }
        bytes
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Files that this process, and a server, have open beside a crowd's connections.
const OTHER_FILES: usize = 1000;

/// How many of so many connections this process, and the servers it starts from now on, can have open.
pub fn room_for(most: usize) -> usize {
    most.min(allow_open_files((most + OTHER_FILES) as u64) as usize - OTHER_FILES)
}

/// Nobody is ended for a heartbeat that nobody answers.
pub fn without_heartbeats(server: Builder) -> Builder {
    server.env("HUBBUB_GATEWAY__PING_INTERVAL", "10m").env("HUBBUB_GATEWAY__PING_TIMEOUT", "10m")
}

/// Lets this process, and the servers it starts from now on, have so many files open, or as many as the system allows: how many.
fn allow_open_files(count: u64) -> u64 {
    let process = format!("--pid={}", std::process::id());
    let prlimit = |args: &[&str]| {
        let done = Command::new("prlimit").arg(&process).args(args).output().expect("prlimit is there");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    // "unlimited" is no number, and enough.
    let hard = prlimit(&["--nofile", "--noheadings", "--raw", "--output=HARD"]).parse().unwrap_or(u64::MAX);
    let count = count.min(hard);
    prlimit(&[&format!("--nofile={count}:")]);
    count
}
