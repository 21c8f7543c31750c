//! Ten thousand clients that do not read: the others do not feel it, memory stays within what each may take, and they are ended. Must
//! never need more of the machine than their sockets.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::stalled::{Stalled, allow_open_files};
use tests::{Load, Server, fixture, gate, token, wait};

const STALLED: usize = 10_000;

/// Packets that wait for one of them, and their bytes: its budget.
const QUEUE: usize = 16;
const MESSAGE: usize = 4096;

#[tokio::test]
async fn ten_thousand_that_do_not_read_disturb_nobody_and_are_ended() {
    gate::alone();
    allow_open_files(STALLED as u64 + 1000);
    let builder = Server::dev().only(&["chat"]).plugin("versioned", &fixture::versioned("1.0.0").await);
    let server = builder.env("HUBBUB_GATEWAY__CLIENT_QUEUE", &QUEUE.to_string()).start().await;
    let connecting = (0..10).map(async |n| server.connect("/versioned", token(&format!("u{n}"))).await);
    let mut load = Load { clients: join_all(connecting).await, event: "version", per_second: 200 };
    let began = std::time::Instant::now();
    let stalled = Stalled::join(server.address(), "/", "chat:join", &json!({"videoId": "v1"}), STALLED).await;
    eprintln!("joined {:?}", began.elapsed());
    let served = |ack: &Value| assert_eq!(ack, "1.0.0");
    let ((), quiet) = load.during(served, tokio::time::sleep(Duration::from_secs(2))).await;
    let memory = server.resident_bytes();

    let message = json!({"namespace": "/", "room": "chat:v1", "event": "said", "args": "x".repeat(MESSAGE)});
    let mut most = 0;
    let flood = async {
        let mut sent = 0;
        wait::until("all of them to be ended", Duration::from_secs(120), async || {
            server.emit(&message).await;
            sent += 1;
            most = most.max(server.resident_bytes());
            let ended = server.metrics().await.get("hubbub_slow_consumers_total", &[]).unwrap_or_default();
            if sent % 10 == 0 {
                eprintln!("{sent} {ended} {} {:?}", server.resident_bytes() >> 20, began.elapsed());
            }
            (ended >= STALLED as f64).then_some(())
        })
        .await;
    };
    let ((), storm) = load.during(served, flood).await;
    eprintln!("quiet {:?} storm {:?} memory {} -> {} {:?}", quiet.p99(), storm.p99(), memory >> 20, most >> 20, began.elapsed());
    load.nothing_is_left_over().await;
    assert_eq!(stalled.count(), STALLED);
    assert!(most - memory < (STALLED * QUEUE * MESSAGE) as u64);
}
