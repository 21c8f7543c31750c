//! Messages that cannot be handled: each becomes a dead letter and stops no other message. Must never publish a good message to
//! trigger one, because it must also work on an idle server.

use reqwest::Method;
use serde_json::{Value, json};
use tests::server::Builder;
use tests::{Client, Postgres, Server, fixture, wait};

use crate::helpers::{member, open_chat};

/// A server with only the plugin that fails in the way that its input asks for.
async fn fragile() -> Builder {
    Server::dev().single_node().only(&[]).plugin("fragile", &fixture::fragile("1.0.0").await)
}

/// One fault opens a circuit breaker, and two openings quarantine its source.
fn tight(builder: Builder) -> Builder {
    let keys = [("FAILURES", "1"), ("WAIT", "50ms"), ("QUARANTINE", "2")];
    keys.into_iter().fold(builder, |builder, (key, value)| builder.env(&format!("HUBBUB_BREAKER__{key}"), value))
}

async fn publish(server: &Server, key: &str, what: &str, n: u32) {
    server.publish_message(&json!({"topic": "fragile.do", "key": key, "data": {"do": what, "n": n}})).await;
}

/// The reasons of all dead letters, once there are `many`.
async fn letters(server: &Server, many: usize) -> Vec<String> {
    wait::until(&format!("{many} dead letters"), wait::DEADLINE, async || {
        let (_, answer) = server.admin(Method::GET, "/admin/dead", Vec::new()).await;
        let letters = answer["letters"].as_array()?;
        let reasons: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str().unwrap_or_default().to_owned()).collect();
        (reasons.len() == many).then_some(reasons)
    })
    .await
}

async fn listed(server: &Server) -> Value {
    server.admin(Method::GET, "/admin/plugins", Vec::new()).await.1["plugins"][0].clone()
}

/// The numbers of the handled messages, in order.
async fn order(client: &mut Client) -> Vec<u64> {
    let order = client.ask("order", json!("")).await;
    order.as_array().expect("a list").iter().filter_map(|data| data["n"].as_u64()).collect()
}

async fn deploy(server: &Server, how: &str, version: &str) {
    let component = std::fs::read(fixture::fragile(version).await).expect("the component was built");
    let (status, answer) = server.admin(Method::POST, &format!("/admin/plugins/fragile/deploy{how}"), component).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn invalid_data_is_a_dead_letter_at_once_and_names_the_field() {
    let server = tight(Server::dev().single_node().only(&["chat"])).start().await;
    for n in 0..5 {
        let data = json!({"chat_id": format!("c{n}"), "participants": []});
        server.publish_message(&json!({"topic": "chat.upserted", "key": format!("c{n}"), "data": data})).await;
    }
    assert_eq!(letters(&server, 5).await, ["invalid data: chatId: missing"; 5]);
    let metrics = server.metrics().await;
    let calls = |outcome| metrics.get("hubbub_plugin_calls_total", &[("plugin", "chat"), ("outcome", outcome)]);
    assert_eq!((calls("invalid_data"), calls("failed")), (Some(5.0), Some(0.0)), "each is tried once");
    assert_eq!(metrics.get("hubbub_breaker_openings_total", &[]), None, "invalid data is no failure of the release");
    let ready = server.readiness().await.1;
    assert_eq!((&ready["status"], &ready["quarantined"]), (&json!("ready"), &Value::Null), "{ready}");
    server.connect("/", ()).await;
    open_chat(&server, "good", &["ana"]).await;
    member(&server, "ana", "good").await;
}

#[tokio::test]
async fn a_failing_message_is_a_dead_letter_after_five_attempts() {
    let server = tight(fragile().await).start().await;
    publish(&server, "k", "fail", 1).await;
    assert_eq!(letters(&server, 1).await, ["it failed: it cannot (failed 5 times)"]);
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("hubbub_plugin_calls_total", &[("outcome", "failed")]), Some(5.0));
    assert_eq!(metrics.get("hubbub_breaker_openings_total", &[]), None, "a returned failure opens no breaker");
    let other = tight(fragile().await).env("HUBBUB_BUS__MAX_FAILURES", "2").start().await;
    publish(&other, "k", "fail", 1).await;
    assert_eq!(letters(&other, 1).await, ["it failed: it cannot (failed 2 times)"], "as configured");
}

#[tokio::test]
async fn a_trapping_message_is_a_dead_letter_and_its_topic_continues() {
    let server = tight(fragile().await).start().await;
    publish(&server, "bad", "trap", 1).await;
    let letters = letters(&server, 1).await;
    assert!(letters[0].starts_with("it trapped") && letters[0].ends_with("(failed 5 times)"), "{letters:?}");
    publish(&server, "good", "fine", 2).await;
    let mut client = server.connect("/fragile", ()).await;
    wait::eventually("the next message", async || order(&mut client).await == [2]).await;
    assert_eq!(server.readiness().await.1["status"], "ready");
}

#[tokio::test]
async fn messages_of_a_key_continue_in_order_after_bad_ones() {
    let server = fragile().await.start().await;
    for (n, what) in (1..).zip(["fine", "invalid", "fine", "fail", "fine", "trap", "fine"]) {
        publish(&server, "one", what, n).await;
    }
    let mut client = server.connect("/fragile", ()).await;
    wait::eventually("the last message", async || order(&mut client).await == [1, 3, 5, 7]).await;
    assert_eq!(letters(&server, 3).await.len(), 3);
}

#[tokio::test]
async fn retrying_a_dead_letter_of_invalid_data_makes_it_a_dead_letter_again() {
    let server = tight(fragile().await).start().await;
    publish(&server, "k", "invalid", 1).await;
    for times in [2.0, 3.0] {
        letters(&server, 1).await;
        let (_, answer) = server.admin(Method::POST, "/admin/dead/retry", br#"{"plugin": "fragile"}"#.to_vec()).await;
        assert_eq!(answer["retried"], 1);
        wait::eventually("it to be a dead letter again", async || {
            server.metrics().await.get("hubbub_bus_dead_letters_total", &[]) == Some(times)
        })
        .await;
    }
    assert_eq!(letters(&server, 1).await, ["invalid data: who: missing"]);
    assert_eq!(listed(&server).await["state"], "active");
}

#[tokio::test]
async fn invalid_data_does_not_count_against_a_canary_or_shadow() {
    let server = tight(fragile().await).start().await;
    deploy(&server, "?canary=100", "1.1.0").await;
    for n in 0..20 {
        publish(&server, &n.to_string(), "invalid", n).await;
    }
    letters(&server, 20).await;
    let canary = listed(&server).await["canary"].clone();
    assert_eq!((&canary["version"], &canary["counters"]["failures"]), (&json!("1.1.0"), &json!(0)), "{canary}");

    deploy(&server, "?shadow=100", "1.1.0").await;
    publish(&server, "k", "invalid", 21).await;
    letters(&server, 21).await;
    let seen = wait::until("the shadow to be called", wait::DEADLINE, async || {
        Some(listed(&server).await["shadow"]["counters"].clone()).filter(|seen| seen["calls"].as_u64() >= Some(1))
    })
    .await;
    assert_eq!((&seen["differing"], &seen["traps"]), (&json!(0), &json!(0)), "{seen}");
}

#[tokio::test]
async fn messages_that_a_canary_refuses_are_handled_by_the_active_release() {
    let server = fragile().await.start().await;
    deploy(&server, "?canary=100", "2.0.0").await;
    let good = |n| json!({"topic": "fragile.do", "key": "one", "data": {"do": "fine", "n": n}});
    let (status, answer) = server.api("/api/publish", &(0..20).map(good).collect()).await;
    assert_eq!(status, 202, "{answer}");
    let mut client = server.connect("/fragile", ()).await;
    wait::eventually("all messages", async || order(&mut client).await == (0..20).collect::<Vec<_>>()).await;
    wait::eventually("the canary to be rolled back", async || listed(&server).await["canary"].is_null()).await;
    let (_, dead) = server.admin(Method::GET, "/admin/dead", Vec::new()).await;
    assert_eq!(dead["letters"], json!([]), "a trial loses no message");
}

#[tokio::test]
async fn a_timer_with_an_invalid_payload_is_dropped_and_opens_no_breaker() {
    let server = tight(fragile().await).start().await;
    let mut client = server.connect("/fragile", ()).await;
    client.ask("durable", json!("invalid payload")).await;
    client.ask("soft", json!("invalid payload")).await;
    server.logged("a soft timer was given up: invalid data: who: missing").await;
    wait::eventually("both timers to have failed", async || {
        server.metrics().await.get("hubbub_timers_failed_total", &[]) == Some(2.0)
    })
    .await;
    client.ask("soft", json!("fine")).await;
    wait::eventually("the valid timer", async || client.ask("counts", json!("")).await["timers"] == 1).await;
    assert_eq!(server.metrics().await.get("hubbub_breaker_openings_total", &[]), None);
}

#[tokio::test]
async fn a_message_waits_while_storage_is_unavailable() {
    let mut database = Postgres::start().await;
    let keys =
        [("BREAKER__FAILURES", "1"), ("BREAKER__WAIT", "5s"), ("BUS__MAX_FAILURES", "1"), ("STORAGE__OUTAGE_WAIT", "200ms")];
    let builder = fragile().await.database(&database.empty().await);
    let server = keys.iter().fold(builder, |builder, (key, value)| builder.env(&format!("HUBBUB_{key}"), value)).start().await;
    publish(&server, "bad", "trap", 1).await;
    // The next message waits while the circuit breaker is open, and storage fails meanwhile.
    server.logged("a circuit breaker is open").await;
    publish(&server, "good", "read", 2).await;
    let waiting = async || server.metrics().await.get("hubbub_bus_messages_queued", &[]) == Some(1.0);
    wait::eventually("the message to wait", waiting).await;
    let killed = database.kill9();
    wait::eventually("more attempts than a message may fail", async || {
        server.log().matches("unavailable: storage does not answer").count() > 1
    })
    .await;
    database.start_again(killed).await;
    let mut client = server.connect("/fragile", ()).await;
    wait::eventually("the message to be handled", async || order(&mut client).await == [2]).await;
    let answer = letters(&server, 1).await;
    assert!(answer[0].starts_with("it trapped"), "only the bad message: {answer:?}");
}
