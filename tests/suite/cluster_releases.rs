//! Releases on several nodes: live on all or on none, with canaries and status for the whole cluster. Must never wait for a
//! silent node.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::{Client, Server, fixture, token, wait};

/// Two nodes with a plugin that returns its version.
async fn two(make: impl Fn(Builder) -> Builder) -> Cluster {
    let first = fixture::versioned("1.0.0").await;
    Cluster::with(2, |node| make(node.only(&["chat"]).plugin("versioned", &first))).await
}

async fn post(node: &Server, path: &str, body: Vec<u8>) -> (u16, Value) {
    node.admin(Method::POST, &format!("/admin/plugins/versioned/{path}"), body).await
}

async fn second() -> Vec<u8> {
    std::fs::read(fixture::versioned("2.0.0").await).expect("the component was built")
}

/// Connects the same users to every node.
async fn users(cluster: &Cluster) -> Vec<Vec<Client>> {
    let mut users = Vec::new();
    for node in &cluster.nodes {
        let mut here = Vec::new();
        for n in 0..20 {
            here.push(node.connect("/versioned", token(&format!("u{n}"))).await);
        }
        users.push(here);
    }
    users
}

/// Waits until every node serves each user with the same version and `is_right` holds for the number of users of the second
/// version.
async fn served(users: &mut [Vec<Client>], is_right: impl Fn(usize) -> bool) {
    wait::eventually("all nodes to serve the same version", async || {
        let mut nodes = Vec::new();
        for node in &mut *users {
            let mut versions = Vec::new();
            for user in node {
                versions.push(user.ask("version", Value::Null).await);
            }
            nodes.push(versions);
        }
        let on_trial = nodes[0].iter().filter(|version| **version == "2.0.0").count();
        nodes.iter().all(|node| *node == nodes[0]) && is_right(on_trial)
    })
    .await;
}

#[tokio::test]
async fn a_deployment_or_rollback_on_one_node_takes_effect_on_all() {
    let cluster = two(|node| node).await;
    let mut users = users(&cluster).await;
    assert_eq!(post(&cluster.nodes[1], "deploy", second().await).await.0, 200);
    served(&mut users, |on_trial| on_trial == 20).await;
    assert_eq!(post(&cluster.nodes[0], "rollback", Vec::new()).await.0, 200);
    served(&mut users, |on_trial| on_trial == 0).await;
}

#[tokio::test]
async fn a_canary_serves_the_same_users_on_every_node() {
    let cluster = two(|node| node).await;
    let mut users = users(&cluster).await;
    for (change, is_right) in [
        ("deploy?canary=50", (|on_trial| (3..=17).contains(&on_trial)) as fn(usize) -> bool),
        ("deploy?canary=100", |on_trial| on_trial == 20),
        ("rollback", |on_trial| on_trial == 0),
    ] {
        let (status, answer) = post(&cluster.nodes[0], change, second().await).await;
        assert_eq!(status, 200, "{change}: {answer}");
        served(&mut users, is_right).await;
    }
}

#[tokio::test]
async fn a_release_that_one_node_cannot_stage_goes_live_on_none() {
    let mut cluster = Cluster::with(1, |node| node.only(&["chat"])).await;
    let stricter = Server::dev().only(&["chat"]).env("HUBBUB_PLUGINS__VERSIONED__GRANTS", r#"["log"]"#);
    let stricter = cluster.node(stricter).await;
    cluster.nodes.push(stricter);
    cluster.settled(2).await;
    let (status, answer) = post(&cluster.nodes[0], "deploy", second().await).await;
    assert_eq!(status, 422, "{answer}");
    let detail = answer["detail"].as_str().expect("a text");
    assert!(detail.starts_with("node ") && detail.contains("which is not granted"), "{detail}");
    for node in &cluster.nodes {
        node.connect_refused("/versioned", token("ana")).await;
    }
}

#[tokio::test]
async fn the_last_status_of_a_silent_node_is_listed_without_waiting() {
    let lease = |node: Builder| node.env("HUBBUB_PRESENCE__LEASE", "20s").env("HUBBUB_REDIS__NODE_TIMEOUT", "2s");
    let cluster = two(lease).await;
    let answer = async || {
        let began = Instant::now();
        let (_, listed) = cluster.nodes[0].admin(Method::GET, "/admin/plugins", Vec::new()).await;
        let plugin = listed["plugins"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "versioned")).cloned();
        let nodes = plugin.expect("it is deployed")["nodes"].as_array().cloned().unwrap_or_default();
        assert!(began.elapsed().as_secs() < 2, "it must not wait: {:?}", began.elapsed());
        nodes.iter().map(|node| (node["silent"] == true, node["version"].clone())).collect::<Vec<_>>()
    };
    wait::eventually("both to report", async || answer().await == [(false, json!("1.0.0")), (false, json!("1.0.0"))]).await;
    cluster.nodes[1].pause();
    wait::eventually("one to be silent", async || {
        let mut nodes = answer().await;
        nodes.sort_by_key(|(silent, _)| *silent);
        nodes == [(false, json!("1.0.0")), (true, json!("1.0.0"))]
    })
    .await;
    let (status, metrics) = cluster.nodes[0].admin(Method::GET, "/admin/figures", Vec::new()).await;
    assert_eq!((status, metrics["nodes"].as_array().map(Vec::len)), (200, Some(2)), "{metrics}");
}
