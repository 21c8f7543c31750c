//! Traces, as a collector sees them. Must never find a payload, a token or a user in one.

use serde_json::json;
use tests::collector::{Collector, Span};
use tests::server::{API_KEY, Builder};
use tests::{Client, Server, Token, fixture, token, wait};

use crate::scene::publish_keyed;

fn traced(collector: &Collector, sample: &str) -> Builder {
    let server = Server::dev().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
    server.env("HUBBUB_TRACES__SAMPLE", sample).env("HUBBUB_TRACES__EVERY", "100ms")
}

fn ana() -> Token {
    token("ana").claim("companyId", "acme").claim("email", "ana@acme.example")
}

/// A user in a conversation whose messages the chat publishes, and the analytics counts.
async fn in_conversation(server: &Server) -> Client {
    let upserted = json!({"companyId": "acme", "conversationId": "c1", "title": "A lead"});
    publish_keyed(server, "acme/c1", "conversation.upserted", upserted).await;
    let mut client = server.connect("/conversations", ana()).await;
    let join = async || client.ask("join:conversation", json!("c1")).await == json!({});
    wait::eventually("the conversation to be known", join).await;
    client
}

async fn send(client: &mut Client) {
    let sent = client.ask("message:send", json!({"conversationId": "c1", "content": "a private word"})).await;
    assert!(sent["id"].is_string(), "{sent}");
}

#[tokio::test]
async fn one_trace_tells_of_an_event_from_its_socket_to_its_commit_and_over_the_bus() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").start().await;
    send(&mut in_conversation(&server).await).await;

    let event = collector.span("socket event", |span| span.get("event") == "message:send").await;
    assert_eq!((event.service.as_str(), event.parent.as_str()), ("hubbub", ""));
    let told = ["namespace", "plugin", "outcome"].map(|key| event.get(key));
    assert_eq!(told, ["/conversations", "chat", "ok"], "{event:?}");
    let below = |parent: Span| move |span: &Span| span.parent == parent.id && span.trace == parent.trace;
    let call = collector.span("call chat@", below(event.clone())).await;
    assert_eq!(call.name, format!("call chat@{}", event.get("version")));
    assert_eq!(call.get("rerun"), "0");
    assert!(call.get("cpu_us").parse::<u64>().is_ok(), "{call:?}");
    let commit = collector.span("commit", below(call.clone())).await;
    assert_eq!((commit.get("outcome"), commit.get("messages")), ("ok", "1"));
    assert!(commit.get("group_wait_us").parse::<u64>().is_ok(), "{commit:?}");
    assert_eq!(collector.span("effects", below(commit)).await.get("emits"), "2");

    let message = collector.span("bus message", below(call)).await;
    assert_eq!((message.get("topic"), message.get("plugin"), message.get("outcome")), ("message.sent", "analytics", "ok"));
    collector.span("call analytics@", below(message)).await;
    let said = format!("{:?}", collector.spans());
    for private in ["a private word", "acme", "ana@", "\"ana\"", "eyJ"] {
        assert!(!said.contains(private), "{private} in {said}");
    }
}

#[tokio::test]
async fn a_backends_trace_goes_on_in_the_plugin_and_its_decision_holds() {
    let collector = Collector::start().await;
    let server = traced(&collector, "0").start().await;
    let publish = async |trace: &str, flags: &str| {
        let message = json!({"topic": "conversation.upserted", "data": {"companyId": "acme", "conversationId": "c1"}});
        let request = server.http().post(server.url("/api/publish")).bearer_auth(API_KEY).json(&message);
        let parent = format!("00-{trace}-b7ad6b7169203331-{flags}");
        let answer = request.header("traceparent", parent).send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
    };
    let (silent, told) = ("1".repeat(32), "2".repeat(32));
    publish(&silent, "00").await;
    publish(&told, "01").await;
    let published = collector.span("publish", |span| span.trace == told).await;
    assert_eq!(published.parent, "b7ad6b7169203331");
    let chat = |span: &Span| span.parent == published.id && span.get("plugin") == "chat";
    collector.span("bus message", chat).await;
    // Spans go in the order they end: what was published before would be here by now.
    assert!(collector.spans().iter().all(|span| span.trace == told), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_sample_of_none_exports_nothing() {
    let collector = Collector::start().await;
    let mut server = traced(&collector, "0").start().await;
    let mut client = in_conversation(&server).await;
    for _ in 0..20 {
        send(&mut client).await;
    }
    // A stop sends what is left.
    server.terminate().await;
    assert_eq!(collector.spans(), []);
}

#[tokio::test]
async fn a_stop_sends_the_last_spans() {
    let collector = Collector::start().await;
    let mut server = traced(&collector, "1").env("HUBBUB_TRACES__EVERY", "1h").start().await;
    send(&mut in_conversation(&server).await).await;
    assert_eq!(collector.spans(), [], "the batch is not full, and its time has not come");
    server.terminate().await;
    assert!(collector.spans().iter().any(|span| span.get("event") == "message:send"), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_collector_that_never_answers_costs_no_ack_and_what_it_misses_is_counted() {
    // The kernel accepts; nobody ever reads.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", hole.local_addr().expect("a bound port"));
    let server = Server::dev().env("HUBBUB_TRACES__ENDPOINT", &endpoint).env("HUBBUB_TRACES__SAMPLE", "1");
    let server = server.env("HUBBUB_TRACES__QUEUE", "8").env("HUBBUB_TRACES__BATCH", "4").env("HUBBUB_TRACES__TIMEOUT", "1h");
    let mut server = server.start().await;
    let mut client = in_conversation(&server).await;
    for _ in 0..50 {
        send(&mut client).await;
    }
    let dropped = server.metrics().await.get("hubbub_trace_spans_dropped_total", &[("reason", "queue_full")]);
    // Four spans an event, of which twelve have a place.
    assert!(dropped.is_some_and(|dropped| dropped >= 50.0), "{dropped:?}");
    assert_eq!(server.terminate().await, Some(0), "nor does it hold up a stop");
}

#[tokio::test]
async fn a_collector_that_is_down_is_said_once_and_its_spans_are_counted() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").env("HUBBUB_TRACES__TIMEOUT", "200ms").start().await;
    drop(collector);
    let mut client = in_conversation(&server).await;
    wait::eventually("two batches to be given up", async || {
        send(&mut client).await;
        let lost = server.metrics().await.get("hubbub_trace_spans_dropped_total", &[("reason", "not_taken")]);
        lost.is_some_and(|lost| lost > 20.0)
    })
    .await;
    assert_eq!(server.log().matches("does not take traces").count(), 1, "{}", server.log());
}

#[tokio::test]
async fn a_log_line_of_a_sampled_call_carries_its_trace_and_its_release() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").env("HUBBUB_LOG__FORMAT", "json").plugin("hostile", &fixture::hostile().await);
    let server = server.start().await;
    let mut client = server.connect("/hostile", ()).await;
    client.refused("trap", json!(null)).await;
    let event = collector.span("socket event", |span| span.get("plugin") == "hostile").await;
    assert_eq!(event.get("outcome"), "fault", "{event:?}");
    let line = server.log().lines().find(|line| line.contains("a call took no effect")).map(str::to_owned);
    let line: serde_json::Value = serde_json::from_str(&line.expect("the fault is logged")).expect("JSON");
    assert_eq!(line["trace_id"], event.trace, "{line}");
    assert_eq!(line["release"], format!("hostile@{}", event.get("version")), "{line}");
}

#[tokio::test]
async fn a_setting_that_cannot_be_refuses_the_start_by_its_name() {
    let said = Server::dev().env("HUBBUB_TRACES__ENDPOINT", "localhost:4318").refuses().await;
    assert!(said.contains("traces.endpoint"), "{said}");
}
