//! Outages in a cluster: a node or Redis is killed, paused or cut off. The other nodes keep working, and everything recovers.
//! Must never wait for a lease of minutes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::stock::Transports;
use tests::{Client, Server, Stock, TcpProxy, machine, wait};

use crate::crash::everything;
use crate::helpers::{self, ask_bare, member, name, open_chat, say, user};

/// Duration of the pause of Redis. `HUBBUB_TEST_PAUSE` overrides it in seconds.
const PAUSE: Duration = Duration::from_secs(5);

/// How long recovery may take once Redis is back.
const RECOVERY: Duration = Duration::from_secs(5);

/// A node counts as dead after three seconds of silence.
fn short_lease(node: Builder) -> Builder {
    node.env("HUBBUB_PRESENCE__LEASE", "3s").env("HUBBUB_REDIS__NODE_TIMEOUT", "2s").without_message_limit()
}

/// Users go offline soon after leaving, and each may send only ten messages.
fn short_grace(node: Builder) -> Builder {
    node.env("HUBBUB_PRESENCE__GRACE", "500ms").plugin_config("chat", "messages_per_minute", "10")
}

/// Connects a user; all users of the tenant receive the presence.
async fn present(node: &Server, id: &str) -> Client {
    node.connect("/", user(id).claim("tenant", "acme")).await
}

#[tokio::test]
async fn users_of_a_killed_node_go_offline_once_unless_reconnected() {
    const THERE: usize = 5;
    let mut cluster = Cluster::with(3, short_lease).await;
    let mut watchers = [present(&cluster.nodes[1], "eva").await, present(&cluster.nodes[2], "fay").await];
    let mut there = Vec::new();
    for n in 0..THERE {
        let id = format!("u{n}");
        there.push(present(&cluster.nodes[0], &id).await);
        for watcher in &mut watchers {
            wait::eventually("the user to be online", async || watcher.next("user_online").await["user_id"] == json!(id)).await;
        }
    }
    cluster.nodes[0].kill9();
    let _again = present(&cluster.nodes[2], "u0").await;
    for watcher in &mut watchers {
        let mut gone = Vec::new();
        for _ in 1..THERE {
            gone.push(watcher.next("user_offline").await["user_id"].as_str().expect("an id").to_owned());
        }
        gone.sort();
        assert_eq!(gone, ["u1", "u2", "u3", "u4"]);
    }
    // Any further offline event would arrive before the next user's online event.
    let _last = present(&cluster.nodes[1], "last").await;
    for watcher in &mut watchers {
        wait::eventually("the last user to be online", async || watcher.next("user_online").await["user_id"] == "last").await;
        watcher.expect_none("user_offline").await;
        watcher.expect_none("user_online").await;
    }
}

#[tokio::test]
async fn a_client_of_a_killed_node_reconnects_and_finds_the_whole_history() {
    let mut cluster = Cluster::with(2, short_lease).await;
    open_chat(&cluster.nodes[1], "c1", &["ana", "bia"]).await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    // A load balancer in front of both nodes.
    let proxy = TcpProxy::to(cluster.nodes[0].address()).await;
    let url = format!("http://{}", proxy.address());
    let mut ana = Stock::Node.connect_at(&url, "/chat", user("ana"), Transports::Websocket).await.expect("accepted");
    ana.ask("chat:join", json!({"chatId": "c1"})).await;
    for n in 0..30 {
        say(&mut bia, "c1", &n.to_string()).await;
        if n == 9 {
            assert_eq!(ana.next("chat:message").await["content"], json!("0"));
            cluster.nodes[0].kill9();
            proxy.redirect_to(cluster.nodes[1].address());
        }
    }
    ana.reconnected().await;
    let joined = ana.ask("chat:join", json!({"chatId": "c1"})).await;
    assert_eq!(joined["chatId"], "c1", "{joined}");
    say(&mut bia, "c1", "live again").await;
    wait::eventually("a live message", async || ana.next("chat:message").await["content"] == "live again").await;
    let history = ana.ask("chat:history", json!({"chatId": "c1", "limit": 100})).await;
    let history: Vec<_> =
        history["messages"].as_array().expect("a page").iter().rev().map(|one| one["content"].clone()).collect();
    let all: Vec<_> = (0..30).map(|n| json!(n.to_string())).chain([json!("live again")]).collect();
    assert_eq!(history, all);
    assert_eq!(everything(&mut bia).await.len(), all.len());
}

/// Two nodes with clients in one chat and attendants that see each other.
struct Pair {
    cluster: Cluster,
    /// Ana and Bia are connected to the first node, Caio to the second.
    ana: Client,
    bia: Client,
    caio: Client,
    /// One attendant on each node.
    eva: Client,
    fay: Client,
}

impl Pair {
    /// The first node reaches Redis through the given address. Runs alone on the machine, because it measures time.
    async fn over(node: impl Fn(Builder) -> Builder, proxy: impl AsyncFnOnce(SocketAddr) -> SocketAddr) -> Self {
        machine::exclusive();
        let mut cluster = Cluster::of(0).await;
        let first = cluster.node_over(node(Server::dev()), proxy(cluster.redis.address()).await).await;
        let second = cluster.node(node(Server::dev())).await;
        cluster.nodes = vec![first, second];
        cluster.settled(2).await;
        let [first, second] = &cluster.nodes[..] else { panic!("two nodes") };
        open_chat(first, "c1", &["ana", "bia", "caio"]).await;
        let (ana, bia) = (member(first, "ana", "c1").await, member(first, "bia", "c1").await);
        let caio = member(second, "caio", "c1").await;
        let (mut eva, mut fay) = (attendant(first, "eva").await, attendant(second, "fay").await);
        are_listed(&mut eva, &["eva", "fay"]).await;
        are_listed(&mut fay, &["eva", "fay"]).await;
        Self { cluster, ana, bia, caio, eva, fay }
    }

    /// While Redis is unavailable, clients of one node receive each other's messages soon, within the message limit.
    async fn works_locally(&mut self, time: Duration) {
        self.cluster.nodes[0].logged("this node is on its own").await;
        let began = Instant::now();
        for n in 0..10 {
            say(&mut self.ana, "c1", &n.to_string()).await;
            self.bia.next_within("chat:message", Duration::from_secs(5)).await;
        }
        // Her message limit is counted by this node meanwhile, and is as strict as before.
        let refused = self.ana.refused("chat:message", json!({"chatId": "c1", "content": "the eleventh"})).await;
        assert_eq!(refused.0, "rate_limited");
        while began.elapsed() < time {
            self.ana.ask("chat:typing", json!({"chatId": "c1"})).await;
            self.bia.next_within("chat:typing", Duration::from_secs(5)).await;
        }
        let (status, ready) = self.cluster.nodes[0].readiness().await;
        assert_eq!((status, &ready["status"]), (200, &json!("degraded")), "{ready}");
    }

    /// Once Redis is back, message delivery, room counts and presence work across the cluster again.
    async fn recovers(&mut self, back: Instant, attendants: &[&str]) {
        let [first, second] = &self.cluster.nodes[..] else { panic!("two nodes") };
        let left = || RECOVERY.saturating_sub(back.elapsed());
        wait::until("messages of the first node to reach the second", left(), async || {
            self.ana.ask("chat:typing", json!({"chatId": "c1"})).await;
            self.caio.received("chat:typing").await.map(drop)
        })
        .await;
        wait::until("messages of the second node to reach the first", left(), async || {
            self.caio.ask("chat:typing", json!({"chatId": "c1"})).await;
            while let Some(typing) = self.bia.received("chat:typing").await {
                if typing["userId"] == "caio" {
                    return Some(());
                }
            }
            None
        })
        .await;
        wait::until("both nodes to be ready", left(), async || {
            let one = |ready: (u16, serde_json::Value)| ready.0 == 200 && ready.1["status"] == "ready" && ready.1["nodes"] == 2;
            (one(first.readiness().await) && one(second.readiness().await)).then_some(())
        })
        .await;
        for client in [&mut self.ana, &mut self.caio] {
            wait::until("three users to be counted in the chat", left(), async || {
                (helpers::join(client, "c1").await["onlineCount"] == 3).then_some(())
            })
            .await;
        }
        for attendant in [&mut self.eva, &mut self.fay] {
            wait::until("the attendants to be listed", left(), async || (listed(attendant).await == attendants).then_some(()))
                .await;
        }
    }
}

async fn attendant(node: &Server, id: &str) -> Client {
    node.connect("/hub", user(id).name(&name(id)).role("ATTENDANT")).await
}

/// The ids that are listed as online, sorted.
async fn listed(client: &mut Client) -> Vec<String> {
    let list = ask_bare(client, "presence:list").await;
    let online = list["attendants"].as_array().into_iter().flatten().filter(|one| one["status"] == "online");
    let mut ids: Vec<_> = online.filter_map(|one| one["userId"].as_str().map(str::to_owned)).collect();
    ids.sort();
    ids
}

async fn are_listed(client: &mut Client, ids: &[&str]) {
    wait::eventually("the attendants to be listed", async || listed(client).await == ids).await;
}

#[tokio::test]
async fn nodes_work_locally_while_redis_is_paused_and_recover() {
    let pause = std::env::var("HUBBUB_TEST_PAUSE").map_or(PAUSE, |pause| Duration::from_secs(pause.parse().expect("seconds")));
    let mut pair = Pair::over(short_grace, async |redis| redis).await;
    let gone = attendant(&pair.cluster.nodes[0], "gone").await;
    are_listed(&mut pair.fay, &["eva", "fay", "gone"]).await;
    pair.cluster.redis.pause();
    drop(gone);
    pair.works_locally(pause).await;
    let _came = attendant(&pair.cluster.nodes[0], "came").await;
    pair.cluster.redis.resume();
    pair.recovers(Instant::now(), &["came", "eva", "fay"]).await;
}

#[tokio::test]
async fn cluster_state_is_restored_after_redis_restarts_empty() {
    let mut pair = Pair::over(short_grace, async |redis| redis).await;
    let gone = attendant(&pair.cluster.nodes[0], "gone").await;
    are_listed(&mut pair.fay, &["eva", "fay", "gone"]).await;
    pair.cluster.redis.stop();
    drop(gone);
    pair.works_locally(Duration::ZERO).await;
    let _came = attendant(&pair.cluster.nodes[0], "came").await;
    pair.cluster.redis.start_again().await;
    pair.recovers(Instant::now(), &["came", "eva", "fay"]).await;
}

#[tokio::test]
async fn a_node_cut_off_from_redis_works_locally_and_recovers() {
    let mut proxy = None;
    let mut pair =
        Pair::over(|node| short_grace(short_lease(node)), async |redis| proxy.insert(TcpProxy::to(redis).await).address()).await;
    let proxy = proxy.expect("it was created");
    let redis = pair.cluster.redis.address();
    let gone = attendant(&pair.cluster.nodes[0], "gone").await;
    are_listed(&mut pair.fay, &["eva", "fay", "gone"]).await;
    proxy.cut();
    drop(gone);
    pair.works_locally(Duration::ZERO).await;
    let _came = attendant(&pair.cluster.nodes[0], "came").await;
    // The other node still has Redis and lists only its own attendant in the end.
    are_listed(&mut pair.fay, &["fay"]).await;
    let (_, ready) = pair.cluster.nodes[1].readiness().await;
    assert_eq!((&ready["status"], &ready["nodes"]), (&json!("ready"), &json!(1)), "{ready}");
    proxy.redirect_to(redis);
    pair.recovers(Instant::now(), &["came", "eva", "fay"]).await;
}
