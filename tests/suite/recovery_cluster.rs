//! Clients that lose their connection and come back to any node of a cluster, also when theirs was killed: each gets everything once and
//! in order.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::{Client, Returning, Server, TcpProxy, fixture, wait};
use tokio::time::Instant;

use crate::helpers::{join as join_chat, member, open_chat, say, user};
use crate::presence::user_everywhere;

/// How long a client may take to receive what it waits for.
const READING: Duration = Duration::from_secs(20);

/// Two nodes with the chat `c1`.
async fn two_nodes() -> Cluster {
    two_nodes_with(|node| node).await
}

/// The same, each configured by `make` besides.
async fn two_nodes_with(make: impl Fn(Builder) -> Builder) -> Cluster {
    let cluster = Cluster::with(2, |node| make(node.without_message_limit())).await;
    open_chat(&cluster.nodes[0], "c1", &["ana", "bia"]).await;
    cluster
}

/// A client in the chat at a node, which has received one message.
async fn received_one(node: &Server, bia: &mut Client) -> Returning {
    let mut ana = Returning::new("/chat", user("ana"));
    ana.connect(node.address()).await.expect("accepted");
    join_chat(ana.client(), "c1").await;
    say(bia, "c1", "one").await;
    until(&mut ana, 1).await;
    ana
}

/// Reads until it has this number of messages.
async fn until(client: &mut Returning, count: usize) {
    let (end, messages) =
        (Instant::now() + READING, |client: &Returning| client.received.iter().filter(|args| args[0] == "chat:message").count());
    while messages(client) < count && Instant::now() < end {
        client.read(Instant::now() + Duration::from_millis(20)).await;
    }
    assert_eq!(messages(client), count, "{:?}", client.received);
}

#[tokio::test]
async fn a_client_comes_back_to_another_node() {
    let cluster = two_nodes().await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
    for (round, node) in [1, 0, 0, 1].into_iter().enumerate() {
        ana.cut();
        say(&mut bia, "c1", "missed").await;
        ana.connect(cluster.nodes[node].address()).await.expect("accepted");
        say(&mut bia, "c1", "live").await;
        until(&mut ana, 3 + 2 * round).await;
    }
    assert_eq!((ana.recovered, ana.renewed), (4, 0));
}

#[tokio::test]
async fn a_client_that_moves_on_before_its_old_connections_have_ended_keeps_its_socket() {
    let cluster = two_nodes().await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
    for round in 1..=40 {
        ana.connect(cluster.nodes[round % 2].address()).await.expect("accepted");
        assert_eq!((ana.recovered, ana.renewed), (round, 0));
        if round % 8 == 0 {
            say(&mut bia, "c1", "more").await;
            until(&mut ana, 1 + round / 8).await;
        }
    }
}

#[tokio::test]
async fn a_client_of_a_killed_node_comes_back_to_another_one() {
    let mut cluster = two_nodes().await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
    cluster.nodes[0].kill9();
    say(&mut bia, "c1", "missed").await;
    ana.connect(cluster.nodes[1].address()).await.expect("accepted");
    say(&mut bia, "c1", "live").await;
    until(&mut ana, 3).await;
    assert_eq!((ana.recovered, ana.renewed), (1, 0));
}

async fn refused(node: &Server, reason: &str) -> f64 {
    node.metrics().await.get("hubbub_recoveries_refused_total", &[("reason", reason)]).unwrap_or_default()
}

#[tokio::test]
async fn while_redis_is_away_clients_stay_connected_and_recoveries_are_refused() {
    let cluster = two_nodes().await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
    cluster.redis.pause();
    say(&mut bia, "c1", "in the pause").await;
    until(&mut ana, 2).await;
    ana.cut();
    ana.connect(cluster.nodes[0].address()).await.expect("accepted");
    assert_eq!((ana.recovered, ana.renewed), (0, 1));
    assert_eq!(refused(&cluster.nodes[0], "redis").await, 1.0);
    cluster.redis.resume();
    cluster.settled(2).await;
    join_chat(ana.client(), "c1").await;
    say(&mut bia, "c1", "after it").await;
    until(&mut ana, 3).await;
    ana.cut();
    say(&mut bia, "c1", "missed").await;
    ana.connect(cluster.nodes[1].address()).await.expect("accepted");
    until(&mut ana, 4).await;
    assert_eq!((ana.recovered, ana.renewed), (1, 1));
}

#[tokio::test]
async fn a_node_sends_its_clients_what_it_missed_without_redis() {
    let mut cluster = two_nodes().await;
    let proxy = TcpProxy::to(cluster.redis.address()).await;
    let apart = cluster.node_over(Server::dev().without_message_limit(), proxy.address()).await;
    cluster.nodes.push(apart);
    cluster.settled(3).await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[2], &mut bia).await;
    proxy.cut();
    for number in 0..20 {
        say(&mut bia, "c1", &format!("missed {number}")).await;
    }
    proxy.redirect_to(cluster.redis.address());
    until(&mut ana, 21).await;
    say(&mut bia, "c1", "live").await;
    until(&mut ana, 22).await;
    let contents: Vec<_> =
        ana.received.iter().map(|args| args[1]["content"].clone()).filter(|content| !content.is_null()).collect();
    let missed = (0..20).map(|number| json!(format!("missed {number}")));
    assert_eq!(contents, [json!("one")].into_iter().chain(missed).chain([json!("live")]).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_falls_behind_reads_the_rest_from_the_log() {
    let cluster = two_nodes_with(|node| node.env("HUBBUB_REDIS__INBOX", "1")).await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[1], &mut bia).await;
    // Its messages wait in its connection to Redis, and arrive all at once.
    cluster.nodes[1].signal("STOP");
    for _ in 0..200 {
        say(&mut bia, "c1", "missed").await;
    }
    cluster.nodes[1].signal("CONT");
    until(&mut ana, 201).await;
    let unheard = cluster.nodes[1].metrics().await.get("hubbub_cluster_events_unheard_total", &[]);
    assert!(unheard > Some(0.0), "the node did not fall behind, so the test proves nothing");
}

#[tokio::test]
async fn of_two_connections_at_the_same_moment_one_gets_the_socket() {
    let cluster = two_nodes().await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    for nodes in [[0, 1], [1, 1], [0, 0]] {
        let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
        ana.cut();
        let back = |node: usize| Client::connect(cluster.nodes[node].address(), "/chat", ana.auth());
        // One that comes to another node just after the first was accepted closes that one.
        let clients: Vec<_> = join_all(nodes.map(back)).await.into_iter().flatten().collect();
        say(&mut bia, "c1", "for one").await;
        let mut winners = 0;
        for mut client in clients.into_iter().filter(|client| client.sid() == ana.sid()) {
            winners += usize::from(client.event_until(Instant::now() + READING).await.is_some());
        }
        assert_eq!(winners, 1, "{nodes:?}");
    }
}

#[tokio::test]
async fn a_stolen_id_changes_nothing_for_its_client() {
    let cluster = two_nodes().await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
    let mut stolen = ana.auth();
    stolen["token"] = user("bia").sign().into();
    let mut thief = Client::connect(cluster.nodes[1].address(), "/chat", stolen).await.expect("accepted");
    assert_ne!(thief.sid(), ana.sid());
    assert_eq!(refused(&cluster.nodes[1], "other_user").await, 1.0);
    say(&mut bia, "c1", "two").await;
    until(&mut ana, 2).await;
    thief.expect_none("chat:message").await;
}

#[tokio::test]
async fn a_client_that_missed_more_than_the_log_holds_gets_a_new_socket() {
    let cluster = two_nodes_with(|node| node.env("HUBBUB_RECOVERY__BYTES", "20000")).await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let mut ana = received_one(&cluster.nodes[0], &mut bia).await;
    ana.cut();
    say(&mut bia, "c1", "missed").await;
    ana.connect(cluster.nodes[0].address()).await.expect("accepted");
    until(&mut ana, 2).await;
    ana.cut();
    for _ in 0..100 {
        say(&mut bia, "c1", &"x".repeat(400)).await;
    }
    ana.connect(cluster.nodes[0].address()).await.expect("accepted");
    assert_eq!((ana.recovered, ana.renewed), (1, 1));
    assert_eq!(refused(&cluster.nodes[0], "log").await, 1.0);
    let bytes = cluster.nodes[1].metrics().await.get("hubbub_recovery_log_bytes", &[]).unwrap_or_default();
    assert!((1.0..=20_000.0).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn a_user_stays_online_when_the_client_comes_back_from_a_killed_node() {
    let lease = |node: Builder| node.env("HUBBUB_PRESENCE__LEASE", "3s").env("HUBBUB_REDIS__NODE_TIMEOUT", "2s");
    let mut cluster = Cluster::with(2, lease).await;
    let mut eva = cluster.nodes[1].connect("/", user_everywhere("eva")).await;
    assert_eq!(eva.next("user_online").await["user_id"], "eva");
    let mut ana = Returning::new("/", user_everywhere("ana"));
    ana.connect(cluster.nodes[0].address()).await.expect("accepted");
    assert_eq!(eva.next("user_online").await["user_id"], "ana");
    cluster.nodes[0].kill9();
    ana.connect(cluster.nodes[1].address()).await.expect("accepted");
    assert_eq!((ana.recovered, ana.renewed), (1, 0));
    cluster.nodes[1].logged("a node is dead").await;
    eva.expect_none("user_offline").await;
}

#[tokio::test]
async fn another_node_reports_the_clients_of_a_killed_node_that_do_not_come_back() {
    let fragile = fixture::fragile("1.0.0").await;
    let node = |node: Builder| {
        let node = node.only(&[]).plugin("fragile", &fragile);
        node.env("HUBBUB_RECOVERY__WINDOW", "1s").env("HUBBUB_REDIS__NODE_TIMEOUT", "2s")
    };
    let mut cluster = Cluster::with(2, node).await;
    let _ana = cluster.nodes[0].connect("/fragile", ()).await;
    let mut bia = cluster.nodes[1].connect("/fragile", ()).await;
    cluster.nodes[0].kill9();
    wait::eventually("on-disconnect", async || bia.ask("counts", json!(null)).await["disconnects"] == 1).await;
}
