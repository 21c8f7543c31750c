//! nginx and HAProxy with the shipped configurations, in which only addresses and times are changed. Must never outlive its
//! value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::container::is_root;
use crate::server::{Scratch, Server, free_address, signal};
use crate::wait;

/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(5);

/// The number of nodes in the shipped files.
const NODES: usize = 3;

/// A configuration under `host/deploy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShippedConfig {
    Nginx,
    NginxSticky,
    Haproxy,
    HaproxySticky,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl ShippedConfig {
    pub const ALL: [Self; 4] = [Self::Nginx, Self::NginxSticky, Self::Haproxy, Self::HaproxySticky];

    /// The configurations that support long polling.
    pub const STICKY: [Self; 2] = [Self::NginxSticky, Self::HaproxySticky];

    pub fn is_sticky(self) -> bool {
        Self::STICKY.contains(&self)
    }

    fn file(self) -> PathBuf {
        let name = match self {
            Self::Nginx => "nginx.conf",
            Self::NginxSticky => "nginx-sticky.conf",
            Self::Haproxy => "haproxy.cfg",
            Self::HaproxySticky => "haproxy-sticky.cfg",
        };
        crate::checkout_dir().join("host/deploy").join(name)
    }

    fn is_nginx(self) -> bool {
        matches!(self, Self::Nginx | Self::NginxSticky)
    }

    /// The shipped text for these nodes with `changes` applied. Fails if a text to be replaced is missing.
    fn text(self, listen: SocketAddr, nodes: &[(SocketAddr, SocketAddr)], changes: &[(&str, &str)]) -> String {
        let mut text = std::fs::read_to_string(self.file()).expect("a shipped file");
        let mut change = |from: &str, to: &str| {
            assert!(text.contains(from), "{self:?} has no {from:?}");
            text = text.replace(from, to);
        };
        let (shipped, here) = if self.is_nginx() { ("listen 8080", "listen") } else { ("bind :8080", "bind") };
        change(shipped, &format!("{here} {listen}"));
        for (n, (public, admin)) in nodes.iter().enumerate() {
            // Nodes on one machine also differ in their admin port.
            let checked = if self.is_nginx() { String::new() } else { format!(" port {}", admin.port()) };
            change(&format!("node{}:4100", n + 1), &format!("{public}{checked}"));
        }
        for (from, to) in changes {
            change(from, to);
        }
        let absent: Vec<_> = (nodes.len() + 1..=NODES).map(|n| format!("node{n}:4100")).collect();
        let stays = |line: &&str| {
            let names_absent = absent.iter().any(|name| line.contains(name));
            let by_root_alone = !is_root() && ["user ", "group "].iter().any(|key| line.trim_start().starts_with(key));
            !names_absent && !by_root_alone
        };
        text.lines().filter(stays).map(|line| format!("{line}\n")).collect()
    }

    /// The program with that file: it checks the file only, or serves in the foreground.
    fn command(self, scratch: &Path, check: bool) -> Command {
        let config = scratch.join("config");
        let mut command;
        if self.is_nginx() {
            command = program("nginx");
            command.args(["-e", "stderr", "-g"]).arg(format!("daemon off; pid {};", scratch.join("pid").display()));
            command.arg("-c").arg(config).args(check.then_some("-t"));
        } else {
            command = program("haproxy");
            command.arg(if check { "-c" } else { "-db" }).arg("-f").arg(config);
        }
        command.stdin(Stdio::null());
        command
    }

    /// The program's own check of the file.
    pub fn check(self) -> Output {
        let scratch = Scratch::new();
        let nodes: Vec<_> = (0..NODES).map(|_| (free_address(), free_address())).collect();
        std::fs::write(scratch.path().join("config"), self.text(free_address(), &nodes, &[])).expect("a scratch file");
        self.command(scratch.path(), true).output().expect("the program runs; .make/need.sh servers installs it")
    }

    /// Starts it in front of these nodes.
    pub async fn before(self, nodes: &[&Server]) -> Proxy {
        self.changed(nodes, &[]).await
    }

    /// Starts it with these replacements in its file: old text, new text.
    pub async fn changed(self, nodes: &[&Server], changes: &[(&str, &str)]) -> Proxy {
        let (scratch, address) = (Scratch::new(), free_address());
        let nodes: Vec<_> = nodes.iter().map(|node| (node.address(), node.admin_address())).collect();
        std::fs::write(scratch.path().join("config"), self.text(address, &nodes, changes)).expect("a scratch file");
        let log = std::fs::File::create(scratch.path().join("log")).expect("a scratch file");
        let mut command = self.command(scratch.path(), false);
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let child = command.spawn().expect("the program runs; .make/need.sh servers installs it");
        let proxy = Proxy { child, address, scratch };
        wait::eventually("the proxy to pass on a node's answer", async || {
            reqwest::get(proxy.url("/health")).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        proxy
    }
}

impl Proxy {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // If nginx is killed, its workers keep running.
        signal(self.child.id(), "TERM");
        let end = Instant::now() + END;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end {
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
            eprintln!("--- the proxy's log ---\n{log}");
        }
    }
}

/// Debian installs them in a folder that is only in root's PATH.
fn program(name: &str) -> Command {
    let path = Path::new("/usr/sbin").join(name);
    if path.exists() { Command::new(path) } else { Command::new(name) }
}
