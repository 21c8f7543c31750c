//! Several nodes that act as one server for their clients. Must never depend on a client's node, except where a test is about
//! that.

use std::process::Command;

use serde_json::json;
use tests::cluster::Cluster;
use tests::server::{Builder, NODES};
use tests::{Client, Server, machine, wait};

use crate::helpers::{join, member, open_chat, say, user};

/// A viewer of the video `v1`.
async fn viewer(node: &Server, id: &str) -> Client {
    let mut client = node.connect("/", user(id)).await;
    client.ask("video:join", json!({"videoId": "v1"})).await;
    client
}

#[tokio::test]
async fn a_message_reaches_the_room_on_every_node_once_and_in_order() {
    let cluster = Cluster::with(3, Builder::without_message_limit).await;
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
async fn after_the_join_ack_a_client_receives_messages_of_every_node() {
    let cluster = Cluster::with(2, Builder::without_message_limit).await;
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
async fn a_user_on_two_nodes_counts_as_one_viewer() {
    let cluster = Cluster::of(2).await;
    let mut ana = viewer(&cluster.nodes[0], "ana").await;
    let _ana_elsewhere = viewer(&cluster.nodes[1], "ana").await;
    let _bia = viewer(&cluster.nodes[1], "bia").await;
    wait::eventually("two viewers to be counted", async || ana.next("video:viewers").await["count"] == json!(2)).await;
}

#[tokio::test]
async fn a_plugin_disabled_on_one_node_is_disabled_on_all() {
    let cluster = Cluster::of(2).await;
    let (status, body) = cluster.nodes[1].admin(reqwest::Method::POST, "/admin/plugins/video/disable", Vec::new()).await;
    assert_eq!(status, 200, "{body}");
    let mut ana = cluster.nodes[0].connect("/", user("ana")).await;
    wait::eventually("the plugin to be disabled on the other node", async || {
        ana.ask("video:join", json!({"videoId": "v1"})).await["error"]["code"] == json!("unavailable")
    })
    .await;
}

/// Runs tests of the products again, in another process, in which each server has this many nodes.
fn products_on(nodes: usize, modules: &[&str]) {
    machine::exclusive();
    let mut suite = Command::new(std::env::current_exe().expect("a running test has a file"));
    suite.args(modules).args(["--test-threads", "4"]).env(NODES, nodes.to_string()).env("RUST_BACKTRACE", "0");
    let run = suite.output().expect("the suite runs");
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "on {nodes} nodes: {printed}{}", String::from_utf8_lossy(&run.stderr));
    assert!(printed.contains("test result: ok. ") && !printed.contains("ok. 0 passed"), "{printed}");
}

#[test]
fn all_product_tests_pass_on_two_nodes() {
    products_on(2, &["lms::", "lms_chat::", "support_desk::", "crm::", "conversations::", "video::", "video_chat::", "once::"]);
}

#[test]
fn all_chat_tests_pass_on_three_nodes() {
    products_on(3, &["lms_chat::", "conversations::", "video_chat::"]);
}
