//! Ten thousand clients that do not read: the others do not feel it, memory stays within what each may take, and they are ended. Must
//! never need more of the machine than their sockets.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::stalled::{Stalled, allow_open_files};
use tests::{Load, Server, fixture, gate, token, wait};

/// As many as file descriptors allow, up to this.
const STALLED: usize = 10_000;

/// Bytes that may wait for one of them, and of one message.
const BUDGET: usize = 64 << 10;
const MESSAGE: usize = 8 << 10;

/// Between two messages to all of them: more than ten thousand deliveries take, so that what is measured is not the fan-out.
const PACE: Duration = Duration::from_millis(500);

/// Below it a scheduler's own trembling is all there is: two cores also run the ten thousand's other side.
const TREMBLE: Duration = Duration::from_millis(10);

#[tokio::test]
async fn ten_thousand_that_do_not_read_disturb_nobody_and_are_ended() {
    gate::alone();
    let count = STALLED.min(allow_open_files(STALLED as u64 + 1000) as usize - 1000);
    let builder = Server::dev().only(&["chat"]).plugin("versioned", &fixture::versioned("1.0.0").await);
    let builder = builder.env("HUBBUB_GATEWAY__CLIENT_BYTES", &BUDGET.to_string());
    // Nobody is to be ended for a heartbeat that nobody reads.
    let server = builder.env("HUBBUB_GATEWAY__PING_INTERVAL", "10m").env("HUBBUB_GATEWAY__PING_TIMEOUT", "10m").start().await;
    let stalled = Stalled::join(server.address(), "/", "chat:join", &json!({"videoId": "v1"}), count).await;
    let connecting = (0..10).map(async |n| server.connect("/versioned", token(&format!("u{n}"))).await);
    let mut load = Load { clients: join_all(connecting).await, event: "version", per_second: 200 };
    let served = |ack: &Value| assert_eq!(ack, "1.0.0");
    let ((), quiet) = load.during(served, tokio::time::sleep(Duration::from_secs(2))).await;
    let memory = server.resident_bytes();

    let message = json!({"namespace": "/", "room": "chat:v1", "event": "said", "args": "x".repeat(MESSAGE)});
    let mut most = 0;
    let flood = async {
        let mut turns = tokio::time::interval(PACE);
        wait::until("all of them to be ended", Duration::from_secs(60), async || {
            turns.tick().await;
            server.emit(&message).await;
            most = most.max(server.resident_bytes());
            let ended = server.metrics().await.get("hubbub_slow_consumers_total", &[]).unwrap_or_default();
            (ended >= count as f64).then_some(())
        })
        .await;
    };
    let ((), storm) = load.during(served, flood).await;
    load.nothing_is_left_over().await;
    assert_eq!(stalled.count(), count);
    let ratio = storm.p99().as_secs_f64() / quiet.p99().max(TREMBLE).as_secs_f64();
    assert!(ratio <= 1.5, "p99 {:?} beside {count} that do not read, {:?} without", storm.p99(), quiet.p99());
    let grown = most.saturating_sub(memory);
    assert!(grown < (count * BUDGET) as u64, "{} bytes for each", grown / count as u64);
}
