//! Traces as a collector receives them. A trace must never contain a payload, a token or a user.

use reqwest::Method;
use serde_json::json;
use tests::collector::{Collector, Span};
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::server::{API_KEY, Builder};
use tests::{Client, Server, Token, fixture, token, wait};

use crate::helpers::publish_keyed;

fn traced(collector: &Collector, sample: &str) -> Builder {
    let server = Server::dev().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
    server.env("HUBBUB_TRACES__SAMPLE", sample).env("HUBBUB_TRACES__EVERY", "100ms")
}

fn ana() -> Token {
    token("ana").claim("companyId", "acme").claim("email", "ana@acme.example")
}

/// Connects a user to a conversation. The CRM publishes its messages, and the analytics count them.
async fn in_conversation(server: &Server) -> Client {
    let upserted = json!({"companyId": "acme", "conversationId": "c1", "title": "A lead"});
    publish_keyed(server, "acme/c1", "conversation.upserted", upserted).await;
    let mut client = server.connect("/conversations", ana()).await;
    let join = async || client.ask("join:conversation", json!("c1")).await == json!({});
    wait::eventually("the conversation to exist", join).await;
    client
}

/// Whether a span is a direct child of another.
fn below(parent: &Span) -> impl Fn(&Span) -> bool + use<> {
    let (trace, id) = (parent.trace.clone(), parent.id.clone());
    move |span| span.parent == id && span.trace == trace
}

/// Asserts that no span contains any of these texts.
fn none_contains(collector: &Collector, private: &[&str]) {
    let exported = format!("{:?}", collector.spans());
    for private in private {
        assert!(!exported.contains(private), "{private} in {exported}");
    }
}

/// A `traceparent` with a trace id of one repeated digit.
fn parent(digit: &str, flags: &str) -> String {
    format!("00-{}-b7ad6b7169203331-{flags}", digit.repeat(32))
}

async fn send(client: &mut Client) {
    let sent = client.ask("message:send", json!({"conversationId": "c1", "content": "a private word"})).await;
    assert!(sent["id"].is_string(), "{sent}");
}

#[tokio::test]
async fn a_trace_covers_an_event_from_socket_to_commit_and_bus() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").start().await;
    send(&mut in_conversation(&server).await).await;

    let event = collector.span("socket event", |span| span.get("event") == "message:send").await;
    assert_eq!((event.service.as_str(), event.parent.as_str()), ("hubbub", ""));
    let attributes = ["namespace", "plugin", "outcome"].map(|key| event.get(key));
    assert_eq!(attributes, ["/conversations", "crm", "ok"], "{event:?}");
    let call = collector.span("call crm@", below(&event)).await;
    assert_eq!(call.name, format!("call crm@{}", event.get("version")));
    assert_eq!(call.get("rerun"), "0");
    assert!(call.get("cpu_us").parse::<u64>().is_ok(), "{call:?}");
    let commit = collector.span("commit", below(&call)).await;
    assert_eq!((commit.get("outcome"), commit.get("messages")), ("ok", "1"));
    assert!(commit.get("group_wait_us").parse::<u64>().is_ok(), "{commit:?}");
    assert_eq!(collector.span("effects", below(&commit)).await.get("emits"), "2");

    let message = collector.span("bus message", below(&call)).await;
    assert_eq!((message.get("topic"), message.get("plugin"), message.get("outcome")), ("message.sent", "analytics", "ok"));
    collector.span("call analytics@", below(&message)).await;
    none_contains(&collector, &["a private word", "acme", "ana@", "\"ana\"", "eyJ"]);
}

#[tokio::test]
async fn traces_cover_connects_with_plugin_hooks_and_disconnects_with_reasons() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").plugin("hostile", &fixture::hostile().await).start().await;
    let connect_to = async |namespace: &str| {
        let connect = collector.span("connect", |span| span.get("namespace") == namespace).await;
        assert_eq!((connect.parent.as_str(), connect.get("outcome"), connect.get("reason")), ("", "ok", ""));
        collector.span("door", below(&connect)).await;
        connect
    };
    server.connect("/conversations", ana()).await;
    let connect = connect_to("/conversations").await;
    for plugin in ["crm", "presence"] {
        let is_part = below(&connect);
        let hook = collector.span("on-connect", |span| is_part(span) && span.get("plugin") == plugin).await;
        assert_eq!(hook.get("outcome"), "ok", "{hook:?}");
        let call = collector.span(&format!("call {plugin}@"), below(&hook)).await;
        assert_eq!(call.name, format!("call {plugin}@{}", hook.get("version")));
    }
    server.connect("/hostile", ana()).await.leave().await;
    let connect = connect_to("/hostile").await;
    let authorize = collector.span("authorize", below(&connect)).await;
    collector.span("call hostile@", below(&authorize)).await;
    let disconnect = collector.span("disconnect", |span| span.get("namespace") == "/hostile").await;
    assert_eq!((disconnect.parent.as_str(), disconnect.get("reason")), ("", "client"));
    assert_ne!(disconnect.trace, connect.trace);
    let hook = collector.span("on-disconnect", below(&disconnect)).await;
    assert_eq!((hook.get("plugin"), hook.get("outcome")), ("hostile", "ok"));
    collector.span("call hostile@", below(&hook)).await;
    none_contains(&collector, &["acme", "ana@", "\"ana\"", "eyJ"]);
}

#[tokio::test]
async fn a_refused_connects_trace_contains_only_the_reason() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").plugin("hostile", &fixture::hostile().await).start().await;
    let refused = async |namespace: &str, reason: &str| {
        let is_it = |span: &Span| span.get("namespace") == namespace && span.get("reason") == reason;
        let connect = collector.span("connect", is_it).await;
        assert_eq!(connect.get("outcome"), "refused", "{connect:?}");
        connect
    };
    server.connect_refused("/chat", ()).await;
    refused("/chat", "no_token").await;
    server.connect_refused("/chat", "eyJnonsense").await;
    refused("/chat", "malformed").await;
    for (fault, reason, outcome) in [("authorize-refuse", "authorize", "refused"), ("authorize-trap", "unavailable", "fault")] {
        server.connect_refused("/hostile", ana().claim("evil", fault)).await;
        let asked = collector.span("authorize", below(&refused("/hostile", reason).await)).await;
        assert_eq!((asked.get("plugin"), asked.get("outcome")), ("hostile", outcome));
        let counted = server.metrics().await.get("hubbub_socket_connects_refused_total", &[("reason", reason)]);
        assert_eq!(counted, Some(1.0), "{reason}");
    }
    none_contains(&collector, &["acme", "ana@", "\"ana\"", "eyJ", "Not you"]);
}

#[tokio::test]
async fn a_retried_on_connect_is_traced_as_part_of_the_next_event() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").plugin("hostile", &fixture::hostile().await).start().await;
    let mut client = server.connect("/hostile", ana().claim("evil", "connect-trap")).await;
    let connect = collector.span("connect", |span| span.get("namespace") == "/hostile").await;
    assert_eq!(connect.get("outcome"), "ok", "a plugin's fault refuses no connect");
    let failed = collector.span("on-connect", below(&connect)).await;
    assert_eq!((failed.get("plugin"), failed.get("outcome")), ("hostile", "fault"));
    client.ask("fine", json!(null)).await;
    let event = collector.span("socket event", |span| span.get("event") == "fine").await;
    collector.span("on-connect", below(&event)).await;
}

#[tokio::test]
async fn a_timers_trace_is_linked_to_the_event_that_set_it() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").plugin("timed", &fixture::timed().await).start().await;
    let mut client = server.connect("/timed", ()).await;
    for kind in ["soft", "durable"] {
        let ask = client.emit_for_ack(&json!([kind, "of-a-user", 0, "a private word"])).await;
        client.acked(ask).await;
        client.next("of-a-user").await;
        let event = collector.span("socket event", |span| span.get("event") == kind).await;
        let set = collector.span("call timed@", below(&event)).await;
        let timer = collector.span("timer", |span| span.get("kind") == kind).await;
        assert_eq!((timer.parent.as_str(), &timer.links), ("", &vec![set.id]));
        assert_ne!(timer.trace, event.trace);
        let attributes = ["plugin", "outcome", "failures"].map(|key| timer.get(key));
        assert_eq!(attributes, ["timed", "ok", "0"], "{timer:?}");
        assert!(timer.get("late_ms").parse::<u64>().is_ok(), "{timer:?}");
        collector.span("call timed@", below(&timer)).await;
    }
    let ask = client.emit_for_ack(&json!(["soft", "first", 0, "again"])).await;
    client.acked(ask).await;
    client.next("next").await;
    // Such a trace would never end, so a timer that a timer sets is sampled on its own.
    collector.span("timer", |span| span.links.is_empty()).await;
    let schedule = collector.span("schedule", |span| span.get("schedule") == "tick").await;
    assert_eq!((schedule.parent.as_str(), schedule.get("outcome")), ("", "ok"));
    none_contains(&collector, &["of-a-user", "a private word"]);
}

/// Publishes like a backend that sends traces.
async fn publish(server: &Server, message: &serde_json::Value, traceparent: &str) {
    let request = server.http().post(server.url("/api/publish")).bearer_auth(API_KEY).json(message);
    let answer = request.header("traceparent", traceparent).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
}

#[tokio::test]
async fn a_retried_dead_letter_continues_its_trace() {
    let [failing, good] = [fixture::versioned("2.2.0").await, fixture::versioned("1.0.0").await];
    let collector = Collector::start().await;
    let server = traced(&collector, "0").only(&["video", "chat"]).plugin("versioned", &failing).start().await;
    let view = |id: &str, key: &str| json!({"topic": "video.view", "key": key, "id": id, "data": {"videoId": key}});
    publish(&server, &view("m1", "bad"), &parent("2", "01")).await;
    let letters = async || server.admin(Method::GET, "/admin/dead?plugin=versioned", Vec::new()).await.1["letters"].clone();
    wait::eventually("the dead letter", async || letters().await.as_array().is_some_and(|letters| !letters.is_empty())).await;
    let component = std::fs::read(good).expect("the component was built");
    assert_eq!(server.admin(Method::POST, "/admin/plugins/versioned/deploy", component).await.0, 200);
    let all = br#"{"plugin": "versioned"}"#.to_vec();
    assert_eq!(server.admin(Method::POST, "/admin/dead/retry", all).await.1["retried"], 1);
    let published = collector.span("publish", |_| true).await;
    let is_part = below(&published);
    let handled = |span: &Span| is_part(span) && span.get("plugin") == "versioned" && span.get("outcome") == "ok";
    let handled = collector.span("bus message", handled).await;
    assert_eq!((handled.trace.clone(), handled.get("version"), handled.get("topic")), ("2".repeat(32), "1.0.0", "video.view"));
}

#[tokio::test]
async fn a_trace_from_kafka_continues_through_plugins_to_redis() {
    let (collector, kafka, redis) = (Collector::start().await, Kafka::with(&[("video.view", 1)]), Redis::start().await);
    let server = traced(&collector, "0").only(&["video", "chat"]).kafka(&kafka);
    let server = server.env("HUBBUB_EGRESS__REDIS_URL", &redis.url());
    let _server = server.env("HUBBUB_EGRESS__REDIS", r#"{"video.view" = "views"}"#).start().await;
    let view = json!({"videoId": "v1", "timestamp": 1}).to_string();
    for traceparent in ["nonsense", &parent("1", "00"), &parent("2", "01")] {
        kafka.send("video.view", "v1", &view, &[("traceparent", traceparent)]).await;
    }
    let published = collector.span("publish", |_| true).await;
    let attributes = ["source", "topic", "outcome"].map(|key| published.get(key));
    assert_eq!((attributes, published.parent.as_str()), (["kafka", "video.view", "ok"], "b7ad6b7169203331"));
    let is_part = below(&published);
    collector.span("bus message", |span| is_part(span) && span.get("plugin") == "video").await;
    wait::eventually("all three entries", async || redis.ask("XLEN views").await.starts_with(":3")).await;
    let entries = redis.ask("XRANGE views - +").await;
    let traced = format!("\r\ntraceparent\r\n$55\r\n00-{}-{}-01\r\n", "2".repeat(32), published.id);
    assert!(entries.contains(&traced) && entries.matches("traceparent").count() == 1, "{entries}");
    assert!(collector.spans().iter().all(|span| span.trace == published.trace), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_trace_from_redis_continues_to_kafka() {
    let (collector, kafka, redis) = (Collector::start().await, Kafka::with(&[("out.orders", 1)]), Redis::start().await);
    let server = traced(&collector, "0").only(&["video", "chat"]).kafka(&kafka).env("HUBBUB_INGEST__REDIS_URL", &redis.url());
    let server = server.env("HUBBUB_INGEST__STREAMS__STREAMS", r#"{"orders" = "order.made"}"#);
    let server = server.env("HUBBUB_INGEST__PUBSUB__CHANNELS", r#"["backend"]"#);
    let _server = server.env("HUBBUB_EGRESS__KAFKA", r#"{"order.made" = "out.orders"}"#).start().await;
    let add = format!("XADD orders * id s data 1 traceparent {}", parent("2", "01"));
    assert!(redis.ask(&add).await.starts_with('$'));
    wait::eventually("a node to subscribe", async || redis.ask("PUBLISH backend nonsense").await.starts_with(":1")).await;
    for (id, traceparent) in [("p", json!(parent("3", "01"))), ("bad", json!(7))] {
        let message = json!({"topic": "order.made", "id": id, "data": 1, "traceparent": traceparent});
        redis.publish("backend", message.to_string().as_bytes()).await;
    }
    let records = kafka.read("out.orders", 3).await;
    for (id, source, digit) in [("s", "streams", "2"), ("p", "pubsub", "3")] {
        let record = records.iter().find(|record| record.header("id") == id).expect("a record");
        let published = collector.span("publish", |span| span.get("source") == source && span.trace == digit.repeat(32)).await;
        assert_eq!(record.header("traceparent"), format!("00-{}-{}-01", digit.repeat(32), published.id));
    }
    let bad = records.iter().find(|record| record.header("id") == "bad").expect("a record");
    assert_eq!(bad.header("traceparent"), "");
}

#[tokio::test]
async fn a_backends_trace_continues_with_its_sampling_decision() {
    let collector = Collector::start().await;
    let server = traced(&collector, "0").start().await;
    let message = json!({"topic": "conversation.upserted", "data": {"companyId": "acme", "conversationId": "c1"}});
    publish(&server, &message, &parent("1", "00")).await;
    publish(&server, &message, &parent("2", "01")).await;
    let sampled = "2".repeat(32);
    let published = collector.span("publish", |span| span.trace == sampled).await;
    assert_eq!(published.parent, "b7ad6b7169203331");
    let is_part = below(&published);
    collector.span("bus message", |span| is_part(span) && span.get("plugin") == "crm").await;
    // Spans are exported in the order in which they end, so earlier ones would have arrived by now.
    assert!(collector.spans().iter().all(|span| span.trace == sampled), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_sample_rate_of_zero_exports_nothing() {
    let collector = Collector::start().await;
    let mut server = traced(&collector, "0").start().await;
    let mut client = in_conversation(&server).await;
    for _ in 0..20 {
        send(&mut client).await;
    }
    // A stop exports the remaining spans.
    server.terminate().await;
    assert_eq!(collector.spans(), []);
}

#[tokio::test]
async fn a_stop_exports_the_last_spans() {
    let collector = Collector::start().await;
    let mut server = traced(&collector, "1").env("HUBBUB_TRACES__EVERY", "1h").start().await;
    send(&mut in_conversation(&server).await).await;
    assert_eq!(collector.spans(), [], "the batch is neither full nor due");
    server.terminate().await;
    assert!(collector.spans().iter().any(|span| span.get("event") == "message:send"), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_hanging_collector_delays_nothing_and_dropped_spans_are_counted() {
    // The kernel accepts connections that no program reads.
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
    // Four spans per event, of which the queue and the batch hold twelve.
    assert!(dropped.is_some_and(|dropped| dropped >= 50.0), "{dropped:?}");
    assert_eq!(server.terminate().await, Some(0), "the stop is not delayed either");
}

#[tokio::test]
async fn a_collector_that_is_down_is_logged_once_and_lost_spans_counted() {
    let collector = Collector::start().await;
    let server = traced(&collector, "1").env("HUBBUB_TRACES__TIMEOUT", "200ms").start().await;
    drop(collector);
    let mut client = in_conversation(&server).await;
    wait::eventually("two batches to be dropped", async || {
        send(&mut client).await;
        let lost = server.metrics().await.get("hubbub_trace_spans_dropped_total", &[("reason", "not_taken")]);
        lost.is_some_and(|lost| lost > 20.0)
    })
    .await;
    assert_eq!(server.log().matches("does not accept traces").count(), 1, "{}", server.log());
}

#[tokio::test]
async fn a_log_line_of_a_sampled_call_contains_its_trace_and_release() {
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
async fn an_invalid_trace_setting_fails_the_start_by_name() {
    let exported = Server::dev().env("HUBBUB_TRACES__ENDPOINT", "localhost:4318").start_failure().await;
    assert!(exported.contains("traces.endpoint"), "{exported}");
}
