//! Timers that plugins start, and schedules that the host runs. Must never sleep: each timer emits an event.

use serde_json::{Value, json};
use tests::{Client, Server, fixture, wait};

/// Longer than any test.
const FAR: u64 = 3_600_000;

async fn server() -> Server {
    Server::dev().plugin("timed", &fixture::timed().await).start().await
}

async fn ask(client: &mut Client, args: Value) -> Value {
    let id = client.emit_for_ack(&args).await;
    client.acked(id).await
}

/// How often a timer has taken effect.
async fn run_count(client: &mut Client, key: &str) -> u64 {
    ask(client, json!(["said", key])).await.as_u64().expect("a count")
}

#[tokio::test]
async fn a_timer_started_again_keeps_its_time_and_gets_the_new_payload() {
    let server = server().await;
    let mut client = server.connect("/timed", ()).await;
    for kind in ["soft", "durable"] {
        assert_eq!(ask(&mut client, json!([kind, kind, 100, "first"])).await, json!({}));
        assert_eq!(ask(&mut client, json!([kind, kind, FAR, "last"])).await, json!({}));
        assert_eq!(client.next(kind).await, "last");
        assert_eq!(run_count(&mut client, kind).await, 1);
        // The timer has run: the same key starts a new one.
        assert_eq!(ask(&mut client, json!([kind, kind, 0, "again"])).await, json!({}));
        assert_eq!(client.next(kind).await, "again");
    }
}

#[tokio::test]
async fn a_cancelled_timer_is_not_run() {
    let server = server().await;
    let mut client = server.connect("/timed", ()).await;
    for kind in ["soft", "durable"] {
        ask(&mut client, json!([kind, "gone", 300, "never"])).await;
        assert_eq!(ask(&mut client, json!(["cancel", "gone"])).await, json!({}));
        ask(&mut client, json!([kind, "after", 400, "now"])).await;
        assert_eq!(client.next("after").await, "now");
        client.expect_none("gone").await;
    }
}

#[tokio::test]
async fn a_durable_timer_survives_a_kill_and_takes_effect_once() {
    let mut server = server().await;
    let mut client = server.connect("/timed", ()).await;
    for n in 0..20 {
        ask(&mut client, json!(["durable", format!("d{n}"), 50 * n, "late"])).await;
    }
    ask(&mut client, json!(["soft", "lost", FAR, "never"])).await;
    server.kill9();
    server.start_again().await;
    let mut client = server.connect("/timed", ()).await;
    for n in 0..20 {
        let key = format!("d{n}");
        wait::eventually(&format!("{key} to run"), async || run_count(&mut client, &key).await > 0).await;
        assert_eq!(run_count(&mut client, &key).await, 1);
    }
    assert_eq!(run_count(&mut client, "lost").await, 0);
}

#[tokio::test]
async fn a_soft_timer_is_run_early_at_a_planned_stop() {
    let mut server = server().await;
    let mut client = server.connect("/timed", ()).await;
    ask(&mut client, json!(["soft", "early", FAR, "now"])).await;
    server.restart().await;
    let mut client = server.connect("/timed", ()).await;
    assert_eq!(run_count(&mut client, "early").await, 1);
}

#[tokio::test]
async fn a_failing_timer_is_retried_and_a_soft_one_dropped() {
    let server = server().await;
    let mut client = server.connect("/timed", ()).await;
    ask(&mut client, json!(["soft", "bad", 0, "fail"])).await;
    server.logged("a soft timer was given up").await;
    assert_eq!(server.metrics().await.get("hubbub_timers_failed_total", &[]), Some(5.0));
    assert_eq!(run_count(&mut client, "bad").await, 0);
}

#[tokio::test]
async fn a_schedule_runs_repeatedly() {
    let server = server().await;
    let mut client = server.connect("/timed", ()).await;
    for _ in 0..3 {
        assert_eq!(client.next("tick").await, Value::Null);
    }
}

#[tokio::test]
async fn timers_over_a_plugins_limit_are_refused() {
    let server = Server::dev().plugin("timed", &fixture::timed().await).env("HUBBUB_TIMERS__PER_PLUGIN", "2").start().await;
    let mut client = server.connect("/timed", ()).await;
    for key in ["a", "b", "a"] {
        assert_eq!(ask(&mut client, json!(["soft", key, FAR, "late"])).await, json!({}));
    }
    let refused = ask(&mut client, json!(["soft", "c", FAR, "late"])).await;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("2 timers wait already"), "{refused}");
}
