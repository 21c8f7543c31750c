//! Messages from other systems, consumed by several nodes: shared, taken over, and counted once. Must never depend on which node
//! consumes.

use serde_json::json;
use tests::cluster::Cluster;
use tests::kafka::Kafka;
use tests::server::Builder;
use tests::{Postgres, Server, wait};

/// A dead node is noticed soon.
fn node(builder: Builder) -> Builder {
    builder.only(&["video", "chat"]).env("HUBBUB_REDIS__NODE_TIMEOUT", "2s")
}

async fn views(cluster: &Cluster, video: &str) -> i64 {
    let sql = format!(
        "SELECT coalesce(max(get_byte(value, 0) + 256 * get_byte(value, 1)), 0) FROM hubbub_entries
         WHERE plugin = 'video' AND key = convert_to('views/{video}', 'UTF8')"
    );
    Postgres::shared().await.sql(&cluster.database, &sql).await.trim().parse().expect("a number")
}

async fn views_are(cluster: &Cluster, video: &str, many: i64) {
    wait::eventually(&format!("{many} views of {video}"), async || views(cluster, video).await >= many).await;
    assert_eq!(views(cluster, video).await, many);
}

async fn accepted(server: &Server, source: &str) -> f64 {
    server.metrics().await.get("hubbub_ingest_messages_total", &[("source", source)]).unwrap_or(0.0)
}

/// The node that has consumed something from this source.
async fn consumer(cluster: &Cluster, source: &str) -> usize {
    wait::until("a node to consume", wait::DEADLINE, async || {
        for (at, node) in cluster.nodes.iter().enumerate() {
            if accepted(node, source).await > 0.0 {
                return Some(at);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn stream_entries_of_a_killed_node_are_handled_once_by_the_other() {
    const MANY: u64 = 300;
    let mut cluster =
        Cluster::with(2, |builder| node(builder).env("HUBBUB_INGEST__STREAMS__STREAMS", r#"{"views" = "video.view"}"#)).await;
    let add = async |cluster: &Cluster, n: u64| {
        let entry = format!(r#"XADD views * key v1 data "{{\"videoId\":\"v1\",\"timestamp\":{n}}}""#);
        assert!(cluster.redis.ask(&entry).await.starts_with('$'));
    };
    add(&cluster, 0).await;
    let first = consumer(&cluster, "streams").await;
    for n in 1..MANY {
        add(&cluster, n).await;
        if n == MANY / 2 {
            cluster.nodes[first].kill9();
        }
    }
    // One more entry is read by a consumer that will never acknowledge it.
    cluster.redis.ask("XREADGROUP GROUP hubbub hubbub COUNT 1 STREAMS views >").await;
    views_are(&cluster, "v1", MANY as i64).await;
    wait::eventually("all to be acknowledged", async || cluster.redis.ask("XPENDING views hubbub").await.starts_with("*4\r\n:0"))
        .await;
}

#[tokio::test]
async fn partitions_of_a_killed_node_move_and_every_view_counts_once() {
    const MANY: usize = 60;
    let kafka = Kafka::with(&[("video.view", 4)]);
    // No offset is committed, so everything that the dead node has accepted is delivered to the other again.
    let never = [("auto.commit.interval.ms", "86400000")];
    let mut cluster = Cluster::with(2, |builder| node(builder).kafka_with(&kafka, &never)).await;
    let view = async |n: usize| {
        let data = json!({"videoId": "v1", "timestamp": n}).to_string();
        kafka.send("video.view", &format!("k{n}"), &data, &[]).await;
    };
    for n in 0..MANY / 2 {
        view(n).await;
    }
    views_are(&cluster, "v1", MANY as i64 / 2).await;
    let consumer = consumer(&cluster, "kafka").await;
    cluster.nodes[consumer].kill9();
    for n in MANY / 2..MANY {
        view(n).await;
    }
    views_are(&cluster, "v1", MANY as i64).await;
}

#[tokio::test]
async fn a_channel_is_consumed_by_one_node_and_fails_over() {
    let mut cluster = Cluster::with(2, |builder| node(builder).env("HUBBUB_INGEST__PUBSUB__CHANNELS", r#"["backend"]"#)).await;
    let publish = async |cluster: &Cluster, video: &str, listeners: usize| {
        let message = format!(r#"PUBLISH backend "{{\"event\":\"video:view\",\"data\":{{\"videoId\":\"{video}\"}}}}""#);
        wait::eventually("the nodes to subscribe", async || {
            cluster.redis.ask(&message).await.starts_with(&format!(":{listeners}"))
        })
        .await;
    };
    let publish_until_counted = async |cluster: &Cluster, video: &str, listeners: usize| {
        wait::eventually("a node to handle the message", async || {
            publish(cluster, video, listeners).await;
            views(cluster, video).await > 0
        })
        .await;
    };
    publish_until_counted(&cluster, "before", 2).await;
    let first = consumer(&cluster, "pubsub").await;
    let other = 1 - first;
    for n in 0..50 {
        publish(&cluster, &format!("v{}", n % 5), 2).await;
    }
    for video in 0..5 {
        views_are(&cluster, &format!("v{video}"), 10).await;
    }
    assert_eq!(accepted(&cluster.nodes[other], "pubsub").await, 0.0, "only one node consumes");
    cluster.nodes[first].terminate().await;
    publish_until_counted(&cluster, "after", 1).await;
    assert!(accepted(&cluster.nodes[other], "pubsub").await > 0.0);
}
