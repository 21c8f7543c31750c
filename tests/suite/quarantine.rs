//! A source of calls that only faults is quarantined by itself, across restarts and on all nodes, until an operator ends it.
//! Everything else continues. Must never wait for a breaker's longest time.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::server::{ADMIN_TOKEN, Builder, run};
use tests::{Client, Server, fixture, token, wait};

use crate::helpers::ask_bare;

/// The plugin that fails in the way that its input asks for. One fault opens a circuit breaker, and two openings quarantine its
/// source.
fn tight(builder: Builder, fragile: &std::path::Path) -> Builder {
    let keys = [("FAILURES", "1"), ("WAIT", "50ms"), ("QUARANTINE", "2")];
    let builder = builder.only(&[]).plugin("fragile", fragile);
    keys.into_iter().fold(builder, |builder, (key, value)| builder.env(&format!("HUBBUB_BREAKER__{key}"), value))
}

async fn builder() -> Builder {
    tight(Server::dev().single_node(), &fixture::fragile("1.0.0").await)
}

async fn publish(server: &Server, key: &str, what: &str) {
    server.publish_message(&json!({"topic": "fragile.do", "key": key, "data": {"do": what}})).await;
}

/// The quarantined sources in `/ready` with their causes.
async fn quarantined(server: &Server) -> Vec<(String, String)> {
    let (_, ready) = server.readiness().await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sources = ready["quarantined"].as_array().cloned().unwrap_or_default();
    assert!(sources.iter().all(|one| one["plugin"] == "fragile"), "{ready}");
    assert_eq!(ready["status"] == "degraded", !sources.is_empty(), "{ready}");
    sources.iter().map(|one| (text(&one["source"]), text(&one["cause"]))).collect()
}

async fn is_quarantined(server: &Server, source: &str) -> String {
    wait::until(&format!("{source} to be quarantined"), wait::DEADLINE, async || {
        quarantined(server).await.into_iter().find(|(one, _)| one == source).map(|(_, cause)| cause)
    })
    .await
}

/// Sends two trapping messages one after the other, because only one of several concurrent calls opens the breaker.
async fn trap_twice(server: &Server) {
    for _ in 0..2 {
        publish(server, "bad", "trap").await;
    }
}

fn enable(server: &Server) {
    let enabled = run(&["enable", "fragile", "--url", &server.admin_url(""), "--token", ADMIN_TOKEN], &[]);
    assert!(enabled.status.success(), "{}", String::from_utf8_lossy(&enabled.stderr));
}

async fn counts(client: &mut Client) -> Value {
    client.ask("counts", json!("")).await
}

async fn plugin(server: &Server) -> Value {
    server.admin(Method::GET, "/admin/plugins", Vec::new()).await.1["plugins"][0].clone()
}

#[tokio::test]
async fn trapping_messages_are_quarantined_and_clients_are_unaffected() {
    let server = builder().await.start().await;
    trap_twice(&server).await;
    let cause = is_quarantined(&server, "messages").await;
    assert!(cause.starts_with("on-message fragile.do: it trapped"), "{cause}");
    server.logged("until another release or `hubbub enable fragile`: on-message fragile.do: it trapped").await;
    publish(&server, "good", "fine").await;
    let listed = plugin(&server).await;
    assert_eq!((&listed["state"], &listed["version"]), (&json!("active"), &json!("1.0.0")), "{listed}");
    assert_eq!(
        (&listed["quarantined"][0]["source"], &listed["breakersOpen"]),
        (&json!("messages"), &json!(["messages"])),
        "{listed}"
    );
    let mut client = server.connect("/fragile", ()).await;
    assert_eq!(client.ask("do", json!("fine")).await, json!({}));
    client.ask("soft", json!("fine")).await;
    client.ask("here", json!("ana")).await;
    wait::eventually("the other sources to be called", async || {
        let counts = counts(&mut client).await;
        assert_eq!(counts["messages"], 0, "the topic waits: {counts}");
        counts["timers"] == 1 && counts["notices"] == 1
    })
    .await;
    enable(&server);
    wait::eventually("the good message", async || counts(&mut client).await["messages"] == 1).await;
    wait::eventually("the bad messages to be dead letters", async || {
        server.metrics().await.get("hubbub_bus_dead_letters_total", &[]) == Some(2.0)
    })
    .await;
}

#[tokio::test]
async fn a_quarantine_of_messages_survives_restarts_until_enabled() {
    let mut server = builder().await.start().await;
    trap_twice(&server).await;
    let cause = is_quarantined(&server, "messages").await;
    publish(&server, "good", "fine").await;
    for start in ["second", "third"] {
        server.restart().await;
        assert_eq!(quarantined(&server).await, [("messages".to_owned(), cause.clone())], "at the {start} start");
        let mut client = server.connect("/fragile", ()).await;
        assert_eq!(client.ask("do", json!("fine")).await, json!({}), "at the {start} start");
        assert_eq!(counts(&mut client).await["messages"], 0, "at the {start} start");
    }
    let mut client = server.connect("/fragile", ()).await;
    wait::eventually("the good message", async || {
        // After a restart the bad messages trap again, and two of them open the quarantine again.
        enable(&server);
        counts(&mut client).await["messages"] == 1
    })
    .await;
}

#[tokio::test]
async fn trapping_events_are_quarantined_and_messages_are_handled() {
    let mut server = builder().await.start().await;
    let mut client = server.connect("/fragile", token("ana")).await;
    wait::eventually("the events to be quarantined", async || {
        client.refused("do", json!("trap")).await;
        quarantined(&server).await.iter().any(|(source, _)| source == "events")
    })
    .await;
    assert_eq!(client.refused("do", json!("fine")).await, ("unavailable".into(), "Service unavailable".into()));
    publish(&server, "k1", "fine").await;
    let messages = async |server: &Server| server.store().counter("fragile", "messages");
    wait::eventually("a message", async || messages(&server).await == 1).await;
    let cause = is_quarantined(&server, "events").await;
    assert!(cause.starts_with("on-event do: it trapped"), "{cause}");
    assert_eq!(
        (&server.readiness().await.1["pluginsDown"], &plugin(&server).await["state"]),
        (&json!(["fragile"]), &json!("quarantined"))
    );

    server.restart().await;
    assert_eq!(is_quarantined(&server, "events").await, cause, "over a restart");
    publish(&server, "k2", "fine").await;
    wait::eventually("the next message", async || messages(&server).await == 2).await;
    let mut client = server.connect("/fragile", token("ana")).await;
    assert_eq!(client.refused("do", json!("fine")).await.0, "unavailable");
    enable(&server);
    assert_eq!(client.ask("do", json!("fine")).await, json!({}), "on the same socket");
    assert_eq!((plugin(&server).await["state"].clone(), quarantined(&server).await), (json!("active"), Vec::new()));
}

#[tokio::test]
async fn each_trapping_source_is_quarantined_separately() {
    let server = builder().await.plugin_config("fragile", "schedule", "trap").start().await;
    is_quarantined(&server, "schedules").await;
    let mut client = server.connect("/fragile", token("ana")).await;
    for (event, source) in [("soft", "timers"), ("here", "notices")] {
        let mut sent = 0;
        wait::eventually(&format!("{source} to be quarantined"), async || {
            sent += 1;
            client.ask(event, json!(format!("trap{sent}"))).await;
            quarantined(&server).await.iter().any(|(one, _)| one == source)
        })
        .await;
    }
    for (claim, source) in [("disconnect", "disconnects"), ("connect", "connects"), ("authorize", "authorize")] {
        wait::eventually(&format!("{source} to be quarantined"), async || {
            match Client::connect(server.address(), "/fragile", token("eva").claim(claim, "trap")).await {
                Ok(eva) => eva.leave().await,
                Err(refused) => assert_eq!(claim, "authorize", "{refused:?}"),
            }
            quarantined(&server).await.iter().any(|(one, _)| one == source)
        })
        .await;
        assert_eq!(client.ask("do", json!("fine")).await, json!({}), "with {source} quarantined");
    }
    publish(&server, "k", "fine").await;
    wait::eventually("a message", async || counts(&mut client).await["messages"] == 1).await;
    let sources: BTreeSet<_> = quarantined(&server).await.into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources, ["schedules", "timers", "notices", "disconnects", "connects", "authorize"].map(String::from).into());
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("hubbub_plugin_quarantined_sources", &[("plugin", "fragile")]), Some(6.0));
    assert!(metrics.get("hubbub_breaker_openings_total", &[("source", "timers")]) >= Some(2.0));
    enable(&server);
    server.connect("/fragile", token("bia")).await;
}

#[tokio::test]
async fn failures_and_refusals_open_no_circuit_breaker() {
    let server = builder().await.plugin_config("fragile", "schedule", "fail").start().await;
    let mut client = server.connect("/fragile", token("ana").claim("connect", "fail")).await;
    for _ in 0..5 {
        assert_eq!(client.refused("do", json!("fail")).await.0, "internal");
    }
    client.ask("soft", json!("fail")).await;
    client.ask("here", json!("fail")).await;
    publish(&server, "k", "fail").await;
    server.logged("a soft timer was given up: it failed: it cannot").await;
    wait::eventually("the message and the notice to be dead letters", async || {
        server.metrics().await.get("hubbub_bus_dead_letters_total", &[]) == Some(2.0)
    })
    .await;
    assert_eq!(server.metrics().await.get("hubbub_breaker_openings_total", &[]), None);
    assert_eq!((client.ask("do", json!("fine")).await, quarantined(&server).await), (json!({}), Vec::new()));
}

#[tokio::test]
async fn another_release_ends_a_quarantine_and_rollback_is_refused() {
    let server = builder().await.start().await;
    let mut client = server.connect("/fragile", token("ana")).await;
    wait::eventually("the events to be quarantined", async || {
        client.refused("do", json!("trap")).await;
        !quarantined(&server).await.is_empty()
    })
    .await;
    let component = std::fs::read(fixture::fragile("1.1.0").await).expect("the component was built");
    assert_eq!(server.admin(Method::POST, "/admin/plugins/fragile/deploy", component).await.0, 200);
    assert_eq!(client.ask("do", json!("fine")).await, json!({}));
    assert_eq!((plugin(&server).await["state"].clone(), quarantined(&server).await), (json!("active"), Vec::new()));
    assert_eq!(server.admin(Method::POST, "/admin/plugins/fragile/rollback", Vec::new()).await.0, 409);
}

#[tokio::test]
async fn notices_for_a_disabled_plugin_do_not_block_others() {
    let small = [("BUS__LANES", "1"), ("BUS__LANE_QUEUE", "1"), ("PRESENCE__GRACE", "1ms")];
    let fragile = fixture::fragile("1.0.0").await;
    let builder = Server::dev().single_node().only(&["chat", "threads", "crm", "presence"]).plugin("fragile", &fragile);
    let server = small.iter().fold(builder, |builder, (key, value)| builder.env(&format!("HUBBUB_{key}"), value)).start().await;
    let mut eva = server.connect("/hub", token("eva").name("Eva").role("ATTENDANT")).await;
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = server.connect("/fragile", token(&format!("u{n}"))).await;
        client.ask("here", json!(format!("u{n}"))).await;
        clients.push(client);
    }
    let six = async || server.store().counter("fragile", "notices") == 6;
    wait::eventually("six notices", six).await;
    assert_eq!(server.admin(Method::POST, "/admin/plugins/fragile/disable", Vec::new()).await.0, 200);
    for client in clients {
        client.leave().await;
    }
    wait::eventually("some notices to be dropped", async || {
        server.metrics().await.get("hubbub_bus_notices_dropped_total", &[("plugin", "fragile")]) >= Some(1.0)
    })
    .await;
    let _fay = server.connect("/hub", token("fay").name("Fay").role("ATTENDANT")).await;
    wait::eventually("Eva's list to contain Fay", async || ask_bare(&mut eva, "presence:list").await.to_string().contains("fay"))
        .await;
    assert!(server.log().contains("notices are dropped"));
}

#[tokio::test]
async fn a_quarantine_applies_to_all_nodes_and_ends_on_any() {
    let fragile = fixture::fragile("1.0.0").await;
    let cluster = Cluster::with(2, |node| tight(node, &fragile)).await;
    trap_twice(&cluster.nodes[0]).await;
    for node in &cluster.nodes {
        is_quarantined(node, "messages").await;
        let mut client = node.connect("/fragile", ()).await;
        assert_eq!(client.ask("do", json!("fine")).await, json!({}));
    }
    publish(&cluster.nodes[1], "good", "fine").await;
    enable(&cluster.nodes[1]);
    let mut client = cluster.nodes[0].connect("/fragile", ()).await;
    wait::eventually("the good message", async || counts(&mut client).await["messages"] == 1).await;
    for node in &cluster.nodes {
        wait::eventually("no quarantine", async || quarantined(node).await.is_empty()).await;
    }
}
