//! Events that other systems send through Kafka, Redis Streams and Redis pub/sub. Must never publish through the API what a
//! source should deliver.

use serde_json::{Value, json};
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::server::Builder;
use tests::{Client, Server, fixture, wait};

use crate::helpers::user;
use crate::ingest_backpressure::FOREVER;

/// The topics of a video product in Kafka.
const TOPICS: [(&str, i32); 4] = [("video.view", 3), ("video.like", 3), ("video.comment", 3), ("nobody.listens", 1)];

fn server(kafka: &Kafka) -> Builder {
    Server::dev().only(&["video", "chat", "threads", "crm", "conversations", "notifications", "lessons", "presence"]).kafka(kafka)
}

async fn watch(server: &Server, video: &str) -> Client {
    let mut client = server.connect("/", ()).await;
    assert_eq!(client.ask("video:join", json!({"videoId": video})).await, json!({}));
    client
}

pub(crate) async fn view(kafka: &Kafka, video: &str, n: usize) {
    kafka.send("video.view", video, &json!({"videoId": video, "timestamp": n}).to_string(), &[]).await;
}

fn views(server: &Server, video: &str) -> i64 {
    server.store().counter("video", &format!("views/{video}"))
}

pub(crate) async fn views_are(server: &Server, video: &str, many: i64) {
    wait::eventually(&format!("{many} views of {video}"), async || views(server, video) >= many).await;
    assert_eq!(views(server, video), many);
}

pub(crate) async fn metric(server: &Server, name: &str, labels: &[(&str, &str)]) -> f64 {
    server.metrics().await.get(name, labels).unwrap_or(0.0)
}

#[tokio::test]
async fn kafka_records_are_handled_and_duplicates_count_once() {
    let kafka = Kafka::with(&TOPICS);
    let server = server(&kafka).start().await;
    let mut viewer = watch(&server, "v1").await;
    view(&kafka, "v1", 7).await;
    assert_eq!(viewer.next("video:view").await, json!({"videoId": "v1", "timestamp": 7}));
    for _ in 0..3 {
        kafka.send("video.like", "v1", r#"{"videoId":"v1","timestamp":1}"#, &[("id", "one-like")]).await;
    }
    kafka.send("video.like", "v1", r#"{"videoId":"v1","timestamp":2}"#, &[]).await;
    for timestamp in [1, 2] {
        assert_eq!(viewer.next("video:like").await["timestamp"], timestamp);
    }
    assert_eq!(server.store().counter("video", "likes/v1"), 2);
    // A record without a time in its data gets Kafka's timestamp.
    kafka.send("video.comment", "v1", r#"{"videoId":"v1","commentId":"c"}"#, &[]).await;
    assert!(viewer.next("video:comment").await["timestamp"].as_u64() > Some(1_600_000_000_000));
    assert_eq!(metric(&server, "hubbub_ingest_messages_total", &[("source", "kafka"), ("topic", "video.like")]).await, 4.0);
    assert_eq!(server.readiness().await.1["ingest"], json!({"kafka": "up"}));
}

#[tokio::test]
async fn kafka_records_of_a_key_keep_their_order_past_invalid_ones() {
    const MANY: usize = 120;
    let kafka = Kafka::with(&TOPICS);
    let server = server(&kafka).start().await;
    let mut viewer = watch(&server, "v1").await;
    for n in 0..MANY {
        let comment = json!({"videoId": "v1", "commentId": format!("c{n}"), "timestamp": n});
        kafka.send("video.comment", "v1", &comment.to_string(), &[]).await;
        if n == MANY / 2 {
            kafka.send("video.comment", "v1", "no JSON at all", &[]).await;
            kafka.send("video.comment", "v1", "{}", &[("tenant", "two\nlines")]).await;
        }
    }
    for n in 0..MANY {
        assert_eq!(viewer.next("video:comment").await["timestamp"], n);
    }
    for reason in ["not_json", "bad_name"] {
        let rejected = [("source", "kafka"), ("reason", reason)];
        assert_eq!(metric(&server, "hubbub_ingest_rejected_total", &rejected).await, 1.0);
    }
    let (_, dead) = server.admin(reqwest::Method::GET, "/admin/dead?plugin=ingest-kafka&payload=true", Vec::new()).await;
    assert_eq!(dead["letters"][0]["data"], "no JSON at all", "{dead}");
    assert!(dead["letters"][0]["message"].as_str().unwrap().starts_with("kafka:video.comment:"), "{dead}");
}

#[tokio::test]
async fn records_count_once_after_a_kill_before_the_commit() {
    const MANY: usize = 50;
    let kafka = Kafka::with(&[("video.view", 3), ("conversation.created", 1), ("message.created", 1)]);
    // No offset is committed while it runs, so a restarted server reads from the beginning.
    let never = [("auto.commit.interval.ms", "86400000")];
    let mut server = server(&kafka).kafka_with(&kafka, &never).start().await;
    let conversation = json!({"id": "c1", "members": ["ana", "bia"]});
    kafka.send("conversation.created", "c1", &conversation.to_string(), &[]).await;
    let message = async |n: usize| {
        let data = json!({"id": format!("m{n}"), "conversation_id": "c1", "user_id": "ana", "content": "hi"});
        kafka.send("message.created", "c1", &data.to_string(), &[]).await;
    };
    let mut bia = server.connect("/", user("bia")).await;
    bia.next("conversation_created").await;
    for n in 0..MANY {
        view(&kafka, "v1", n).await;
    }
    message(1).await;
    message(2).await;
    while bia.next("unread_count").await["unread_count"] != 2 {}
    views_are(&server, "v1", MANY as i64).await;

    server.kill9();
    view(&kafka, "v1", MANY).await;
    server.start_again().await;
    views_are(&server, "v1", MANY as i64 + 1).await;
    // All records are delivered again, and this one is the last.
    let again = [("source", "kafka"), ("topic", "video.view")];
    wait::eventually("all records to be delivered again", async || {
        metric(&server, "hubbub_ingest_messages_total", &again).await == MANY as f64 + 1.0
    })
    .await;
    let mut bia = server.connect("/", user("bia")).await;
    message(3).await;
    assert_eq!(bia.next("unread_count").await["unread_count"], 3);
    assert_eq!(views(&server, "v1"), MANY as i64 + 1);
}

#[tokio::test]
async fn accepted_records_are_committed_at_a_stop_and_not_read_again() {
    let kafka = Kafka::with(&TOPICS);
    let mut server = server(&kafka).start().await;
    view(&kafka, "v1", 1).await;
    views_are(&server, "v1", 1).await;
    server.terminate().await;
    view(&kafka, "v1", 2).await;
    server.start_again().await;
    views_are(&server, "v1", 2).await;
    let accepted = metric(&server, "hubbub_ingest_messages_total", &[("topic", "video.view")]).await;
    assert_eq!(accepted, 1.0, "only the new record");
}

#[tokio::test]
async fn a_topic_waits_in_kafka_while_its_plugin_is_disabled() {
    const MANY: usize = 30;
    let kafka = Kafka::with(&[("video.view", 2), ("conversation.created", 1)]);
    let server = server(&kafka).start().await;
    view(&kafka, "v1", 0).await;
    views_are(&server, "v1", 1).await;
    let labels = [("source", "kafka"), ("topic", "video.view")];
    assert_eq!(server.admin(reqwest::Method::POST, "/admin/plugins/video/disable", Vec::new()).await.0, 200);
    wait::eventually("the pause", async || metric(&server, "hubbub_ingest_paused", &labels).await == 1.0).await;
    for n in 0..MANY {
        view(&kafka, "v1", n).await;
    }
    let mut ana = server.connect("/", user("ana")).await;
    let conversation = json!({"id": "c1", "members": ["ana"]});
    kafka.send("conversation.created", "c1", &conversation.to_string(), &[]).await;
    ana.next("conversation_created").await;
    wait::eventually("the lag to be counted", async || metric(&server, "hubbub_ingest_lag", &labels).await == MANY as f64).await;
    assert_eq!(metric(&server, "hubbub_ingest_messages_total", &labels).await, 1.0, "no record was consumed");
    assert_eq!(server.admin(reqwest::Method::POST, "/admin/plugins/video/enable", Vec::new()).await.0, 200);
    views_are(&server, "v1", MANY as i64 + 1).await;
    wait::eventually("the lag to be 0", async || metric(&server, "hubbub_ingest_lag", &labels).await == 0.0).await;
    assert_eq!(metric(&server, "hubbub_ingest_paused", &labels).await, 0.0);
}

#[tokio::test]
async fn a_topic_over_the_backlog_limit_waits_in_kafka() {
    let kafka = Kafka::with(&[("video.view", 1)]);
    let builder = Server::dev().only(&["chat"]).kafka(&kafka).env("HUBBUB_INGEST__BACKLOG", "2");
    let builder = builder.env("HUBBUB_BUS__MAX_FAILURES", FOREVER).plugin("versioned", &fixture::versioned("2.2.0").await);
    let server = builder.start().await;
    let labels = [("source", "kafka"), ("topic", "video.view")];
    let send_broken = async |video: &str| {
        kafka.send("video.view", video, &json!({"videoId": video, "what": "bad"}).to_string(), &[]).await;
    };
    // A message that fails is retried, so it stays in the backlog.
    send_broken("v1").await;
    send_broken("v2").await;
    wait::eventually("the pause", async || metric(&server, "hubbub_ingest_paused", &labels).await == 1.0).await;
    send_broken("v3").await;
    wait::eventually("the lag to be counted", async || metric(&server, "hubbub_ingest_lag", &labels).await == 1.0).await;
    assert_eq!(metric(&server, "hubbub_ingest_messages_total", &labels).await, 2.0);
    // A release that handles the messages empties the backlog.
    let good = std::fs::read(fixture::versioned("1.0.0").await).expect("the component was built");
    assert_eq!(server.admin(reqwest::Method::POST, "/admin/plugins/versioned/deploy", good).await.0, 200);
    wait::eventually("the third record to be consumed", async || {
        metric(&server, "hubbub_ingest_messages_total", &labels).await == 3.0
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_broker_is_logged_once_and_loses_nothing() {
    let kafka = Kafka::with(&TOPICS);
    let server = server(&kafka).start().await;
    view(&kafka, "v1", 1).await;
    views_are(&server, "v1", 1).await;
    kafka.stop();
    wait::eventually("Kafka to be reported as away", async || server.readiness().await.1["ingest"]["kafka"] == "away").await;
    assert_eq!(server.readiness().await.0, 200, "clients are still served");
    kafka.start_again();
    view(&kafka, "v1", 2).await;
    views_are(&server, "v1", 2).await;
    wait::eventually("Kafka to be reported as up", async || server.readiness().await.1["ingest"]["kafka"] == "up").await;
    assert_eq!(metric(&server, "hubbub_ingest_reconnects_total", &[("source", "kafka")]).await, 1.0);
    assert_eq!(server.log().matches("kafka is away").count(), 1, "{}", server.log());
}

#[tokio::test]
async fn a_server_starts_without_its_ingest_sources() {
    let nobody = "127.0.0.1:1";
    let server = Server::dev()
        .only(&["video", "chat"])
        .env("KAFKA_BROKERS", nobody)
        .env("HUBBUB_INGEST__REDIS_URL", "redis://127.0.0.1:1")
        .env("HUBBUB_INGEST__STREAMS__STREAMS", r#"["s"]"#)
        .env("HUBBUB_INGEST__PUBSUB__CHANNELS", r#"["c"]"#)
        .env("HUBBUB_EGRESS__KAFKA", r#"{"message.sent" = "out"}"#);
    let server = server.start().await;
    let away = json!({"kafka": "away", "streams": "away", "pubsub": "away"});
    wait::eventually("all sources to be reported as away", async || server.readiness().await.1["ingest"] == away).await;
    assert_eq!(server.readiness().await.1["status"], "ready");
}

#[tokio::test]
async fn a_topic_loop_through_kafka_is_refused_before_binding() {
    let round = Server::dev()
        .only(&["video", "chat"])
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .env("HUBBUB_INGEST__KAFKA__TOPICS", r#"["message.sent"]"#)
        .env("HUBBUB_EGRESS__KAFKA", r#"{"message.sent" = "out"}"#);
    let output = round.start_failure().await;
    assert!(output.contains("message.sent comes in from Kafka and goes out to it as well"), "{output}");
    let own = Server::dev()
        .only(&["video", "chat"])
        .env("KAFKA_BROKERS", "127.0.0.1:1")
        .env("HUBBUB_KAFKA__PROPERTIES", r#"{"enable.auto.commit" = true}"#);
    let output = own.start_failure().await;
    assert!(output.contains("`enable.auto.commit` is not to be set"), "{output}");
}

/// Adds an entry to a stream, with fields and values in turn.
pub(crate) async fn add(redis: &Redis, stream: &str, fields: &[(&str, Value)]) {
    let quoted = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string().replace('"', "\\\""),
    };
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name} \"{}\"", quoted(value))).collect();
    let answer = redis.ask(&format!("XADD {stream} * {}", fields.join(" "))).await;
    assert!(answer.starts_with('$'), "{answer}");
}

pub(crate) fn from_redis(redis: &Redis) -> Builder {
    Server::dev()
        .only(&["video", "lessons", "chat", "threads", "crm", "presence", "queue"])
        .env("HUBBUB_INGEST__REDIS_URL", &redis.url())
}

#[tokio::test]
async fn stream_entries_use_their_own_topic_or_event_name() {
    let redis = Redis::start().await;
    let server = from_redis(&redis).env("HUBBUB_INGEST__STREAMS__STREAMS", r#"["mixed"]"#).start().await;
    let mut viewer = watch(&server, "v1").await;
    add(
        &redis,
        "mixed",
        &[("event", json!("video:like")), ("key", json!("v1")), ("data", json!({"videoId": "v1", "timestamp": 1}))],
    )
    .await;
    add(
        &redis,
        "mixed",
        &[("topic", json!("video.like")), ("id", json!("x")), ("data", json!({"videoId": "v1", "timestamp": 2}))],
    )
    .await;
    add(
        &redis,
        "mixed",
        &[("topic", json!("video.like")), ("id", json!("x")), ("data", json!({"videoId": "v1", "timestamp": 2}))],
    )
    .await;
    add(&redis, "mixed", &[("data", json!({"videoId": "v1"}))]).await;
    add(
        &redis,
        "mixed",
        &[("topic", json!("video.comment")), ("data", json!({"videoId": "v1", "commentId": "c", "timestamp": 3}))],
    )
    .await;
    let mut times = [0, 0];
    for time in &mut times {
        *time = viewer.next("video:like").await["timestamp"].as_u64().unwrap();
    }
    times.sort_unstable();
    assert_eq!(times, [1, 2]);
    assert_eq!(viewer.next("video:comment").await["timestamp"], 3);
    let rejected = [("source", "streams"), ("reason", "not_a_message")];
    assert_eq!(metric(&server, "hubbub_ingest_rejected_total", &rejected).await, 1.0);
    wait::eventually("all entries to be acknowledged", async || redis.ask("XPENDING mixed hubbub").await.starts_with("*4\r\n:0"))
        .await;
}

#[tokio::test]
async fn a_stream_waits_in_redis_while_its_plugin_is_disabled() {
    let redis = Redis::start().await;
    let server = from_redis(&redis).env("HUBBUB_INGEST__STREAMS__STREAMS", r#"{"views" = "video.view"}"#).start().await;
    let add_view =
        async |n: u64| add(&redis, "views", &[("key", json!("v1")), ("data", json!({"videoId": "v1", "timestamp": n}))]).await;
    add_view(1).await;
    views_are(&server, "v1", 1).await;
    let labels = [("source", "streams"), ("topic", "views")];
    server.admin(reqwest::Method::POST, "/admin/plugins/video/disable", Vec::new()).await;
    wait::eventually("the pause", async || metric(&server, "hubbub_ingest_paused", &labels).await == 1.0).await;
    add_view(2).await;
    add_view(3).await;
    wait::eventually("the lag to be counted", async || metric(&server, "hubbub_ingest_lag", &labels).await == 2.0).await;
    server.admin(reqwest::Method::POST, "/admin/plugins/video/enable", Vec::new()).await;
    views_are(&server, "v1", 3).await;
}

#[tokio::test]
async fn ingest_resumes_after_redis_restarts_empty() {
    let mut redis = Redis::start().await;
    let server = from_redis(&redis)
        .env("HUBBUB_INGEST__STREAMS__STREAMS", r#"{"views" = "video.view"}"#)
        .env("HUBBUB_INGEST__PUBSUB__CHANNELS", r#"["backend"]"#)
        .start()
        .await;
    let state = async || server.readiness().await.1["ingest"].clone();
    let up = json!({"streams": "up", "pubsub": "up"});
    wait::eventually("both sources to be up", async || state().await == up).await;
    redis.stop();
    wait::eventually("both sources to be away", async || state().await == json!({"streams": "away", "pubsub": "away"})).await;
    redis.start_again().await;
    wait::eventually("both sources to be up again", async || state().await == up).await;
    add(&redis, "views", &[("data", json!({"videoId": "v1", "timestamp": 1}))]).await;
    views_are(&server, "v1", 1).await;
    wait::eventually("a node to subscribe", async || {
        let sent = r#"PUBLISH backend "{\"event\":\"video:view\",\"id\":\"once\",\"data\":{\"videoId\":\"v2\"}}""#;
        redis.ask(sent).await.starts_with(":1")
    })
    .await;
    views_are(&server, "v2", 1).await;
}

#[tokio::test]
async fn channel_messages_become_events_and_invalid_ones_are_rejected() {
    let redis = Redis::start().await;
    let server = from_redis(&redis).env("HUBBUB_INGEST__PUBSUB__CHANNELS", r#"["backend"]"#).start().await;
    wait::eventually("a node to subscribe", async || redis.ask("PUBLISH backend nonsense").await.starts_with(":1")).await;
    let publish = async |message: Value| {
        let text = message.to_string().replace('"', "\\\"");
        assert!(redis.ask(&format!("PUBLISH backend \"{text}\"")).await.starts_with(":1"));
    };
    publish(
        json!({"event": "thread:upserted", "key": "t1", "data": {"threadId": "t1", "customer": {"id": "eva", "name": "Eva"}}}),
    )
    .await;
    let mut customer = server.connect("/portal", user("eva").role("CUSTOMER")).await;
    wait::eventually("the thread to exist", async || customer.ask("join:thread", json!("t1")).await.get("error").is_none()).await;
    publish(
        json!({"event": "chat:accepted", "key": "t1", "data": {"threadId": "t1", "attendant": {"id": "ana", "name": "Ana"}}}),
    )
    .await;
    assert_eq!(customer.next("chat:accepted").await["attendant"]["id"], "ana");
    assert!(metric(&server, "hubbub_ingest_rejected_total", &[("source", "pubsub"), ("reason", "not_a_message")]).await >= 1.0);
}
