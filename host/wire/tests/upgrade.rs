//! Upgrades from polling to websocket. A failed upgrade must leave the session polling.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says what it expects")]

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hubbub_wire::{Config, Notice, Reason, UpgradeError};
use support::{Call, Frame, Server, Ws};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

mod support;

fn config() -> Config {
    Config { upgrade_timeout: Duration::from_secs(1), ..Config::default() }
}

/// A session with a namespace, and the query of its websocket.
async fn session(server: &Server) -> (String, String) {
    let session = server.poll().await;
    assert_eq!(server.post(&session, "40").await.body, "ok");
    assert!(server.get(&session).await.body.starts_with("40{"));
    let websocket = session.replace("transport=polling", "transport=websocket");
    (session, websocket)
}

/// Checks that the session can still send and receive by polling.
async fn polls_on(server: &Server, session: &str) {
    assert_eq!(server.post(session, "421[\"still\",1]").await.body, "ok");
    loop {
        match &*server.get(session).await.body {
            "6" => {}
            "431[1]" => break,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn an_upgrade_moves_the_queue_to_the_websocket() {
    let mut server = Server::start(config()).await;
    let (session, websocket) = session(&server).await;
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    assert_eq!(server.get(&session).await.body, "6");
    assert_eq!(server.post(&session, "421[\"a\"]\u{1e}422[\"b\"]").await.body, "ok");
    ws.send("5").await;
    ws.send("423[\"c\"]").await;
    for number in 1..=3 {
        assert_eq!(ws.text().await, format!("43{number}[]"));
    }
    server.wait_for(&Call::Notice(Notice::Upgraded)).await;
    assert_eq!(server.get(&session).await.status, 400, "it polls no more");
    assert_eq!(server.wire.len(), 1);

    let mut second = Ws::open(server.address, &websocket).await.unwrap();
    assert_eq!(second.next().await, Frame::Close(None), "a second websocket is closed");
    ws.send("424[]").await;
    drop(ws);
    server.ended().await;
    server.is_empty().await;
}

#[tokio::test]
async fn an_upgrade_releases_a_waiting_poll() {
    let server = Server::start(config()).await;
    let (session, websocket) = session(&server).await;
    let address = server.address;
    let poll = tokio::spawn(async move { support::request(address, "GET", &session, &[], "").await });
    sleep(Duration::from_millis(50)).await;
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    assert_eq!(poll.await.unwrap().body, "6");
    assert_eq!(ws.text().await, "3probe");
    // The client completes the upgrade without pausing its polls.
    ws.send("5").await;
    ws.send("421[\"x\"]").await;
    assert_eq!(ws.text().await, "431[]");
}

#[tokio::test]
async fn an_upgrade_soon_releases_a_poll_that_follows_its_probe() {
    let server = Server::start(config()).await;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let (session, websocket) = session(&server).await;
        let mut ws = Ws::open(server.address, &websocket).await.unwrap();
        ws.send("2probe").await;
        assert_eq!(ws.text().await, "3probe");
        sleep(Duration::from_millis(30)).await;
        let start = Instant::now();
        assert_eq!(server.get(&session).await.body, "6");
        fastest = fastest.min(start.elapsed());
    }
    assert!(fastest < Duration::from_millis(25), "{fastest:?}: the client holds its packets until the poll ends");
}

#[tokio::test]
async fn a_session_that_ends_during_its_upgrade_ends_as_a_websocket() {
    let mut server = Server::start(config()).await;
    let (session, websocket) = session(&server).await;
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    support::connection(&server).close("shutdown");
    server.get(&session).await;
    // A stock client sends no other poll now, and listens to the websocket only when it has completed the upgrade.
    assert!(timeout(Duration::from_millis(300), ws.next()).await.is_err(), "the websocket stays open");
    assert_eq!(server.probe.open.load(Ordering::SeqCst), 1, "a stop waits for it");
    ws.send("5").await;
    assert_eq!(ws.next().await, Frame::Close(None));
    server.ended().await;
    server.is_empty().await;
}

#[tokio::test]
async fn a_failed_upgrade_leaves_the_session_polling() {
    let mut server = Server::start(config()).await;
    let (session, websocket) = session(&server).await;
    let failed = |error| Call::Notice(Notice::UpgradeFailed(error));

    drop(Ws::open(server.address, &websocket).await.unwrap());
    server.wait_for(&failed(UpgradeError::Closed)).await;
    polls_on(&server, &session).await;

    let silent = Ws::open(server.address, &websocket).await.unwrap();
    server.wait_for(&failed(UpgradeError::Timeout)).await;
    drop(silent);
    polls_on(&server, &session).await;

    let mut probed = Ws::open(server.address, &websocket).await.unwrap();
    probed.send("2probe").await;
    assert_eq!(probed.text().await, "3probe");
    let mut second = Ws::open(server.address, &websocket).await.unwrap();
    assert_eq!(second.next().await, Frame::Close(None), "one upgrade at a time");
    server.wait_for(&failed(UpgradeError::Timeout)).await;
    assert_eq!(probed.next().await, Frame::Close(None));
    polls_on(&server, &session).await;

    for (first, payload) in [(0x81, &b"40"[..]), (0x81, b"5"), (0x82, b"x"), (0x83, b""), (0x81, b"\xff")] {
        let mut wrong = Ws::open(server.address, &websocket).await.unwrap();
        wrong.frame(first, payload).await;
        assert_eq!(wrong.next().await, Frame::Close(None));
        server.wait_for(&failed(UpgradeError::Unexpected)).await;
        polls_on(&server, &session).await;
    }

    // A proxy that drops the request after its head.
    let mut cut = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /socket.io/?{websocket} HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", support::UPGRADE.join("\r\n"));
    cut.write_all(head.as_bytes()).await.unwrap();
    cut.set_zero_linger().unwrap();
    drop(cut);
    server.wait_for(&failed(UpgradeError::Closed)).await;
    polls_on(&server, &session).await;

    // Another upgrade succeeds.
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.frame(0x89, b"hi").await;
    assert_eq!(ws.next().await, Frame::Pong(b"hi".to_vec()));
    for byte in support::masked(0x81, b"2probe") {
        ws.stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(ws.text().await, "3probe");
    ws.send("5").await;
    ws.send("429[]").await;
    server.wait_for(&Call::Notice(Notice::Upgraded)).await;
}

#[tokio::test]
async fn an_incomplete_upgrade_causes_no_busy_loop_of_polls() {
    let server = Server::start(Config { upgrade_timeout: Duration::from_secs(3), ..Config::default() }).await;
    let (session, websocket) = session(&server).await;
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    let (start, mut polls) = (Instant::now(), 0);
    while let Some(left) = Duration::from_millis(2500).checked_sub(start.elapsed()) {
        let Ok(answer) = timeout(left, server.get(&session)).await else { break };
        assert_eq!(answer.body, "6");
        polls += 1;
    }
    assert!((2..=7).contains(&polls), "{polls} polls in 2.5 s");
}

#[tokio::test]
async fn the_heartbeat_continues_during_an_upgrade() {
    let half = Duration::from_millis(500);
    let config = Config { ping_interval: half, ping_timeout: half, ..config() };
    let mut server = Server::start(config).await;
    let (session, websocket) = session(&server).await;
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    let mut pings = 0;
    let start = Instant::now();
    while pings < 3 {
        if server.get(&session).await.body.contains('2') {
            pings += 1;
            assert_eq!(server.post(&session, "3").await.body, "ok");
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    // When the session times out, the websocket of a pending upgrade is closed as well.
    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    assert_eq!(server.ended().await, Reason::PingTimeout);
    assert_eq!(ws.next().await, Frame::Close(None));
    server.is_empty().await;
}

#[tokio::test]
async fn requests_from_before_an_upgrade_do_not_end_the_websocket() {
    let mut server = Server::start(config()).await;
    let (session, websocket) = session(&server).await;
    let post = format!("POST /socket.io/?{session} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n4");
    let poll = format!("GET /socket.io/?{session} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut late = TcpStream::connect(server.address).await.unwrap();
    late.write_all(post.as_bytes()).await.unwrap();
    let mut polling = TcpStream::connect(server.address).await.unwrap();
    polling.write_all(poll.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;

    let mut ws = Ws::open(server.address, &websocket).await.unwrap();
    ws.send("2probe").await;
    assert_eq!(ws.text().await, "3probe");
    ws.send("5").await;
    server.wait_for(&Call::Notice(Notice::Upgraded)).await;
    drop(polling);
    late.write_all(b"20").await.unwrap();
    assert_eq!(support::read_answer(&mut late).await.unwrap().status, 400);
    let mut cut = TcpStream::connect(server.address).await.unwrap();
    cut.write_all(post.as_bytes()).await.unwrap();
    drop(cut);
    sleep(Duration::from_millis(50)).await;
    ws.send("421[\"x\"]").await;
    assert_eq!(ws.text().await, "431[]");
}
