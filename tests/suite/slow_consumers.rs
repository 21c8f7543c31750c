//! Ten thousand slow consumers: other clients must not be delayed, memory stays within the limit of each client, and they are
//! disconnected. Must never need more of the machine than their sockets.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::stalled::{StalledClients, connection_limit, without_heartbeats};
use tests::{Load, Server, fixture, machine, token, wait};

/// The number of slow consumers, if the file descriptors allow it.
const STALLED: usize = 10_000;

/// The limit of queued bytes for one client, and the size of a message that fills the kernel's buffers.
const BUDGET: usize = 256 << 10;
const LARGE: usize = 8 << 10;

/// The size of the messages sent to all of them while they do not read.
const SMALL: usize = 1 << 10;

/// The interval between two messages to all of them.
const PACE: Duration = Duration::from_millis(250);

/// Shorter latencies vary with the scheduler alone, because the two cores also run the ten thousand clients.
const JITTER: Duration = Duration::from_millis(10);

#[tokio::test]
async fn ten_thousand_slow_consumers_disturb_no_other_and_are_disconnected() {
    machine::exclusive();
    let count = connection_limit(STALLED);
    let builder = Server::dev().only(&["chat"]).plugin("versioned", &fixture::versioned("1.0.0").await);
    let builder = builder.env("HUBBUB_GATEWAY__CLIENT_BYTES", &BUDGET.to_string());
    let server = without_heartbeats(builder).start().await;
    let stalled = StalledClients::join(server.address(), "/", "chat:join", &json!({"videoId": "v1"}), count).await;
    let connecting = (0..10).map(async |n| server.connect("/versioned", token(&format!("u{n}"))).await);
    let mut load = Load { clients: join_all(connecting).await, event: "version", per_second: 200 };
    let served = |ack: &Value| assert_eq!(ack, "1.0.0");
    let ((), quiet) = load.during(served, tokio::time::sleep(Duration::from_secs(3))).await;
    let memory = server.resident_bytes();

    // Filling the kernel's buffers is ordinary fan-out. The measurement starts when no client accepts data any more.
    send_until(&server, LARGE, "hubbub_stalled_clients", count).await;
    let ((), once) = load.during(served, send_for(&server, SMALL, Duration::from_secs(3))).await;
    let ((), again) = load.during(served, send_for(&server, SMALL, Duration::from_secs(3))).await;
    // Other work on the machine only adds latency.
    let while_stalled = once.p99().min(again.p99());
    let ((), ending) = load.during(served, send_until(&server, LARGE, "hubbub_slow_consumers_total", count)).await;
    let grown = server.resident_bytes().saturating_sub(memory);
    load.expect_no_extra_acks().await;
    assert_eq!(stalled.count(), count);
    // Disconnecting them is extra work that happens once.
    for (what, p99, most) in [("slow consumers", while_stalled, 1.5), ("slow consumers being disconnected", ending.p99(), 3.0)] {
        let ratio = p99.as_secs_f64() / quiet.p99().max(JITTER).as_secs_f64();
        assert!(ratio <= most, "p99 {p99:?} with {count} {what}, {:?} without", quiet.p99());
    }
    assert!(grown < (count * BUDGET) as u64, "{} bytes for each", grown / count as u64);
}

/// Sends to all of them until this many are counted.
async fn send_until(server: &Server, bytes: usize, metric: &str, count: usize) {
    let mut turns = tokio::time::interval(PACE);
    wait::until("all clients to be counted", Duration::from_secs(90), async || {
        turns.tick().await;
        server.emit(&message(bytes)).await;
        let counted = server.metrics().await.get(metric, &[]).unwrap_or_default();
        (counted >= count as f64).then_some(())
    })
    .await;
}

async fn send_for(server: &Server, bytes: usize, time: Duration) {
    let mut turns = tokio::time::interval(PACE);
    for _ in 0..time.as_millis() / PACE.as_millis() {
        turns.tick().await;
        server.emit(&message(bytes)).await;
    }
}

fn message(bytes: usize) -> Value {
    json!({"namespace": "/", "room": "chat:v1", "event": "said", "args": "x".repeat(bytes)})
}
