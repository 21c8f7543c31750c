//! Topics that are forwarded to Kafka and Redis, read from there. Must never look into the server's own storage for them.

use serde_json::json;
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::{Server, wait};

#[tokio::test]
async fn messages_reach_kafka_in_order_with_key_and_headers() {
    const MANY: usize = 40;
    let kafka = Kafka::with(&[("out.orders", 1)]);
    let server =
        Server::dev().only(&["video", "chat"]).kafka(&kafka).env("HUBBUB_EGRESS__KAFKA", r#"{"order.made" = "out.orders"}"#);
    let mut server = server.start().await;
    let order = async |server: &Server, n: usize| {
        let message = json!({"topic": "order.made", "key": "k", "tenant": "acme", "id": format!("m{n}"), "data": {"n": n}});
        server.publish_message(&message).await;
        server.publish("nobody.wants.this", json!(n)).await;
    };
    for n in 0..MANY {
        order(&server, n).await;
    }
    let records = kafka.read("out.orders", MANY).await;
    for (n, record) in records.iter().enumerate() {
        assert_eq!((record.key.as_deref(), &record.data), (Some("k"), &json!({"n": n})));
        let headers = ["id", "tenant", "topic"].map(|name| record.header(name));
        assert_eq!(headers, [&format!("m{n}"), "acme", "order.made"]);
    }
    let sent = async |server: &Server| server.metrics().await.get("hubbub_egress_messages_total", &[("system", "kafka")]);
    wait::eventually("all messages to be counted", async || sent(&server).await == Some(MANY as f64)).await;
    // Messages that were sent are not sent again, and later ones are.
    server.restart().await;
    order(&server, MANY).await;
    assert_eq!(kafka.read("out.orders", MANY + 1).await[MANY].header("id"), format!("m{MANY}"));
    assert_eq!(sent(&server).await, Some(1.0));
}

#[tokio::test]
async fn messages_wait_for_kafka_across_a_kill_while_plugins_continue() {
    let kafka = Kafka::with(&[("out.views", 1), ("video.view", 1)]);
    let server = Server::dev().only(&["video", "chat"]).kafka(&kafka).env("HUBBUB_INGEST__KAFKA__TOPICS", "[]");
    let mut server = server.env("HUBBUB_EGRESS__KAFKA", r#"{"video.view" = "out.views"}"#).start().await;
    let view = async |server: &Server, n: usize| {
        server.publish_message(&json!({"topic": "video.view", "key": "v1", "data": {"videoId": "v1", "timestamp": n}})).await;
    };
    let counted = async |server: &Server, many: i64| {
        wait::eventually("the views to be counted", async || server.store().counter("video", "views/v1") == many).await;
    };
    view(&server, 0).await;
    assert_eq!(kafka.read("out.views", 1).await[0].data["timestamp"], 0);
    kafka.stop();
    for n in 1..10 {
        view(&server, n).await;
    }
    counted(&server, 10).await;
    wait::eventually("Kafka to be reported as away", async || server.readiness().await.1["egress"]["kafka"] == "away").await;
    server.kill9();
    server.start_again().await;
    view(&server, 10).await;
    counted(&server, 11).await;
    let waiting = async || server.metrics().await.get("hubbub_egress_waiting", &[("system", "kafka")]);
    wait::eventually("waiting messages to be counted", async || waiting().await >= Some(1.0)).await;
    kafka.start_again();
    let records = kafka.read("out.views", 11).await;
    let times: Vec<_> = records.iter().map(|record| record.data["timestamp"].as_u64()).collect();
    assert_eq!(times, (0..11).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_reach_a_redis_stream_and_wait_while_redis_is_down() {
    let mut redis = Redis::start().await;
    let server = Server::dev().only(&["video", "chat"]).env("HUBBUB_EGRESS__REDIS_URL", &redis.url());
    let server = server.env("HUBBUB_EGRESS__REDIS", r#"{"order.made" = "orders"}"#).start().await;
    let order = async |n: usize| {
        server.publish_message(&json!({"topic": "order.made", "key": "k", "id": format!("m{n}"), "data": {"n": n}})).await;
    };
    order(1).await;
    wait::eventually("the first message", async || redis.ask("XLEN orders").await.starts_with(":1")).await;
    let entry = redis.ask("XRANGE orders - +").await;
    for word in ["\r\nid\r\n", "\r\nm1\r\n", "\r\ntopic\r\n", "\r\norder.made\r\n", "\r\nkey\r\n", "\r\n{\"n\":1}\r\n"] {
        assert!(entry.contains(word), "{word:?} in {entry}");
    }
    redis.stop();
    for n in 2..8 {
        order(n).await;
    }
    wait::eventually("Redis to be reported as away", async || server.readiness().await.1["egress"]["redis"] == "away").await;
    redis.start_again().await;
    // Delivery is at least once: an entry that Redis had not confirmed may appear twice, but never before its predecessors.
    wait::eventually("the other messages", async || redis.ask("XRANGE orders - +").await.contains("\r\nm7\r\n")).await;
    let entries = redis.ask("XRANGE orders - +").await;
    let at = |n: usize| entries.find(&format!("\r\nm{n}\r\n")).unwrap_or_else(|| panic!("m{n} in {entries}"));
    assert!((2..7).all(|n| at(n) < at(n + 1)), "{entries}");
}

#[tokio::test]
async fn a_redis_stream_is_trimmed_to_its_limit() {
    let redis = Redis::start().await;
    let server =
        Server::dev().only(&["video", "chat"]).env("HUBBUB_EGRESS__REDIS_URL", &redis.url()).env("HUBBUB_EGRESS__MAXLEN", "100");
    let server = server.env("HUBBUB_EGRESS__REDIS", r#"{"order.made" = "orders"}"#).start().await;
    for _ in 0..4 {
        let batch: Vec<_> = (0..250).map(|n| json!({"topic": "order.made", "data": n})).collect();
        assert_eq!(server.api("/api/publish", &json!(batch)).await.0, 202);
    }
    wait::eventually("all messages to be sent", async || {
        server.metrics().await.get("hubbub_egress_messages_total", &[("system", "redis")]) == Some(1000.0)
    })
    .await;
    let length: usize = redis.ask("XLEN orders").await.lines().next().unwrap()[1..].parse().unwrap();
    assert!((100..=300).contains(&length), "{length}");
}
