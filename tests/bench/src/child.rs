//! A server in a process of its own: started, awaited, measured from outside, and ended when the value is dropped. It must never
//! compare by measurements that the server reports.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// How long a server may take to end by itself before it is killed.
const END_LIMIT: Duration = Duration::from_secs(10);
const REDIS_LIMIT: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// The interval between two checks of a process.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const LOG_TAIL: usize = 2000;
/// No more of an HTTP answer is read.
const ANSWER_LIMIT: usize = 1 << 20;

/// A running server.
pub(crate) struct Child {
    process: std::process::Child,
    pub(crate) addr: SocketAddr,
    log: PathBuf,
}

impl Child {
    /// Starts `command` and returns once `GET /health` at `addr` answers 200. Its output goes to a file beside the run's data.
    ///
    /// # Errors
    /// It ends before it answers, or has not answered after `limit`; the end of its output is in the error.
    pub(crate) fn start(command: Command, addr: SocketAddr, log: PathBuf, limit: Duration, stop: &AtomicBool) -> Result<Self> {
        Self::start_until(healthy, command, addr, log, limit, stop)
    }

    /// A redis-server without persistence.
    ///
    /// # Errors
    /// It is not installed, or does not listen.
    pub(crate) fn redis(folder: &Path, stop: &AtomicBool) -> Result<Self> {
        let addr = free_addr()?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.current_dir(folder);
        let listens = |addr: SocketAddr| TcpStream::connect_timeout(&addr, PROBE_LIMIT).is_ok();
        Self::start_until(listens, command, addr, folder.join("redis.log"), REDIS_LIMIT, stop)
    }

    fn start_until(
        answers: impl Fn(SocketAddr) -> bool,
        mut command: Command,
        addr: SocketAddr,
        log: PathBuf,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Our own servers and those in JavaScript end when their standard input ends, so that even a killed bench leaves none running.
        command.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        let process = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut child = Self { process, addr, log };
        let began = Instant::now();
        loop {
            if let Some(status) = child.process.try_wait()? {
                bail!("the server ended ({status}) before it answered: {}", child.tail());
            }
            if answers(addr) {
                return Ok(child);
            }
            ensure!(!stop.load(Ordering::Relaxed), "interrupted");
            ensure!(began.elapsed() < limit, "the server did not answer within {limit:?}: {}", child.tail());
            pause();
        }
    }

    /// User and system CPU time of all threads so far, including those that have ended: the value of `/proc/PID/stat`, but in
    /// nanoseconds. That file's ticks of 10 ms are too coarse for 2000 connects.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let time = clock_gettime(clock_getcpuclockid(self.pid()?)?)?;
        Ok(Duration::from(time))
    }

    /// Resident bytes, counted page by page: `/proc/PID/statm` lags behind by some pages for each CPU.
    pub(crate) fn resident(&self) -> Result<u64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in smaps_rollup")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// Open files, of which each connection is one.
    pub(crate) fn files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }

    /// Asks the server to stop, as an operator's restart does.
    pub(crate) fn ask_to_stop(&self) -> Result<()> {
        Ok(kill(self.pid()?, Signal::SIGTERM)?)
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// The end of the server's output, for an error.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(LOG_TAIL);
        String::from_utf8_lossy(&text[from..]).trim().to_owned()
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.process.id())?))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            // It may already have ended by itself.
            let _ = kill(pid, Signal::SIGTERM);
        }
        let began = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if began.elapsed() > END_LIMIT {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            pause();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime in this process, and a process of another's making has no event to wait for"
)]
fn pause() {
    std::thread::sleep(POLL_INTERVAL);
}

/// A free loopback address.
pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A command that runs this program as `native` or `floor`.
pub(crate) fn own_command(role: &str, addr: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).arg(addr.to_string());
    Ok(command)
}

/// Posts a JSON body over a new connection.
///
/// # Errors
/// The answer is not 2xx, or does not come within 2 s.
pub(crate) fn post(addr: SocketAddr, path: &str, key: &str, body: &str) -> Result<()> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(addr, &request)?;
    ensure!(answer.starts_with("HTTP/1.1 2"), "POST {path} was answered: {answer}");
    Ok(())
}

/// The value of a gauge without labels at `/metrics`, for what cannot be seen from outside.
///
/// # Errors
/// There is no such gauge.
pub(crate) fn gauge(admin: SocketAddr, name: &str) -> Result<f64> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let page = exchange(admin, &request)?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).with_context(|| format!("no {name}"))?;
    Ok(value.trim().parse()?)
}

fn healthy(addr: SocketAddr) -> bool {
    let request = format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    exchange(addr, &request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn exchange(addr: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    // A server that keeps the connection open despite the header is read until it pauses.
    while answer.len() < ANSWER_LIMIT {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(e) if !answer.is_empty() && matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The folder of this package, which contains the servers in JavaScript; the workspace is two levels up.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
