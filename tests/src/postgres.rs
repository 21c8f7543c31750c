//! A real PostgreSQL on a free port, with fsync on. Must never outlive its value or this process: a shell beside it ends it and
//! removes its data when either has ended.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::certificate_authority::CertificateAuthority;
use crate::server::{Scratch, free_address};
use crate::wait;

/// How long recovery after a kill may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// `$0` is the data folder, the rest is the server. The word `keep` makes it keep the data for another start.
const GUARD: &str = r#"
exec 3<&0
"$@" 3<&- & server=$!
{ read word <&3; [ "$word" = keep ] || { kill -QUIT $server; while kill -0 $server; do sleep 0.05; done; rm -rf "$0"; }; } 2>/dev/null &
wait $server
"#;

/// A running PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    scratch: Scratch,
    port: u16,
    guard: Child,
}

impl Postgres {
    /// The user and the password that it requires.
    pub const USER: &str = "hubbub";
    pub const PASSWORD: &str = "a test password";

    /// A server for this test alone.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Like [`start`](Self::start), but accepts TLS connections only, with a certificate for 127.0.0.1 that this authority has
    /// signed.
    pub async fn start_with_tls(authority: &CertificateAuthority) -> Self {
        Self::start_with(|data| {
            let key = data.join("server.key");
            authority.sign("IP:127.0.0.1", &key, &data.join("server.crt"));
            if !unprivileged().is_empty() {
                run(Command::new("chown").arg("postgres:").arg(&key));
            }
            std::fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n").expect("a file of ours");
            let settings = std::fs::File::options().append(true).open(data.join("postgresql.conf"));
            settings.and_then(|mut file| file.write_all(b"ssl = on\n")).expect("a file of ours");
        })
        .await
    }

    /// `prepare` receives the data folder before the start.
    async fn start_with(prepare: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new();
        let data = scratch.path().join("postgres");
        let copied = Command::new("cp").arg("-a").args([template().await, &data]).status();
        assert!(copied.is_ok_and(|status| status.success()), "the template is copied");
        prepare(&data);
        let port = free_address().port();
        let guard = spawn(scratch.path(), port);
        let mut server = Self { scratch, port, guard };
        server.ready(None).await;
        server
    }

    /// One server for all tests of this process that do not stop it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// The URL of an empty schema that no other test uses.
    pub async fn empty(&self) -> String {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("test{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.sql(&self.url(""), &format!("CREATE SCHEMA {name}")).await;
        self.url(&format!("?options=-csearch_path%3D{name}"))
    }

    fn url(&self, options: &str) -> String {
        self.url_with(Self::PASSWORD, options)
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A URL with this password, right or wrong.
    pub fn url_with(&self, password: &str, options: &str) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/postgres{options}", Self::USER, password.replace(' ', "%20"), self.port)
    }

    /// Runs SQL statements and returns their output.
    pub async fn sql(&self, url: &str, sql: &str) -> String {
        let mut psql = tokio::process::Command::new("psql");
        let output = psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url]).output().await;
        let output = output.expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills it as a crash would. Its child processes end by themselves.
    pub fn kill9(&mut self) -> u32 {
        let pid = self.pid().expect("a running server has a process id");
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill -KILL {pid}");
        self.keep();
        pid
    }

    /// Starts it again after a kill, on the same port with the same data.
    pub async fn start_again(&mut self, killed: u32) {
        self.guard = spawn(self.scratch.path(), self.port);
        self.ready(Some(killed)).await;
    }

    /// Ends the guard without removing the data.
    fn keep(&mut self) {
        if let Some(input) = &mut self.guard.stdin {
            let _ = input.write_all(b"keep\n");
        }
        let _ = self.guard.wait();
    }

    /// The process id, from the first line of the server's pid file.
    fn pid(&self) -> Option<u32> {
        self.status().lines().next()?.parse().ok()
    }

    fn status(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("postgres/postmaster.pid")).unwrap_or_default()
    }

    async fn ready(&mut self, before: Option<u32>) {
        wait::until("PostgreSQL to be ready", START, async || {
            // None can start until all processes of the killed server have ended.
            if self.guard.try_wait().expect("the child is ours").is_some() {
                self.keep();
                self.guard = spawn(self.scratch.path(), self.port);
            }
            let ready = self.status().lines().nth(7).is_some_and(|line| line.trim() == "ready");
            (ready && self.pid() != before).then_some(())
        })
        .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn spawn(folder: &Path, port: u16) -> Child {
    let data = folder.join("postgres");
    let log = std::fs::File::options().create(true).append(true).open(folder.join("postgres.log")).expect("a scratch file");
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD]).arg(folder).args(unprivileged()).arg(program("postgres"));
    guard.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k", "", "-c", "listen_addresses=127.0.0.1"]);
    guard.args(["-c", "fsync=on", "-c", "max_connections=200", "-c", "shared_buffers=32MB"]);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().expect("a shell runs")
}

/// A new database cluster, made once for all servers of this process.
async fn template() -> &'static PathBuf {
    static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(async || {
            let folder = Box::leak(Box::new(Scratch::new())).path();
            let (data, password) = (folder.join("template"), folder.join("password"));
            std::fs::write(&password, Postgres::PASSWORD).expect("a scratch file");
            run(Command::new("mkdir").arg(&data));
            if !unprivileged().is_empty() {
                run(Command::new("chown").arg("postgres:").arg(&data));
            }
            // The template is removed when this process ends.
            let mut guard = Command::new("sh");
            let remove = "read word; rm -rf \"$0\"";
            let guard = guard.args(["-c", remove]).arg(folder).stdin(Stdio::piped()).spawn();
            std::mem::forget(guard.expect("a shell runs"));
            let mut words = unprivileged().into_iter().chain([program("initdb").display().to_string()]);
            let mut initdb = Command::new(words.next().expect("a program"));
            initdb.args(words).arg("-D").arg(&data).arg("--pwfile").arg(&password);
            initdb.args(["-U", Postgres::USER, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
            run(initdb.stdout(Stdio::null()));
            data
        })
        .await
}

fn run(command: &mut Command) {
    assert!(command.status().is_ok_and(|status| status.success()), "{command:?}");
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Vec<String> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    if root { words.map(str::to_owned).to_vec() } else { Vec::new() }
}

/// A program of the newest installed PostgreSQL.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some((number(&entry)?, entry.path()))).max();
    newest.expect("PostgreSQL is installed: `make test` installs it").1.join("bin").join(name)
}
