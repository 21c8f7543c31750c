//! A real Redis on a free port, without persistence. Must never outlive its value.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::server::{Scratch, free_address};
use crate::wait;

/// `$0` is the server's folder, the rest is the server. It ends with the process that holds the other end of its input.
const GUARD: &str = r#""$@" & read word; kill -KILL $!; rm -rf "$0""#;

/// A running Redis server.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    child: Child,
    scratch: Scratch,
}

impl Redis {
    pub async fn start() -> Self {
        let (address, scratch) = (free_address(), Scratch::new());
        let child = spawn(plain(), address, &scratch);
        let redis = Self { address, child, scratch };
        redis.ready().await;
        redis
    }

    /// One server for all tests of this process that do not stop it. Each test uses its own [prefix](Self::prefix).
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        let start = async || {
            let (address, scratch) = (free_address(), Scratch::new());
            let mut guarded = Command::new("sh");
            guarded.args(["-c", GUARD]).arg(scratch.path()).arg("redis-server").stdin(Stdio::piped());
            let redis = Self { address, child: spawn(guarded, address, &scratch), scratch };
            redis.ready().await;
            redis
        };
        SHARED.get_or_init(start).await
    }

    /// A prefix of keys and channels that no other test uses.
    pub fn prefix(&self) -> String {
        static MADE: AtomicU64 = AtomicU64::new(0);
        format!("test{}", MADE.fetch_add(1, Ordering::Relaxed))
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the process: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it, which loses all its data.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port, empty.
    pub async fn start_again(&mut self) {
        self.child = spawn(plain(), self.address, &self.scratch);
        self.ready().await;
    }

    /// Runs a command of words without spaces and returns the raw answer.
    pub async fn ask(&self, command: &str) -> String {
        self.try_ask(command).await.expect("Redis answers")
    }

    /// Publishes arbitrary bytes.
    pub async fn publish(&self, channel: &str, message: &[u8]) {
        let mut stream = TcpStream::connect(self.address).await.expect("Redis accepts connections");
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n", channel.len(), message.len());
        stream.write_all(&[head.as_bytes(), message, b"\r\nQUIT\r\n"].concat()).await.expect("Redis reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("Redis answers");
        assert!(answer.starts_with(':'), "publishing to {channel}: {answer}");
    }

    async fn try_ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    async fn ready(&self) {
        wait::eventually("Redis to answer", async || {
            self.try_ask("PING").await.is_some_and(|answer| answer.starts_with("+PONG"))
        })
        .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Killing it also ends a paused process.
        self.stop();
    }
}

fn plain() -> Command {
    let mut server = Command::new("redis-server");
    server.stdin(Stdio::null());
    server
}

/// Starts the server with a command that lacks only its arguments.
fn spawn(mut server: Command, address: SocketAddr, scratch: &Scratch) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(scratch.path().join("redis.log")).expect("a scratch file");
    server.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    server.stdout(log).current_dir(scratch.path());
    server.spawn().expect("redis-server runs; `make test` installs it")
}
