//! Clocks that change while the server runs: its wall clock and Redis's clock. No measured duration may change and no stored time
//! may block anything. Must never set the machine's clock.

use std::path::PathBuf;

use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::server::{ADMIN_TOKEN, Builder, Scratch};
use tests::{Client, Server, Token, fixture, token, wait};

use crate::helpers::{ask_bare, open_chat, user};

const HOUR: i64 = 3600;

/// The wall clock of one server.
struct WallClock(Scratch);

impl WallClock {
    fn new() -> Self {
        let clock = Self(Scratch::new());
        clock.write(0);
        clock
    }

    fn write(&self, seconds: i64) {
        // Renamed into place, because the server may be reading.
        let next = self.0.path().join("next");
        std::fs::write(&next, format!("{seconds:+}\n")).expect("a scratch file");
        std::fs::rename(next, self.file()).expect("a scratch file");
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }

    /// Sets the clock `seconds` ahead and waits until the server uses it.
    async fn set(&self, server: &Server, seconds: i64) {
        self.write(seconds);
        let real = time(&token("x").expires_in(0));
        wait::eventually("the server's clock to be set", async || {
            let health = server.get("/health").await.1;
            let shown = humantime::parse_rfc3339(health["timestamp"].as_str().expect("a time")).expect("RFC 3339");
            let shown = shown.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
            (shown - real - seconds).abs() < 60
        })
        .await;
    }

    /// Configures a server that uses this clock.
    fn server(&self, plugins: &'static [&'static str]) -> Builder {
        Server::dev()
            .only(plugins)
            .single_node()
            .env("LD_PRELOAD", &library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file().display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// The time at which a token expires.
fn time(token: &Token) -> i64 {
    use base64::Engine as _;
    let signed = token.sign();
    let claims = signed.split('.').nth(1).expect("a token has three parts");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice::<Value>(&claims).expect("JSON")["exp"].as_i64().expect("a time")
}

fn library() -> String {
    let folders = std::fs::read_dir("/usr/lib").expect("Linux has it").flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|file| file.exists());
    found.expect("libfaketime is installed; `make test` installs it").display().to_string()
}

/// A user with a token that is valid for longer than any change of the clock.
fn lasting(id: &str) -> Token {
    user(id).expires_in(100 * HOUR)
}

/// Waits for two seconds of the server's own time, by the metrics that it sends every second.
async fn two_seconds(server: &Server) {
    let mut metrics = Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await.expect("the token is right");
    for _ in 0..3 {
        metrics.next("figures").await;
    }
}

async fn attendant(server: &Server, id: &str) -> Client {
    server.connect("/hub", lasting(id).role("ATTENDANT")).await
}

#[tokio::test]
async fn presence_grace_ignores_changes_of_the_wall_clock() {
    let clock = WallClock::new();
    let server = clock.server(&["presence", "chat", "threads", "crm"]).env("HUBBUB_PRESENCE__GRACE", "2s").start().await;
    let mut head = attendant(&server, "head").await;
    let first = attendant(&server, "first").await;
    wait::eventually("both to be online", async || head.next("attendant:online").await["userId"] == "first").await;
    clock.set(&server, HOUR).await;
    two_seconds(&server).await;
    head.expect_none("attendant:away").await;
    let second = attendant(&server, "second").await;
    assert_eq!(head.next("attendant:online").await["userId"], "second");
    // The connections end without a disconnect.
    drop((first.into_stream(), second.into_stream()));
    wait::eventually("both connections to end", async || server.get("/health").await.1["connections"] == 1).await;
    clock.set(&server, 0).await;
    let mut offline = [head.next("attendant:offline").await, head.next("attendant:offline").await];
    offline.sort_by_key(|offline| offline["userId"].to_string());
    assert_eq!((&offline[0]["userId"], &offline[1]["userId"]), (&json!("first"), &json!("second")));
}

#[tokio::test]
async fn lessons_are_saved_when_the_wall_clock_changes() {
    let clock = WallClock::new();
    let server = clock.server(&["lessons", "chat"]).plugin_config("lessons", "save_every_seconds", "1").start().await;
    let mut ana = server.connect("/", lasting("ana")).await;
    let mut watched = 0;
    for set in [HOUR, 0, -HOUR, 0] {
        clock.set(&server, set).await;
        for _ in 0..2 {
            watched += 1;
            let report = json!({"lessonId": "l1", "watchedDuration": watched, "totalDuration": 100});
            assert_eq!(ana.ask("lesson:progress", report).await["progress"], watched);
        }
        wait::eventually("the last report to be saved", async || {
            server.store().value("lessons", "progress/ana/l1").unwrap_or_default()["progress"] == watched
        })
        .await;
    }
}

#[tokio::test]
async fn timers_ignore_changes_of_the_wall_clock() {
    let clock = WallClock::new();
    let server = clock.server(&[]).plugin("timed", &fixture::timed().await).start().await;
    let mut client = server.connect("/timed", lasting("ana")).await;
    for kind in ["soft", "durable"] {
        let ask = json!([kind, format!("far-{kind}"), HOUR * 1000, "later"]);
        let id = client.emit_for_ack(&ask).await;
        assert_eq!(client.acked(id).await, json!({}));
        let id = client.emit_for_ack(&json!([kind, format!("near-{kind}"), 1500, "soon"])).await;
        assert_eq!(client.acked(id).await, json!({}));
    }
    clock.set(&server, -HOUR).await;
    for kind in ["soft", "durable"] {
        assert_eq!(client.next(&format!("near-{kind}")).await, "soon", "the timer fires on time");
    }
    clock.set(&server, 2 * HOUR).await;
    two_seconds(&server).await;
    for kind in ["soft", "durable"] {
        client.expect_none(&format!("far-{kind}")).await;
    }
}

#[tokio::test]
async fn a_budget_refills_when_the_wall_clock_is_set_back() {
    let clock = WallClock::new();
    let server = clock.server(&["chat"]).start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = server.connect("/chat", lasting("ana")).await;
    crate::helpers::join(&mut ana, "c1").await;
    clock.set(&server, HOUR).await;
    let message = json!({"chatId": "c1", "content": "x"});
    wait::eventually("the budget to be used up", async || ana.ask("chat:message", message.clone()).await != json!({})).await;
    clock.set(&server, 0).await;
    wait::eventually("the budget to refill", async || {
        let ack = ana.ask("chat:message", message.clone()).await;
        let wait = ack["error"]["retryAfterMs"].as_u64().unwrap_or_default();
        assert!(wait <= 6000, "ten a minute refill one by one, not after {wait} ms");
        ack == json!({})
    })
    .await;
}

#[tokio::test]
async fn an_open_sockets_token_expires_regardless_of_the_wall_clock() {
    let clock = WallClock::new();
    let server = clock.server(&["chat"]).start().await;
    let mut long = server.connect("/chat", user("ana").expires_in(HOUR)).await;
    let mut short = server.connect("/chat", user("bia").expires_in(4)).await;
    clock.set(&server, -HOUR).await;
    short.next("auth:expired").await;
    clock.set(&server, 2 * HOUR).await;
    two_seconds(&server).await;
    long.expect_none("auth:expired").await;
}

/// Sets Redis's clock ahead, by setting back all heartbeats stored by it.
async fn set_redis(cluster: &Cluster, seconds: i64) {
    let nodes = cluster.redis.ask("KEYS *:nodes").await;
    let key = nodes.lines().find(|line| line.ends_with(":nodes")).expect("the nodes send heartbeats").to_owned();
    let script =
        "for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], ARGV[1], node) end";
    cluster.redis.ask(&format!("EVAL \"{script}\" 1 {key} {}", -seconds * 1000)).await;
}

async fn sees_nodes(server: &Server, nodes: u64) {
    wait::eventually("the nodes to see each other", async || server.readiness().await.1["nodes"] == nodes).await;
}

#[tokio::test]
async fn changing_redis_clock_ends_no_lease_and_a_dead_node_is_noticed() {
    let mut cluster = Cluster::with(2, |node| node.only(&["presence", "chat", "threads", "crm"])).await;
    let mut eva = attendant(&cluster.nodes[0], "eva").await;
    let _fay = attendant(&cluster.nodes[1], "fay").await;
    wait::eventually("both to be online", async || eva.next("attendant:online").await["userId"] == "fay").await;
    for seconds in [HOUR, -HOUR, -HOUR] {
        set_redis(&cluster, seconds).await;
        for node in &cluster.nodes {
            two_seconds(node).await;
            sees_nodes(node, 2).await;
        }
        eva.expect_none("attendant:offline").await;
        let list = ask_bare(&mut eva, "presence:list").await;
        assert_eq!(list["attendants"].as_array().map(Vec::len), Some(2), "{list}");
    }
    let mut dead = cluster.nodes.pop().expect("two nodes");
    dead.kill9();
    sees_nodes(&cluster.nodes[0], 1).await;
}

#[tokio::test]
async fn a_claim_made_before_redis_clock_was_set_back_expires() {
    let cluster = Cluster::with(1, |node| node.only(&["video", "chat"])).await;
    let server = &cluster.nodes[0];
    let found = async || cluster.redis.ask("KEYS *claim:count:*").await;
    let mut ana = viewer(server, "ana").await;
    wait::eventually("a room to be counted", async || found().await.contains("claim:count:")).await;
    let keys = found().await;
    for key in keys.lines().filter(|line| line.contains("claim:count:")) {
        cluster.redis.ask(&format!("PEXPIRE {key} 3600000")).await;
    }
    let _bia = viewer(server, "bia").await;
    wait::eventually("both to be counted", async || ana.next("video:viewers").await["count"] == 2).await;
}

async fn viewer(server: &Server, id: &str) -> Client {
    let mut client = server.connect("/", lasting(id)).await;
    client.emit("video:join", json!({"videoId": "v1"})).await;
    client
}
