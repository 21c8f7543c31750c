//! Many nodes that are one server to their clients. Must never rely on which node a client is at, but where that is the point.

use std::time::Duration;

use serde_json::json;
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::{Client, Server, wait};

use crate::scene::{join, member, open_chat, say, user};

/// A viewer of the video `v1`.
async fn viewer(node: &Server, id: &str) -> Client {
    let mut client = node.connect("/", user(id)).await;
    client.ask("video:join", json!({"videoId": "v1"})).await;
    client
}

#[tokio::test]
async fn a_message_reaches_the_room_on_every_node_once_and_in_order() {
    let cluster = Cluster::with(3, Builder::chatty).await;
    open_chat(&cluster.nodes[0], "c1", &["ana", "bia", "caio"]).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[1], "bia", "c1").await;
    let mut caio = member(&cluster.nodes[2], "caio", "c1").await;
    for n in 0..50 {
        say(&mut ana, "c1", &n.to_string()).await;
    }
    for client in [&mut ana, &mut bia, &mut caio] {
        for n in 0..50 {
            assert_eq!(client.next("chat:message").await["content"], json!(n.to_string()));
        }
        client.expect_none("chat:message").await;
    }
}

#[tokio::test]
async fn whoever_was_told_that_he_is_in_hears_the_next_message_of_any_node() {
    let cluster = Cluster::with(2, Builder::chatty).await;
    open_chat(&cluster.nodes[0], "c1", &["ana", "bia"]).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    for n in 0..30 {
        let mut bia = cluster.nodes[1].connect("/chat", user("bia")).await;
        join(&mut bia, "c1").await;
        say(&mut ana, "c1", &n.to_string()).await;
        assert_eq!(bia.next("chat:message").await["content"], json!(n.to_string()));
        bia.leave().await;
    }
}

#[tokio::test]
async fn one_user_on_two_nodes_counts_as_one_and_the_count_is_the_clusters() {
    let cluster = Cluster::of(2).await;
    let mut ana = viewer(&cluster.nodes[0], "ana").await;
    let _ana_elsewhere = viewer(&cluster.nodes[1], "ana").await;
    let _bia = viewer(&cluster.nodes[1], "bia").await;
    wait::eventually("two viewers to be counted", async || ana.next("video:viewers").await["count"] == json!(2)).await;
}

#[tokio::test]
async fn a_deployment_on_one_node_is_live_on_all() {
    let cluster = Cluster::of(2).await;
    let (status, body) = cluster.nodes[1].admin(reqwest::Method::POST, "/admin/plugins/video/disable", Vec::new()).await;
    assert_eq!(status, 200, "{body}");
    let mut ana = cluster.nodes[0].connect("/", user("ana")).await;
    wait::eventually("the plugin to be disabled on the other node", async || {
        ana.ask("video:join", json!({"videoId": "v1"})).await["error"]["code"] == json!("unavailable")
    })
    .await;
}

#[tokio::test]
async fn redis_away_stops_no_local_delivery_and_is_made_up_for() {
    let mut cluster = Cluster::with(2, Builder::chatty).await;
    open_chat(&cluster.nodes[0], "c1", &["ana", "bia", "caio"]).await;
    let mut ana = member(&cluster.nodes[0], "ana", "c1").await;
    let mut bia = member(&cluster.nodes[0], "bia", "c1").await;
    let mut caio = member(&cluster.nodes[1], "caio", "c1").await;
    cluster.redis.stop();
    cluster.nodes[0].logged("this node is by itself").await;
    say(&mut ana, "c1", "alone").await;
    assert_eq!(bia.next("chat:message").await["content"], json!("alone"));
    let (_, ready) = cluster.nodes[0].admin(reqwest::Method::GET, "/ready", Vec::new()).await;
    assert_eq!(ready["status"], json!("degraded"), "{ready}");

    cluster.redis.start_again().await;
    wait::until("the nodes to be one again", Duration::from_secs(5), async || {
        say(&mut ana, "c1", "together").await;
        caio.heard("chat:message").await.filter(|heard| heard["content"] == json!("together")).map(drop)
    })
    .await;
}
