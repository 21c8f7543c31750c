//! Components of an older version of the contract, beside components of the newest: served, replaced, rolled back, recorded and
//! replayed. The old ones are stored as bytes and never built again.

use reqwest::Method;
use serde_json::{Value, json};
use tests::recording::Recording;
use tests::server::run;
use tests::{Client, Server, fixture, token, wait};

use crate::helpers::{ask_bare, name, publish_keyed, user};

async fn deploy(server: &Server, how: &str, component: &std::path::Path) -> Value {
    let bytes = std::fs::read(component).expect("a component");
    let (status, answer) = server.admin(Method::POST, &format!("/admin/plugins/versioned/deploy{how}"), bytes).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn version(client: &mut Client) -> Value {
    client.ask("version", Value::Null).await
}

/// The contract version of the live release.
async fn contract(server: &Server) -> Value {
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    let plugins = listed["plugins"].as_array().expect("a list");
    plugins.iter().find(|plugin| plugin["name"] == "versioned").expect("the plugin")["contract"].clone()
}

#[tokio::test]
async fn an_old_component_is_replaced_by_a_new_one_and_rolled_back() {
    let mut server = Server::dev().only(&[]).plugin("versioned", &fixture::built_for_0_1("versioned")).start().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    assert_eq!((version(&mut client).await, contract(&server).await), (json!("1.0.0"), json!("0.1.0")));
    assert_eq!(client.ask("say", json!("first")).await, 1);

    let new = fixture::versioned("2.0.0").await;
    assert_eq!(deploy(&server, "?canary=100", &new).await["canary"]["contract"], "0.2.0");
    assert_eq!(version(&mut client).await, "2.0.0");
    let (status, _) = server.admin(Method::POST, "/admin/plugins/versioned/promote", Vec::new()).await;
    assert_eq!((status, contract(&server).await), (200, json!("0.2.0")));
    assert_eq!(client.ask("say", json!("second")).await, 2, "with the data of the old release");

    let (status, _) = server.admin(Method::POST, "/admin/plugins/versioned/rollback", Vec::new()).await;
    assert_eq!((status, version(&mut client).await), (200, json!("1.0.0")));
    assert_eq!(client.ask("say", json!("third")).await, 3);
    server.restart().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    assert_eq!((version(&mut client).await, contract(&server).await), (json!("1.0.0"), json!("0.1.0")));
}

#[tokio::test]
async fn calls_of_an_old_component_are_recorded_and_replayed_on_a_new_one() {
    let old = fixture::built_for_0_1("versioned");
    let server = Server::dev().only(&[]).plugin("versioned", &old).start().await;
    let mut recording = Recording::begin(&server, "versioned", "for=60s").await;
    let mut client = server.connect("/versioned", token("ana")).await;
    for number in 1..=3 {
        assert_eq!(client.ask("say", json!(number)).await, number);
    }
    recording.until("the third call", |line| line["outcome"]["ok"] == "3").await;
    let new = fixture::versioned("2.0.0").await.display().to_string();
    let output = run(&["replay", &recording.file(), "--with", &new, "--against", &old.display().to_string()], &[]);
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{printed}");
}

#[test]
fn inspect_and_diff_name_the_contract() {
    let old = fixture::built_for_0_1("queue").display().to_string();
    let text = |args: &[&str]| String::from_utf8(run(args, &[]).stdout).expect("text");
    assert!(text(&["plugin", "inspect", &old]).contains("contract  0.1.0"));
    assert!(!text(&["plugin", "diff", &old, &old]).contains("contract"));
}

#[tokio::test]
async fn diff_reports_a_contract_change_without_other_changes() {
    let (old, new) = (fixture::built_for_0_1("versioned"), fixture::versioned("1.0.0").await);
    let output = run(&["plugin", "diff", &old.display().to_string(), &new.display().to_string()], &[]);
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(printed.contains("contract 0.1.0 -> 0.2.0") && !printed.contains("import"), "{printed}");
}

#[tokio::test]
async fn plugins_of_an_old_contract_serve_beside_new_ones() {
    let server = Server::dev()
        .only(&["chat", "threads", "crm"])
        .plugin("presence", &fixture::built_for_0_1("presence"))
        .plugin("queue", &fixture::built_for_0_1("queue"))
        .env("HUBBUB_PRESENCE__GRACE", "1s")
        .start()
        .await;
    let mut ana = server.connect("/hub", user("ana").role("ATTENDANT")).await;
    let mut eva = server.connect("/hub", user("eva").role("ATTENDANT")).await;
    wait::eventually("eva to be online", async || ana.next("attendant:online").await["userId"] == "eva").await;
    assert_eq!(ask_bare(&mut ana, "presence:list").await["attendants"].as_array().map(Vec::len), Some(2));
    let item = json!({"itemId": "q1", "threadId": "t1", "customer": {"id": "cal", "name": name("cal")}});
    publish_keyed(&server, "queue", "queue.added", item).await;
    assert_eq!(eva.next("queue:new").await["itemId"], "q1");
    assert_eq!(ana.ask("queue:take", json!({"itemId": "q1"})).await, json!({"itemId": "q1", "taken": true}));
    assert_eq!(eva.next("queue:taken").await, json!({"itemId": "q1", "attendantId": "ana"}));
    drop(eva);
    assert_eq!(ana.next("attendant:offline").await["userId"], "eva");
}
