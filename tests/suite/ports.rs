//! Ports: the formats of addresses, and the errors if a port cannot be opened. A server that does not serve must never report
//! that it does.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::server::{Scratch, binary};
use tests::{fixture, wait};

/// The secret for tokens.
pub(crate) const SECRET: &str = "a test secret, of just forty characters.";

/// A server started by hand with the test's flags. Killed when dropped.
pub(crate) struct Started {
    child: Child,
    scratch: Scratch,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    /// `dev` or `serve` with the chat plugin.
    async fn new(command: &str, flags: &[&str]) -> Self {
        Self::with(command, flags, &[("JWT_SECRET", SECRET)]).await
    }

    /// Like [`new`](Self::new), with these variables.
    pub(crate) async fn with(command: &str, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        let log = std::fs::File::create(scratch.path().join("log")).expect("a scratch file");
        let mut server = Command::new(binary());
        let data = scratch.path().join("data");
        tests::server::share_cache_key(&data);
        server.arg(command).args(flags).arg("--data").arg(data);
        server.env("HUBBUB_PLUGINS__CHAT__FILE", &fixture::plugins().await["chat"]);
        server.env("HUBBUB_SANDBOX__CACHE", tests::checkout_dir().join("target/cache"));
        server.env_remove("JWT_SECRET").env_remove("RUST_LOG").envs(env.iter().copied());
        server.current_dir(scratch.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { child: server.spawn().expect("the binary runs"), scratch }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// The public port and the admin port that the log names once the server is ready.
    pub(crate) async fn ports(&mut self) -> (u16, u16) {
        let line = wait::until("a line that it is ready", Duration::from_secs(60), async || {
            let ended = self.child.try_wait().expect("the child is ours");
            assert!(ended.is_none(), "it ended: {}", self.log());
            self.log().lines().find(|line| line.contains("listen=") || line.contains("\"listen\":")).map(str::to_owned)
        });
        let line = line.await;
        let port = |key: &str| {
            let rest = line.split_once(key).expect("its key").1;
            let address = rest.trim_start_matches(['=', '"', ':']).split(['"', ' ', ',']).next().expect("an address");
            address.parse::<SocketAddr>().expect("an address").port()
        };
        (port("listen"), port("admin"))
    }

    /// The log of a server that must end with a failure.
    pub(crate) async fn failure(mut self) -> String {
        let ended = async || self.child.try_wait().expect("the child is ours");
        let status = wait::until("the server to end", Duration::from_secs(60), ended).await;
        assert_eq!(status.code(), Some(1), "{}", self.log());
        self.log()
    }
}

async fn is_healthy(host: &str, port: u16) -> bool {
    let answer = reqwest::get(format!("http://{host}:{port}/health")).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

#[tokio::test]
async fn a_port_in_use_is_reported_in_one_sentence() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let taken = other.local_addr().expect("it is bound");
    for command in ["dev", "serve"] {
        for (key, flags) in [("server.listen", ["--listen", "--admin"]), ("server.admin", ["--admin", "--listen"])] {
            let output = Started::new(command, &[flags[0], &taken.to_string(), flags[1], "127.0.0.1:0"]).await.failure().await;
            let sentence = format!("hubbub: {key} ({}): {taken} is in use by another program", flags[0]);
            assert!(output.contains(&sentence), "{command}: {output}");
            assert!(!output.contains("serving") && !output.contains("ready"), "{command}: {output}");
        }
    }
}

#[tokio::test]
async fn a_start_waits_until_its_port_is_free() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let taken = other.local_addr().expect("it is bound");
    let flags = ["--listen", &taken.to_string(), "--admin", "127.0.0.1:0"];
    let mut server = Started::with("serve", &flags, &[("JWT_SECRET", SECRET), ("HUBBUB_SERVER__IN_USE_TIMEOUT", "60s")]).await;
    wait::eventually("the server to wait", async || server.log().contains("waiting: ")).await;
    drop(other);
    assert_eq!(server.ports().await.0, taken.port());
}

#[tokio::test]
async fn every_address_format_serves_and_the_log_names_the_port() {
    for (listen, hosts) in
        [("localhost:0", ["localhost", "127.0.0.1"]), (":0", ["127.0.0.1", "[::1]"]), ("[::]:0", ["127.0.0.1", "[::1]"])]
    {
        let mut server = Started::new("dev", &["--no-watch", "--expose", "--listen", listen, "--admin", "localhost:0"]).await;
        let (public, admin) = server.ports().await;
        for host in hosts {
            let has_it = host != "[::1]" || TcpListener::bind("[::1]:0").is_ok();
            assert!(!has_it || is_healthy(host, public).await, "{listen} at {host}: {}", server.log());
        }
        assert!(reqwest::get(format!("http://localhost:{admin}/ready")).await.is_ok(), "{}", server.log());
        assert!(server.log().contains(&format!("hubbub: serving http://localhost:{public}/")), "{}", server.log());
    }
}

#[tokio::test]
async fn a_configured_address_may_be_a_host_name() {
    let scratch = Scratch::new();
    let file = scratch.path().join("hubbub.toml");
    std::fs::write(&file, "[server]\nlisten = \"localhost:0\"\nadmin = \":0\"\n").expect("a scratch file");
    let mut server = Started::new("serve", &["--config", &file.display().to_string()]).await;
    let (public, _) = server.ports().await;
    assert!(is_healthy("localhost", public).await);
    let output = Started::new("serve", &["--listen", "no-such-name.invalid:1"]).await.failure().await;
    assert!(output.contains("the name in no-such-name.invalid:1 has no address"), "{output}");
}
