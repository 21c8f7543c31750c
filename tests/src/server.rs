//! A real server process and the requests that tests make to it. Must never outlive its value: dropping it ends the process and
//! removes its data.

use std::collections::BTreeMap;
use std::io::PipeReader;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::client::{Auth, Client, ConnectFailure};
use crate::metrics::Metrics;
use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::store::Store;
use crate::{fixture, machine, wait};

/// The API key and the admin token of `hubbub dev`.
pub const API_KEY: &str = "dev-api-key";
pub const ADMIN_TOKEN: &str = "dev-admin-token";

/// Variables without the prefix `HUBBUB_` that configure the server.
const CONFIGURING: [&str; 6] =
    ["REDIS_URL", "DATABASE_URL", "KAFKA_BROKERS", "JWT_SECRET", "RUST_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How long a start may take. The first one builds the plugins.
pub const START: Duration = Duration::from_secs(180);

/// The number of nodes that a server of a test consists of. Its clients and requests are spread over them. One if it is not set.
pub const NODES: &str = "HUBBUB_TEST_NODES";

/// How many of the log's last lines a failed test shows.
const LOG_LINES_SHOWN: usize = 120;

/// The server's binary: `HUBBUB_BIN`, or the release build of this checkout.
pub fn binary() -> PathBuf {
    let given = std::env::var_os("HUBBUB_BIN").map(PathBuf::from);
    let path = given.unwrap_or_else(|| crate::checkout_dir().join("target/release/hubbub"));
    assert!(path.exists(), "no server at {}: build it with `cargo build --release`", path.display());
    path
}

/// Runs a command of the binary to its end.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    run_in(Path::new("."), args, env)
}

/// Runs a command of the binary in a folder, to its end.
pub fn run_in(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = command(None);
    command.args(args).envs(env.iter().copied()).current_dir(folder);
    command.output().expect("the binary runs")
}

/// Runs a command of the binary through a shell script, in which it is `"$@"`, to its end.
pub fn run_through(script: &str, args: &[&str]) -> Output {
    command(Some(script)).args(args).output().expect("the binary runs")
}

/// The binary, run directly or through a shell script, without the environment variables that would configure it.
fn command(through: Option<&str>) -> Command {
    let mut command = match through {
        Some(script) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(binary());
            shell
        }
        None => Command::new(binary()),
    };
    let configures = |name: &String| name.starts_with("HUBBUB_") || CONFIGURING.contains(&name.as_str());
    for name in std::env::vars().map(|(name, _)| name).filter(configures) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Configures a server before its start.
#[derive(Clone, Debug)]
pub struct Builder {
    command: &'static str,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    /// The checkout's plugins to deploy. None: all of them.
    only: Option<&'static [&'static str]>,
    single_node: bool,
    /// The number of nodes, regardless of [`NODES`].
    spread_over: Option<usize>,
    /// A shell script that runs the server as `"$@"`.
    through: Option<String>,
    /// The log goes to a pipe that the test holds.
    piped: bool,
    /// The data folder, if it is not in the scratch folder.
    data: Option<PathBuf>,
}

/// A running server, of one node unless [`NODES`] is set.
#[derive(Debug)]
pub struct Server {
    /// The other nodes that this value includes.
    others: Vec<Server>,
    /// The next node in round robin order.
    turn: AtomicUsize,
    how: Builder,
    child: Child,
    /// The reading end of the log's pipe.
    pipe: Option<PipeReader>,
    public: SocketAddr,
    admin: SocketAddr,
    scratch: Scratch,
    http: reqwest::Client,
}

impl Server {
    /// `hubbub dev` with its defaults and the checkout's plugins, which are built once for all tests and not watched.
    pub fn dev() -> Builder {
        Builder {
            command: "dev",
            args: vec!["--no-watch".into()],
            env: BTreeMap::new(),
            folder: None,
            only: None,
            single_node: false,
            spread_over: None,
            through: None,
            piped: false,
            data: None,
        }
    }

    /// `hubbub serve` with this configuration file.
    pub fn serve(config: &Path) -> Builder {
        let args = vec!["--config".into(), config.display().to_string()];
        Builder { command: "serve", args, ..Self::dev() }
    }

    /// `hubbub serve` in a folder without a configuration file, configured by the environment.
    pub fn serve_from_environment() -> Builder {
        Builder { command: "serve", args: Vec::new(), ..Self::dev() }
    }

    /// The public port. With several nodes, that of the next one in round robin order.
    pub fn address(&self) -> SocketAddr {
        self.next().public
    }

    /// The admin port, in round robin order as well.
    pub fn admin_address(&self) -> SocketAddr {
        self.next().admin
    }

    /// `http://127.0.0.1:PORT` and a path, on the public port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin_address())
    }

    /// All its nodes, this one included.
    pub fn nodes(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    fn next(&self) -> &Self {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        self.nodes().nth(turn).expect("fewer than there are nodes")
    }

    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Connects a client that must be accepted.
    pub async fn connect(&self, namespace: &str, auth: impl Into<Auth>) -> Client {
        match Client::connect(self.address(), namespace, auth).await {
            Ok(client) => client,
            Err(failure) => panic!("{namespace} refused: {failure:?}"),
        }
    }

    /// Connects a client that must be refused and returns the sentence.
    pub async fn connect_refused(&self, namespace: &str, auth: impl Into<Auth>) -> String {
        match Client::connect(self.address(), namespace, auth).await {
            Err(ConnectFailure::Refused(sentence)) => sentence,
            Err(other) => panic!("{namespace} did not refuse: {other:?}"),
            Ok(_) => panic!("{namespace} accepted the client"),
        }
    }

    /// `POST /api/publish`, which must be accepted.
    pub async fn publish(&self, topic: &str, data: Value) {
        self.publish_message(&json!({"topic": topic, "data": data})).await;
    }

    /// `POST /api/publish` of a whole message (`key`, `tenant`, `id`), which must be accepted.
    pub async fn publish_message(&self, message: &Value) {
        let (status, body) = self.api("/api/publish", message).await;
        assert_eq!(status, 202, "publishing {message}: {body}");
    }

    /// `POST /api/emit`, which must be accepted.
    pub async fn emit(&self, emit: &Value) {
        let (status, body) = self.api("/api/emit", emit).await;
        assert!((200..300).contains(&status), "emitting {emit}: {status} {body}");
    }

    /// A `POST` with the API key: the status and the body's text.
    pub async fn api(&self, path: &str, body: &Value) -> (u16, String) {
        let request = self.http.post(self.url(path)).bearer_auth(self.secret("HUBBUB_API__KEYS", API_KEY)).json(body);
        let answer = request.send().await.expect("the server answers");
        (answer.status().as_u16(), answer.text().await.expect("a body of text"))
    }

    /// A request to the admin port with its token: the status and the body.
    pub async fn admin(&self, method: reqwest::Method, path: &str, body: Vec<u8>) -> (u16, Value) {
        let request = self.http.request(method, self.admin_url(path)).bearer_auth(self.admin_token()).body(body);
        let answer = request.send().await.expect("the admin port answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body of text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The admin token.
    pub fn admin_token(&self) -> &str {
        self.secret("HUBBUB_ADMIN__TOKEN", ADMIN_TOKEN)
    }

    /// The secret that it was started with, or that of `hubbub dev`.
    fn secret<'a>(&'a self, variable: &str, dev: &'a str) -> &'a str {
        self.how.env.get(variable).map_or(dev, String::as_str)
    }

    /// `GET` of a public path: the status and the body as JSON, or as a string if it is not JSON.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(self.url(path)).send().await.expect("the server answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body of text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The metrics of all nodes.
    pub async fn metrics(&self) -> Metrics {
        let mut text = String::new();
        for node in self.nodes() {
            let answer = self.http.get(format!("http://{}/metrics", node.admin)).send().await.expect("the admin port answers");
            assert_eq!(answer.status(), 200, "/metrics");
            text.push_str(&answer.text().await.expect("a body of text"));
        }
        Metrics::parse(&text)
    }

    /// The folder of the embedded database.
    pub fn data(&self) -> PathBuf {
        self.how.data.clone().unwrap_or_else(|| self.scratch.data())
    }

    /// `/ready` of the admin port: the status and the body.
    pub async fn readiness(&self) -> (u16, Value) {
        self.admin(reqwest::Method::GET, "/ready", Vec::new()).await
    }

    /// The data that plugins have stored, for state that no event shows.
    pub fn store(&self) -> Store {
        match self.how.env.get("DATABASE_URL") {
            Some(url) => Store::at(url),
            None => Store::open(&self.data()),
        }
    }

    /// Closes the reading end of the log's pipe.
    pub fn close_log_pipe(&mut self) {
        self.pipe.take().expect("its log is a pipe");
    }

    /// Sends the process a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end of the process and returns the exit code. None if a signal killed it.
    pub async fn ended(&mut self) -> Option<i32> {
        ended(&mut self.child).await
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
    }

    /// CPU time of all threads so far, in ticks of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the server runs");
        // The program's name may contain anything, so fields are counted from its closing bracket.
        let fields = stat.rsplit(')').next().expect("a name in brackets").split_whitespace();
        let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number of ticks"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Number of open file descriptors of the process.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the server runs").count()
    }

    /// The server's output since its first start. With several nodes, one after the other.
    pub fn log(&self) -> String {
        self.nodes().map(|node| std::fs::read_to_string(node.scratch.log()).unwrap_or_default()).collect()
    }

    /// Waits until the log contains `text`.
    pub async fn logged(&self, text: &str) {
        wait::eventually(&format!("{text:?} in the log"), async || self.log().contains(text)).await;
    }

    /// Ends the process, waits for it, and starts it again with the same ports and data.
    pub async fn restart(&mut self) {
        self.terminate().await;
        self.start_again().await;
    }

    /// Stops the process with SIGSTOP: it is alive and answers no request.
    pub fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Sends SIGTERM, waits until all nodes have ended, and returns the exit code if all have the same.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.nodes().for_each(|node| signal(node.child.id(), "TERM"));
        let mut code = ended(&mut self.child).await;
        for node in &mut self.others {
            let other = ended(&mut node.child).await;
            code = code.filter(|code| Some(*code) == other);
        }
        code
    }

    /// Kills the process as a power cut would: nothing is flushed and no peer is notified.
    pub fn kill9(&mut self) {
        for child in self.others.iter_mut().map(|node| &mut node.child).chain([&mut self.child]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the process again after its end, with the same ports and data.
    pub async fn start_again(&mut self) {
        for node in &mut self.others {
            node.spawn_again();
        }
        self.spawn_again();
        self.ready().await;
    }

    fn spawn_again(&mut self) {
        (self.child, self.pipe) = self.how.spawn(self.public, self.admin, &self.scratch);
    }

    /// Waits until every node answers and, with several nodes, sees all others.
    async fn ready(&mut self) {
        let count = self.others.len() + 1;
        join_all(self.others.iter_mut().map(Self::answers)).await;
        self.answers().await;
        if count > 1 {
            for node in self.nodes() {
                node.sees_nodes(count).await;
            }
        }
    }

    /// Waits until this node sees this many nodes.
    pub async fn sees_nodes(&self, nodes: usize) {
        wait::eventually("every node to see the others", async || {
            let asked = self.http.get(format!("http://{}/ready", self.admin)).send().await;
            let Ok(answer) = asked else { return false };
            let ready: Value = answer.json().await.unwrap_or_default();
            ready["redis"] == true && ready["nodes"] == nodes
        })
        .await;
    }

    async fn answers(&mut self) {
        let health = format!("http://{}/health", self.public);
        let http = self.http.clone();
        wait::until("the server to answer /health", START, async || {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!("the server ended with {status} while starting");
            }
            http.get(&health).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }
}

/// Waits for the end of a process and returns its exit code.
async fn ended(child: &mut Child) -> Option<i32> {
    let status =
        wait::until("the server to end after SIGTERM", wait::DEADLINE, async || child.try_wait().expect("the child is ours"));
    status.await.code()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the server's log, {} of {} lines ---\n{}", shown.len(), lines.len(), shown.join("\n"));
        }
    }
}

impl Builder {
    /// Sets an environment variable: `HUBBUB_<SECTION>__<KEY>` for any configuration key.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Rebuilds plugins when they change, which `hubbub dev` does by default.
    pub fn watching(mut self) -> Self {
        self.args.retain(|arg| arg != "--no-watch");
        self
    }

    /// Runs in this folder and builds the plugins in its `plugins/`.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Deploys these of the checkout's plugins and no others.
    pub fn only(mut self, plugins: &'static [&'static str]) -> Self {
        self.only = Some(plugins);
        self
    }

    /// Deploys a component beside the others, from its file.
    pub fn plugin(self, name: &str, component: &Path) -> Self {
        let key = format!("HUBBUB_PLUGINS__{}__FILE", name.to_uppercase());
        self.env(&key, &component.display().to_string())
    }

    /// One key of a plugin's own configuration.
    pub fn plugin_config(self, name: &str, key: &str, value: &str) -> Self {
        let key = format!("HUBBUB_PLUGINS__{}__CONFIG__{}", name.to_uppercase(), key.to_uppercase());
        self.env(&key, value)
    }

    /// Uses this PostgreSQL as storage.
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// Removes chat's limit of ten messages a minute, for tests of something else.
    pub fn without_message_limit(self) -> Self {
        self.plugin_config("chat", "messages_per_minute", "0")
    }

    /// Shares rooms with Node's servers.
    pub fn bridged(self) -> Self {
        self.env("HUBBUB_BRIDGE__ENABLED", "true")
    }

    /// Runs one node regardless of [`NODES`], for metrics and logs of a single process.
    pub fn single_node(mut self) -> Self {
        self.single_node = true;
        self
    }

    /// Runs a cluster of this many nodes, with clients and requests spread over them.
    pub fn spread_over(mut self, nodes: usize) -> Self {
        self.spread_over = Some(nodes);
        self
    }

    /// Runs it through a shell script, in which it is `"$@"`, for example to set limits or redirect its output.
    pub fn through(mut self, script: &str) -> Self {
        self.through = Some(script.to_owned());
        self
    }

    /// Writes the log to a pipe that is not read.
    pub fn piped_log(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Stores its data in this folder, which is not removed.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Server {
        let mut this = self.with_plugins().await;
        machine::shared();
        let nodes = this.nodes();
        if nodes > 1 {
            let (redis, database) = (Redis::shared().await, Postgres::shared().await.empty().await);
            this = this.env("REDIS_URL", &redis.url()).env("HUBBUB_REDIS__PREFIX", &redis.prefix()).database(&database);
        }
        let others = (1..nodes).map(|_| this.clone().begin(Vec::new())).collect();
        let mut server = this.begin(others);
        server.ready().await;
        server
    }

    /// The number of nodes. Always one for a server that is configured as part of a cluster or does not run the checkout's
    /// plugins.
    fn nodes(&self) -> usize {
        let configured = ["REDIS_URL", "DATABASE_URL"].iter().any(|name| self.env.contains_key(*name));
        if self.single_node || configured || self.command != "dev" || self.folder.is_some() {
            return 1;
        }
        let from_environment = || std::env::var(NODES).map_or(1, |nodes| nodes.parse().expect("a number of nodes"));
        self.spread_over.unwrap_or_else(from_environment)
    }

    fn begin(self, others: Vec<Server>) -> Server {
        let (scratch, public, admin) = (Scratch::new(), free_address(), free_address());
        let (child, pipe) = self.spawn(public, admin, &scratch);
        let http = reqwest::Client::new();
        Server { others, turn: AtomicUsize::new(0), how: self, child, pipe, public, admin, scratch, http }
    }

    /// Starts a server that must fail to start. Returns its output. Panics if it binds its port.
    pub async fn start_failure(self) -> String {
        let this = self.with_plugins().await;
        machine::shared();
        let scratch = Scratch::new();
        let (public, admin) = (free_address(), free_address());
        let (mut child, _pipe) = this.spawn(public, admin, &scratch);
        let status = wait::until("the server to refuse", START, async || {
            if tokio::net::TcpStream::connect(public).await.is_ok() {
                let _ = child.kill();
                panic!("the port was bound before the refusal");
            }
            child.try_wait().expect("the child is ours")
        })
        .await;
        let said = std::fs::read_to_string(scratch.log()).unwrap_or_default();
        assert!(!status.success(), "it ended with success: {said}");
        said
    }

    /// The plugins are built once, because cargo takes a second even if nothing has changed.
    async fn with_plugins(mut self) -> Self {
        if self.command != "dev" || self.folder.is_some() {
            return self;
        }
        for (name, component) in fixture::plugins().await {
            if self.only.is_none_or(|only| only.contains(&name.as_str())) {
                self = self.plugin(name, component);
            }
        }
        self
    }

    fn spawn(&self, public: SocketAddr, admin: SocketAddr, scratch: &Scratch) -> (Child, Option<PipeReader>) {
        let (pipe, (out, err)) = self.output(scratch);
        let data = self.data.clone().unwrap_or_else(|| scratch.data());
        if !self.env.contains_key("HUBBUB_SANDBOX__CACHE") {
            share_cache_key(&data);
        }
        let mut command = command(self.through.as_deref());
        command
            .arg(self.command)
            .args(&self.args)
            .args(["--listen", &public.to_string(), "--admin", &admin.to_string()])
            .arg("--data")
            .arg(data)
            // All servers share the cache of compiled components.
            .env("HUBBUB_SANDBOX__CACHE", crate::checkout_dir().join("target/cache"))
            .envs(&self.env)
            // Nothing is built in a folder without plugins.
            .current_dir(self.folder.as_deref().unwrap_or(scratch.path()))
            .stdout(out)
            .stderr(err);
        (command.spawn().expect("the binary runs"), pipe)
    }

    /// The destination of the output, and the reading end if it is a pipe.
    fn output(&self, scratch: &Scratch) -> (Option<PipeReader>, (Stdio, Stdio)) {
        if self.piped {
            let (reader, writer) = std::io::pipe().expect("the system has pipes left");
            return (Some(reader), (writer.try_clone().expect("a pipe can be shared").into(), writer.into()));
        }
        let log = std::fs::File::options().create(true).append(true).open(scratch.log()).expect("the scratch folder is ours");
        (None, (log.try_clone().expect("a file can be shared").into(), log.into()))
    }
}

/// Gives a data folder the shared key of the tests' compiled components, if it has none. With a key of its own, a server would
/// compile all plugins again.
pub fn share_cache_key(data: &Path) {
    // Of no use elsewhere.
    let key = b"the tests' key of their own code";
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(data.join("cache.key"));
    if let (Ok(()), Ok(mut file)) = (made, file) {
        // On a disk that a test has filled, the server works without it.
        let _ = file.write_all(key);
    }
}

/// A folder in the system's temporary folder that is removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    #[expect(clippy::new_without_default, reason = "makes a folder: not a default value")]
    pub fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("hubbub-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes another");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A free loopback address. Its port is below the ephemeral ports, so that none of the tests' thousands of outgoing connections
/// takes it before the server does.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const LOW: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("less than a u16");
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, LOW + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {LOW} on");
}

/// Sends a process a signal, named as `kill` names it.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}
