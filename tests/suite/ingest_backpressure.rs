//! Messages that cannot be accepted yet wait at their source, unacknowledged, and count once in the end. Must never stop a
//! database that other tests share.

use std::time::Instant;

use serde_json::json;
use tests::kafka::Kafka;
use tests::redis::Redis;
use tests::server::Builder;
use tests::{Postgres, Server, fixture, wait};

use crate::helpers::member;
use crate::ingest::{add, from_redis, metric, view, views_are};

/// More attempts than a message can reach in a test.
pub(crate) const FOREVER: &str = "1000000";

/// Adds a view of a video; views of one video are ordered by their key.
async fn add_view(redis: &Redis, video: &str, n: usize) {
    let data = json!({"videoId": video, "timestamp": n});
    add(redis, "views", &[("key", json!(video)), ("data", data)]).await;
}

/// A field in Redis's information about the stream's only group.
async fn group_info(redis: &Redis, field: &str) -> usize {
    let info = redis.ask("XINFO GROUPS views").await;
    let number = info.split(&format!("{field}\r\n:")).nth(1).and_then(|rest| rest.split('\r').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {field} in {info}"))
}

async fn acknowledged(redis: &Redis) -> usize {
    group_info(redis, "entries-read").await - group_info(redis, "pending").await
}

#[tokio::test]
async fn a_stream_over_the_backlog_limit_waits_while_others_continue() {
    const BACKLOG: usize = 5;
    const MANY: usize = 20;
    let redis = Redis::start().await;
    let streams = r#"{"views" = "video.view", "chats" = "chat.upserted"}"#;
    let builder = from_redis(&redis).env("HUBBUB_INGEST__STREAMS__STREAMS", streams).env("HUBBUB_BUS__MAX_FAILURES", FOREVER);
    let builder = builder.plugin("versioned", &fixture::versioned("2.2.0").await);
    let server = builder.env("HUBBUB_INGEST__BACKLOG", &BACKLOG.to_string()).start().await;
    let (stream, topic) = ([("source", "streams"), ("topic", "views")], [("source", "streams"), ("topic", "video.view")]);
    // A message that fails is retried, so it stays in the backlog.
    for n in 0..BACKLOG {
        add_view(&redis, "bad", n).await;
    }
    wait::eventually("the pause", async || metric(&server, "hubbub_ingest_paused", &stream).await == 1.0).await;
    for n in 0..MANY {
        add_view(&redis, "v1", n).await;
    }
    wait::eventually("the lag to be counted", async || metric(&server, "hubbub_ingest_lag", &stream).await == MANY as f64).await;
    let chat = json!({"chatId": "c1", "participants": [{"userId": "ana", "name": "Ana"}]});
    add(&redis, "chats", &[("data", chat)]).await;
    // The other stream continues.
    member(&server, "ana", "c1").await;
    assert_eq!(metric(&server, "hubbub_ingest_messages_total", &topic).await, BACKLOG as f64);
    wait::eventually("no other messages to wait", async || {
        metric(&server, "hubbub_bus_messages_queued", &[]).await == BACKLOG as f64
    })
    .await;
    assert_eq!((acknowledged(&redis).await, group_info(&redis, "lag").await), (BACKLOG, MANY));

    // A release that handles the messages empties the backlog.
    let good = std::fs::read(fixture::versioned("1.0.0").await).expect("the component was built");
    assert_eq!(server.admin(reqwest::Method::POST, "/admin/plugins/versioned/deploy", good).await.0, 200);
    views_are(&server, "v1", MANY as i64).await;
    wait::eventually("the lag to be 0", async || {
        (metric(&server, "hubbub_ingest_lag", &stream).await, metric(&server, "hubbub_ingest_paused", &stream).await)
            == (0.0, 0.0)
    })
    .await;
    assert_eq!(metric(&server, "hubbub_bus_dead_letters_total", &[]).await, 0.0);
}

/// A server of two plugins with this database, which refuses soon when the database is unavailable.
async fn stored_in(database: &Postgres, builder: Builder) -> Server {
    builder.database(&database.empty().await).env("HUBBUB_STORAGE__OUTAGE_WAIT", "500ms").start().await
}

/// This many are sent before the database is killed, and as many again while it is down.
const HALF: usize = 90;

/// Logged once while storage fails.
const WAITS: &str = "cannot be stored, and waits at its source";

#[tokio::test]
async fn stream_entries_are_not_acknowledged_while_storage_fails_and_count_once() {
    let (redis, mut database) = (Redis::start().await, Postgres::start().await);
    let builder = from_redis(&redis).env("HUBBUB_INGEST__STREAMS__STREAMS", r#"{"views" = "video.view"}"#);
    let server = stored_in(&database, builder).await;
    for n in 0..HALF {
        add_view(&redis, "v1", n).await;
    }
    let killed = database.kill9();
    let (mut added, end) = (HALF, Instant::now() + wait::DEADLINE);
    // A process of the database may outlive the killed one for a moment, and store an entry.
    while !server.log().contains(WAITS) && Instant::now() < end {
        add_view(&redis, "v1", added).await;
        added += 1;
    }
    server.logged(WAITS).await;
    let before = acknowledged(&redis).await;
    for n in 0..HALF {
        add_view(&redis, "v1", added + n).await;
    }
    let backend = json!({"topic": "video.view", "data": {"videoId": "v2"}});
    assert_eq!(server.api("/api/publish", &backend).await.0, 503, "a backend gets an error");
    assert_ne!(group_info(&redis, "pending").await, 0, "entries were read");
    assert_eq!(acknowledged(&redis).await, before, "an entry was acknowledged before it was stored");
    assert!(before < added, "{before}");

    database.start_again(killed).await;
    let sent = HALF + added;
    views_are(&server, "v1", sent as i64).await;
    wait::eventually("all entries to be acknowledged", async || acknowledged(&redis).await == sent).await;
    assert_eq!(server.log().matches(WAITS).count(), 1, "logged once");
    assert_eq!(server.store().counter("video", "views/v2"), 0, "a refused message is not handled");
}

#[tokio::test]
async fn kafka_offsets_are_not_committed_while_storage_fails() {
    let (kafka, mut database) = (Kafka::with(&[("video.view", 1)]), Postgres::start().await);
    let mut server = stored_in(&database, Server::dev().only(&["video", "chat"]).kafka(&kafka)).await;
    for n in 0..HALF {
        view(&kafka, "v1", n).await;
    }
    wait::eventually("a commit", async || kafka.committed("hubbub", "video.view").await > 0).await;
    let killed = database.kill9();
    for n in 0..=HALF {
        view(&kafka, "v1", HALF + n).await;
    }
    server.logged(WAITS).await;
    let accepted = metric(&server, "hubbub_ingest_messages_total", &[("topic", "video.view")]).await as i64;
    // A stop commits everything that may be committed.
    server.terminate().await;
    assert_eq!(kafka.committed("hubbub", "video.view").await, accepted);
    assert!(accepted < 2 * HALF as i64, "{accepted} records were accepted without storage");

    database.start_again(killed).await;
    server.start_again().await;
    let sent = 2 * HALF as i64 + 1;
    views_are(&server, "v1", sent).await;
    wait::eventually("all offsets to be committed", async || kafka.committed("hubbub", "video.view").await == sent).await;
}
