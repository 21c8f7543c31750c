//! Several plugins deployed and rolled back as one set: all or none are live on every node, and no message is lost or handled
//! twice.

use reqwest::Method;
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::server::Builder;
use tests::{Client, Server, fixture, token, wait};

use crate::helpers::{publish_keyed, user};
use crate::plugin_split::{NEW, old_chat, opens, operate, split, text, thread};

/// The old plugin for all products, beside two that share its namespaces.
fn before(node: Builder) -> Builder {
    node.only(&["presence", "queue"]).plugin("chat", &fixture::built_for_0_1("chat")).without_message_limit()
}

/// The deployed plugins with their versions.
async fn deployed(server: &Server) -> Vec<(String, String)> {
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plugins = listed["plugins"].as_array().expect("a list").iter();
    plugins.map(|plugin| (text(&plugin["name"]), text(&plugin["version"]))).collect()
}

async fn in_thread(server: &Server) -> Client {
    let mut ana = server.connect("/hub", user("ana").role("ATTENDANT")).await;
    enter(&mut ana, "t1").await;
    ana
}

async fn enter(client: &mut Client, thread: &str) {
    let joins = async || client.ask("join:thread", json!({"threadId": thread})).await == json!({});
    wait::eventually("the thread to exist", joins).await;
}

/// Publishes numbered states of a thread until `stop` is set and returns how many.
async fn publish_states(server: &Server, stop: &std::sync::atomic::AtomicBool) -> u64 {
    let mut published = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        published += 1;
        publish_keyed(server, "t1", "thread.status", json!({"threadId": "t1", "status": published.to_string()})).await;
    }
    published
}

/// Runs a change while states are published, and asserts that a client in the thread receives each of them once and in order.
async fn nothing_is_lost_while(server: &Server, client: &mut Client, change: impl AsyncFnOnce()) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let changing = async {
        change().await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (published, ()) = futures_util::future::join(publish_states(server, &stop), changing).await;
    for number in 1..=published {
        assert_eq!(client.next("thread:status").await["status"], number.to_string());
    }
    client.expect_none("thread:status").await;
}

fn rollback(server: &Server) -> std::process::Output {
    operate(server, &[&["rollback"], &NEW[..]].concat())
}

#[tokio::test]
async fn a_set_is_deployed_and_rolled_back_together_with_its_data() {
    let mut server = before(Server::dev().single_node()).start().await;
    let old = deployed(&server).await;
    publish_keyed(&server, "t1", "thread.upserted", thread("t1", "cal")).await;
    let mut ana = in_thread(&server).await;
    nothing_is_lost_while(&server, &mut ana, async || {
        let output = split(&server).await;
        assert!(output.status.success(), "{}", text(&output));
    })
    .await;
    let names: Vec<_> = deployed(&server).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["chat", "conversations", "crm", "presence", "queue", "threads"]);
    enter(&mut ana, "t1").await;
    publish_keyed(&server, "t2", "thread.upserted", thread("t2", "cal")).await;
    opens(&server, user("cal"), "t2").await;
    let mut of_acme = thread("t2", "dora");
    of_acme["tenant"] = json!("acme");
    publish_keyed(&server, "t2", "thread.upserted", of_acme).await;
    opens(&server, user("dora").claim("tenant", "acme"), "t2").await;

    for alone in NEW {
        let refused = operate(&server, &["rollback", alone]);
        assert!(!refused.status.success(), "{alone}");
    }
    nothing_is_lost_while(&server, &mut ana, async || {
        let output = rollback(&server);
        assert!(output.status.success(), "{}", text(&output));
    })
    .await;
    assert_eq!(deployed(&server).await, old);
    assert_eq!(
        server.store().value("chat", "threads/t2"),
        Some(json!({"customerId": "cal"})),
        "a thread written after the split"
    );
    opens(&server, user("cal"), "t2").await;
    server.restart().await;
    assert_eq!((deployed(&server).await, server.readiness().await.1["pluginsDown"].clone()), (old, json!([])));
    opens(&server, user("cal"), "t2").await;

    let output = split(&server).await;
    assert!(output.status.success(), "{}", text(&output));
    opens(&server, user("cal"), "t1").await;
    opens(&server, user("dora").claim("tenant", "acme"), "t2").await;
    assert_eq!(server.store().value("chat", "threads/t2"), None);
}

#[tokio::test]
async fn an_invalid_set_changes_nothing() {
    let server = old_chat().single_node().start().await;
    publish_keyed(&server, "t1", "thread.upserted", thread("t1", "cal")).await;
    opens(&server, user("cal"), "t1").await;
    let before = deployed(&server).await;
    let plugins = fixture::plugins().await;
    let file = |name: &str| plugins[name].display().to_string();
    let (chat, threads, crm, old) =
        (file("chat"), file("threads"), file("crm"), fixture::built_for_0_1("chat").display().to_string());
    let broken = fixture::built_for_0_1("README.md").with_file_name("README.md").display().to_string();
    let cases: [(&[&str], &str); 7] = [
        (&["deploy", "crm", &crm, "threads", &threads], "the rooms company:{id} of chat and company:{id} of crm overlap"),
        (&["deploy", "chat", &old, "threads", &threads], "the rooms thread:{id} of chat and thread:{id} of threads overlap"),
        (&["deploy", "chat", &chat, "threads", &broken], "compile"),
        (&["deploy", "chat", &chat, "crm", &threads], "describes itself as threads"),
        (&["deploy", "threads", &threads, "threads", &threads], "threads is named twice"),
        (&["deploy", "chat", &chat, "threads"], "threads has no component"),
        (&["deploy", "chat", &chat, "threads", &threads, "--canary", "10%"], "a set is deployed to everyone"),
    ];
    for (args, says) in cases {
        let output = operate(&server, args);
        assert!(!output.status.success() && text(&output).contains(says), "expected {says}: {}", text(&output));
        assert_eq!(deployed(&server).await, before);
    }
    let (status, answer) = server.admin(Method::POST, "/admin/deploy", br#"{"plugins": []}"#.to_vec()).await;
    assert_eq!((status, &answer["detail"]), (400, &json!("it names no plugin")));
    let (status, answer) = server.admin(Method::POST, "/admin/rollback", br#"{"plugins": ["chat", "crm"]}"#.to_vec()).await;
    assert_eq!(status, 404, "{answer}");
    let store = server.store();
    assert_eq!((store.value("threads", "threads/t1"), store.value("chat", "threads/t1").is_some()), (None, true));
    assert_eq!(store.components().len(), 1, "components that were not deployed are not stored");
    opens(&server, user("cal"), "t1").await;
    assert!(!server.log().contains("moved what"), "{}", server.log());
}

#[tokio::test]
async fn a_set_is_deployed_and_rolled_back_on_all_nodes() {
    let cluster = Cluster::with(2, before).await;
    let [first, second] = [&cluster.nodes[0], &cluster.nodes[1]];
    publish_keyed(first, "t1", "thread.upserted", thread("t1", "cal")).await;
    let mut ana = in_thread(second).await;
    nothing_is_lost_while(first, &mut ana, async || {
        let output = split(first).await;
        assert!(output.status.success(), "{}", text(&output));
    })
    .await;
    for node in &cluster.nodes {
        wait::eventually("the node to follow", async || deployed(node).await.len() == 6).await;
        opens(node, user("cal"), "t1").await;
        node.connect("/conversations", token("ana").claim("userId", "ana").claim("companyId", "acme")).await;
    }
    publish_keyed(second, "t2", "thread.upserted", thread("t2", "cal")).await;
    opens(first, user("cal"), "t2").await;
    nothing_is_lost_while(second, &mut ana, async || {
        let output = rollback(second);
        assert!(output.status.success(), "{}", text(&output));
    })
    .await;
    for node in &cluster.nodes {
        wait::eventually("the node to follow", async || deployed(node).await.len() == 3).await;
        opens(node, user("cal"), "t2").await;
    }
}

#[tokio::test]
async fn a_node_started_with_the_new_plugins_updates_the_others() {
    let cluster = Cluster::with(1, |_| old_chat()).await;
    let old = &cluster.nodes[0];
    publish_keyed(old, "t1", "thread.upserted", thread("t1", "cal")).await;
    let mut ana = in_thread(old).await;
    let new = cluster.node(Server::dev().only(&NEW)).await;
    nothing_is_lost_while(old, &mut ana, async || {
        wait::eventually("the old node to follow", async || deployed(old).await.len() == NEW.len()).await;
    })
    .await;
    for node in [old, &new] {
        opens(node, user("cal"), "t1").await;
        assert_eq!(node.readiness().await.1["pluginsDown"], json!([]));
    }
    // Data is moved once: a node that starts later finds it moved already.
    let third = cluster.node(Server::dev().only(&NEW)).await;
    assert!(!third.log().contains("moved what"), "{}", third.log());
}

#[tokio::test]
async fn a_set_that_one_node_cannot_stage_is_not_deployed() {
    let mut cluster = Cluster::with(1, |_| old_chat()).await;
    let node = cluster.node(old_chat().env("HUBBUB_PLUGINS__CRM__GRANTS", r#"["log"]"#)).await;
    cluster.nodes.push(node);
    cluster.settled(2).await;
    publish_keyed(&cluster.nodes[0], "t1", "thread.upserted", thread("t1", "cal")).await;
    let output = split(&cluster.nodes[0]).await;
    assert!(!output.status.success() && text(&output).contains("which is not granted"), "{}", text(&output));
    for node in &cluster.nodes {
        assert_eq!(deployed(node).await.len(), 1);
        opens(node, user("cal"), "t1").await;
    }
}
