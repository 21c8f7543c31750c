//! A real server process, and what a test asks of it. Must never outlive its value: dropping it ends the process and removes
//! its data.

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
use crate::{fixture, gate, wait};

/// The API key and the admin token of `hubbub dev`.
pub const API_KEY: &str = "dev-api-key";
pub const ADMIN_TOKEN: &str = "dev-admin-token";

/// Variables without the server's own prefix that it goes by.
const CONFIGURING: [&str; 6] =
    ["REDIS_URL", "DATABASE_URL", "KAFKA_BROKERS", "JWT_SECRET", "RUST_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How long a start may take: the first one builds the plugins.
pub const START: Duration = Duration::from_secs(180);

/// Of how many nodes a server is that a test starts as one, with its clients and requests spread over them. One where it is not set.
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

/// Runs a command of the binary by a shell script, in which it is `"$@"`, to its end.
pub fn run_through(script: &str, args: &[&str]) -> Output {
    command(Some(script)).args(args).output().expect("the binary runs")
}

/// The binary, by itself or through a shell script, with nothing of this process's surroundings that would configure it.
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

/// A server to be.
#[derive(Clone, Debug)]
pub struct Builder {
    command: &'static str,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    /// Which of the checkout's plugins are deployed; none: all.
    only: Option<&'static [&'static str]>,
    one_process: bool,
    /// How many nodes, whatever [`NODES`] says.
    spread_over: Option<usize>,
    /// A shell script that runs the server as `"$@"`.
    through: Option<String>,
    /// The log goes into a pipe that the test holds.
    piped: bool,
    /// Where the data is, if not in the scratch folder.
    data: Option<PathBuf>,
}

/// A running server, of one node unless [`NODES`] says otherwise.
#[derive(Debug)]
pub struct Server {
    /// The other nodes, which this one stands for.
    others: Vec<Server>,
    /// Counts who has been sent to a node.
    turn: AtomicUsize,
    how: Builder,
    child: Child,
    /// The reading end of its log, where that is a pipe.
    pipe: Option<PipeReader>,
    public: SocketAddr,
    admin: SocketAddr,
    scratch: Scratch,
    http: reqwest::Client,
}

impl Server {
    /// `hubbub dev` with its defaults and the checkout's plugins, built once for all tests and not watched.
    pub fn dev() -> Builder {
        Builder {
            command: "dev",
            args: vec!["--no-watch".into()],
            env: BTreeMap::new(),
            folder: None,
            only: None,
            one_process: false,
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

    /// `hubbub serve` in a folder without a configuration file: the environment says everything.
    pub fn serve_by_environment() -> Builder {
        Builder { command: "serve", args: Vec::new(), ..Self::dev() }
    }

    /// The public port; of several nodes that of the next one, in turn.
    pub fn address(&self) -> SocketAddr {
        self.next().public
    }

    /// The operator's port, in turn as well.
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

    /// All its nodes: itself, and those that it stands for.
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

    /// Connects a client that must be let in.
    pub async fn connect(&self, namespace: &str, auth: impl Into<Auth>) -> Client {
        match Client::connect(self.address(), namespace, auth).await {
            Ok(client) => client,
            Err(failure) => panic!("not let into {namespace}: {failure:?}"),
        }
    }

    /// Connects a client that must be refused, and gives the sentence.
    pub async fn turned_away(&self, namespace: &str, auth: impl Into<Auth>) -> String {
        match Client::connect(self.address(), namespace, auth).await {
            Err(ConnectFailure::Refused(sentence)) => sentence,
            Err(other) => panic!("{namespace} did not refuse, but {other:?}"),
            Ok(_) => panic!("let into {namespace}"),
        }
    }

    /// `POST /api/publish`, accepted.
    pub async fn publish(&self, topic: &str, data: Value) {
        self.publish_message(&json!({"topic": topic, "data": data})).await;
    }

    /// `POST /api/publish` of a whole message (`key`, `tenant`, `id`), accepted.
    pub async fn publish_message(&self, message: &Value) {
        let (status, body) = self.api("/api/publish", message).await;
        assert_eq!(status, 202, "publishing {message}: {body}");
    }

    /// `POST /api/emit`, accepted.
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

    /// The operator's token.
    pub fn admin_token(&self) -> &str {
        self.secret("HUBBUB_ADMIN__TOKEN", ADMIN_TOKEN)
    }

    /// What it was started with, or else the one of `hubbub dev`.
    fn secret<'a>(&'a self, variable: &str, dev: &'a str) -> &'a str {
        self.how.env.get(variable).map_or(dev, String::as_str)
    }

    /// `GET` of a public path: the status and the body as JSON, or as a string where it is none.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(self.url(path)).send().await.expect("the server answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body of text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The samples of all its nodes.
    pub async fn metrics(&self) -> Metrics {
        let mut text = String::new();
        for node in self.nodes() {
            let answer = self.http.get(format!("http://{}/metrics", node.admin)).send().await.expect("the admin port answers");
            assert_eq!(answer.status(), 200, "/metrics");
            text.push_str(&answer.text().await.expect("a body of text"));
        }
        Metrics::parse(&text)
    }

    /// Where the embedded database is.
    pub fn data(&self) -> PathBuf {
        self.how.data.clone().unwrap_or_else(|| self.scratch.data())
    }

    /// `/ready` of the admin port: the status and the body.
    pub async fn readiness(&self) -> (u16, Value) {
        self.admin(reqwest::Method::GET, "/ready", Vec::new()).await
    }

    /// What plugins have stored, for what no event shows.
    pub fn store(&self) -> Store {
        match self.how.env.get("DATABASE_URL") {
            Some(url) => Store::at(url),
            None => Store::open(&self.data()),
        }
    }

    /// Closes the reading end of its log, which is a pipe.
    pub fn stop_reading_its_log(&mut self) {
        self.pipe.take().expect("its log is a pipe");
    }

    /// Sends it a signal, named as `kill` names it.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end of its process: the exit code, none after a signal that killed it.
    pub async fn ended(&mut self) -> Option<i32> {
        ended(&mut self.child).await
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process that is in RAM, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a running process has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") * 1024
    }

    /// CPU time of all its threads so far, in whole ticks of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the server runs");
        // What is counted from the end of the program's name is the same whatever the name holds.
        let fields = stat.rsplit(')').next().expect("a name in brackets").split_whitespace();
        let ticks = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number of ticks"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// File descriptors that the process has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the server runs").count()
    }

    /// What the server wrote so far, since its first start; of several nodes one after the other.
    pub fn log(&self) -> String {
        self.nodes().map(|node| std::fs::read_to_string(node.scratch.log()).unwrap_or_default()).collect()
    }

    /// Waits until the log holds `text`.
    pub async fn logged(&self, text: &str) {
        wait::eventually(&format!("{text:?} in the log"), async || self.log().contains(text)).await;
    }

    /// Asks the process to end, waits for it, and starts it again: same ports, same data.
    pub async fn restart(&mut self) {
        self.terminate().await;
        self.start_again().await;
    }

    /// Stops the process where it is: it answers nobody, and is not dead.
    pub fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    /// Sends SIGTERM and waits for the end of all nodes: the exit code, where it is the same.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.nodes().for_each(|node| signal(node.child.id(), "TERM"));
        let mut code = ended(&mut self.child).await;
        for node in &mut self.others {
            let other = ended(&mut node.child).await;
            code = code.filter(|code| Some(*code) == other);
        }
        code
    }

    /// Ends the process as a power cut would: nothing is flushed, nobody is told.
    pub fn kill9(&mut self) {
        for child in self.others.iter_mut().map(|node| &mut node.child).chain([&mut self.child]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the process again after its end: same ports, same data.
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

    /// Waits until it answers; of several nodes until each does, and knows of all.
    async fn ready(&mut self) {
        let count = self.others.len() + 1;
        join_all(self.others.iter_mut().map(Self::answers)).await;
        self.answers().await;
        if count > 1 {
            for node in self.nodes() {
                node.is_one_of(count).await;
            }
        }
    }

    /// Waits until this node knows of so many.
    pub async fn is_one_of(&self, nodes: usize) {
        wait::eventually("every node to know of the others", async || {
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

/// Waits for the end of a process: its code.
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

    /// Rebuilds plugins on a change, as `hubbub dev` does by itself.
    pub fn watching(mut self) -> Self {
        self.args.retain(|arg| arg != "--no-watch");
        self
    }

    /// Runs in this folder, and builds what is in its `plugins/`.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Deploys these of the checkout's plugins, and no others.
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

    /// Stores in this PostgreSQL.
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    /// Chat without its limit of ten messages a minute, for tests of something else.
    pub fn chatty(self) -> Self {
        self.plugin_config("chat", "messages_per_minute", "0")
    }

    /// Sharing rooms with Node's servers.
    pub fn bridged(self) -> Self {
        self.env("HUBBUB_BRIDGE__ENABLED", "true")
    }

    /// One node whatever [`NODES`] says: for what one process tells of itself alone.
    pub fn one_process(mut self) -> Self {
        self.one_process = true;
        self
    }

    /// A cluster of so many nodes, with its clients and requests spread over them.
    pub fn spread_over(mut self, nodes: usize) -> Self {
        self.spread_over = Some(nodes);
        self
    }

    /// Runs it by a shell script, in which it is `"$@"`: with other limits, or other ends of its output.
    pub fn through(mut self, script: &str) -> Self {
        self.through = Some(script.to_owned());
        self
    }

    /// Writes its log into a pipe without reading from it.
    pub fn piped_log(mut self) -> Self {
        self.piped = true;
        self
    }

    /// Keeps its data there, which stays.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Starts it, and waits until it answers.
    pub async fn start(self) -> Server {
        let mut this = self.with_plugins().await;
        gate::share();
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

    /// Of how many nodes it is to be. One that is part of a cluster already, or of what is not the products', is itself.
    fn nodes(&self) -> usize {
        let configured = ["REDIS_URL", "DATABASE_URL"].iter().any(|name| self.env.contains_key(*name));
        if self.one_process || configured || self.command != "dev" || self.folder.is_some() {
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

    /// Starts one that must refuse: what it said, once it has ended with a failure. Panics where it serves instead.
    pub async fn refuses(self) -> String {
        let this = self.with_plugins().await;
        gate::share();
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

    /// Building takes cargo a second even where nothing has changed, too much for every test's server.
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
            // What one test's server has compiled is compiled for all.
            .env("HUBBUB_SANDBOX__CACHE", crate::checkout_dir().join("target/cache"))
            .envs(&self.env)
            // In a folder without plugins nothing is built.
            .current_dir(self.folder.as_deref().unwrap_or(scratch.path()))
            .stdout(out)
            .stderr(err);
        (command.spawn().expect("the binary runs"), pipe)
    }

    /// Where its output goes, and the end that it is read at.
    fn output(&self, scratch: &Scratch) -> (Option<PipeReader>, (Stdio, Stdio)) {
        if self.piped {
            let (reader, writer) = std::io::pipe().expect("the system has pipes left");
            return (Some(reader), (writer.try_clone().expect("a pipe can be shared").into(), writer.into()));
        }
        let log = std::fs::File::options().create(true).append(true).open(scratch.log()).expect("the scratch folder is ours");
        (None, (log.try_clone().expect("a file can be shared").into(), log.into()))
    }
}

/// Gives a data folder the key of the tests' compiled components, where it has none: one that a server makes for itself would have it
/// compile all plugins anew.
pub fn share_cache_key(data: &Path) {
    // Of no use but here.
    let key = b"the tests' key of their own code";
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(data.join("cache.key"));
    if let (Ok(()), Ok(mut file)) = (made, file) {
        // On a disk that is full on purpose the server makes do without it.
        let _ = file.write_all(key);
    }
}

/// A folder of its own under the system's temporary one, removed at the end.
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

/// A loopback address that nobody listens on. Below the ephemeral ports, so that no outgoing connection of the thousands
/// that tests make takes it before the server does.
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
