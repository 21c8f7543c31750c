//! Upgrades from polling to websocket, and every way in which they fail. Must never depend on how long a server takes.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::packet::{self, Packet};
use tests::polling::Polling;
use tests::stock::Transports;
use tests::{Fault, Server, Stock, Token, Upgrade, WebsocketBlocker, token, wait};

/// The number of polls without content that a client may have to send.
const FEW: usize = 10;

/// Connects over polling and returns the number of polls answered with a noop.
async fn connect(polling: &Polling, namespace: &str, token: &Token) -> usize {
    let auth = json!({"token": token.sign()});
    assert_eq!(polling.send(packet::connect(namespace, Some(&auth))).await, 200, "a POST during the upgrade");
    let mut noops = 0;
    loop {
        for packet in polling.poll().await {
            match packet {
                Packet::Connect { .. } => return noops,
                Packet::Noop => noops += 1,
                Packet::Ping => assert_eq!(polling.send("3".into()).await, 200),
                other => panic!("refused: {other:?}"),
            }
        }
        assert!(noops < 1000, "a client would poll forever");
    }
}

/// Emits an event that no plugin handles, and waits for its refusal over polling.
async fn round_trip(polling: &Polling, namespace: &str) {
    assert_eq!(polling.send(packet::event(namespace, Some(1), &json!(["no:such"]))).await, 200);
    loop {
        for packet in polling.poll().await {
            match packet {
                Packet::Ack { id: 1, args, .. } => return assert_eq!(args[0]["error"]["code"], "not_found"),
                Packet::Noop => {}
                Packet::Ping => assert_eq!(polling.send("3".into()).await, 200),
                other => panic!("expected the ack, got: {other:?}"),
            }
        }
    }
}

/// Completes an upgrade once the server has noticed the failure of the previous one, and waits for an ack over the websocket.
async fn complete(server: &Server, polling: &Polling, namespace: &str) -> Upgrade {
    let probed = async || {
        let mut upgrade = Upgrade::open(server.address(), polling.sid()).await.expect("a websocket");
        upgrade.send("2probe").await;
        upgrade.next().await.map(|_| upgrade)
    };
    let mut upgrade = wait::until("an upgrade", wait::DEADLINE, probed).await;
    let event = packet::event(namespace, Some(2), &json!(["no:such"]));
    upgrade.send_at_once(&["5", &event]).await;
    loop {
        match upgrade.next().await.as_deref().map(Packet::parse) {
            Some(Ok(Packet::Ack { id: 2, .. })) => return upgrade,
            Some(Ok(Packet::Ping)) => upgrade.send("3").await,
            other => panic!("expected the ack, got: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_failed_upgrade_leaves_polling_working() {
    let server = Server::dev().start().await;
    for mode in ["cut", "closed", "cut after the probe", "closed after the probe", "silent", "of nonsense"] {
        let polling = Polling::open(&server).await;
        let mut upgrade = Upgrade::open(server.address(), polling.sid()).await.expect("a websocket");
        if mode.ends_with("the probe") {
            upgrade.probe().await;
        }
        let mut kept = None;
        match mode {
            "silent" => kept = Some(upgrade),
            "of nonsense" => {
                upgrade.send("40").await;
                assert_eq!(upgrade.next().await, None, "only the websocket is closed");
            }
            _ if mode.starts_with("cut") => upgrade.cut(),
            _ => upgrade.close().await,
        }
        let noops = connect(&polling, "/chat", &token("ana")).await;
        assert!(noops < FEW, "{mode}: {noops} polls were answered with a noop");
        round_trip(&polling, "/chat").await;
        drop(kept);
        // The session still works: the next upgrade succeeds.
        complete(&server, &polling, "/chat").await;
    }
    let failed = server.metrics().await.get("hubbub_upgrades_failed_total", &[("reason", "unexpected")]);
    assert_eq!(failed, Some(1.0));
}

#[tokio::test]
async fn an_upgrade_moves_everything_to_the_websocket() {
    let server = Server::dev().start().await;
    let polling = Polling::open(&server).await;
    connect(&polling, "/chat", &token("ana")).await;
    let _upgraded = complete(&server, &polling, "/chat").await;
    let again = Upgrade::open(server.address(), polling.sid()).await;
    let mut again = again.expect("a websocket that is closed at once");
    assert_eq!(again.next().await, None, "a second websocket for one session");
}

#[tokio::test]
async fn a_waiting_poll_is_released_for_an_upgrade() {
    let server = Server::dev().start().await;
    let polling = Polling::open(&server).await;
    connect(&polling, "/chat", &token("ana")).await;
    let mut upgrade = Upgrade::open(server.address(), polling.sid()).await.expect("a websocket");
    let probe = async {
        upgrade.probe().await;
        upgrade
    };
    let (polled, mut upgrade) = tokio::join!(polling.poll(), probe);
    assert!(polled.iter().all(|packet| matches!(packet, Packet::Noop | Packet::Ping)), "{polled:?}");
    upgrade.send("5").await;
    upgrade.send(&packet::event("/chat", Some(3), &json!(["no:such"]))).await;
    while let Some(frame) = upgrade.next().await {
        if let Ok(Packet::Ack { id: 3, .. }) = Packet::parse(&frame) {
            return;
        }
    }
    panic!("the websocket was closed");
}

#[tokio::test]
async fn an_incomplete_upgrade_times_out_without_a_busy_loop() {
    let server = Server::dev().env("HUBBUB_GATEWAY__UPGRADE_TIMEOUT", "2s").start().await;
    let polling = Polling::open(&server).await;
    connect(&polling, "/chat", &token("ana")).await;
    let mut upgrade = Upgrade::open(server.address(), polling.sid()).await.expect("a websocket");
    upgrade.probe().await;
    let began = Instant::now();
    let mut polls = 0;
    let closed = upgrade.next();
    tokio::pin!(closed);
    // A client that drops a poll has disconnected, so the last one is kept.
    let mut poll = Box::pin(polling.poll());
    loop {
        tokio::select! {
            closed = &mut closed => break assert_eq!(closed, None, "the websocket is closed"),
            packets = &mut poll => {
                polls += 1;
                poll = Box::pin(polling.poll());
                for packet in packets {
                    if packet == Packet::Ping {
                        polling.send("3".into()).await;
                    }
                }
            }
        }
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(polls < FEW, "{polls} polls in {:?}", began.elapsed());
    wait::eventually("the failed upgrade to be counted", async || {
        server.metrics().await.get("hubbub_upgrades_failed_total", &[("reason", "timeout")]) == Some(1.0)
    })
    .await;
    assert_eq!(polling.send(packet::event("/chat", Some(1), &json!(["no:such"]))).await, 200);
    while !poll.await.iter().any(|packet| matches!(packet, Packet::Ack { id: 1, .. })) {
        poll = Box::pin(polling.poll());
    }
}

#[tokio::test]
async fn concurrent_upgrades_and_unknown_sessions_are_refused() {
    let server = Server::dev().start().await;
    let polling = Polling::open(&server).await;
    let first = Upgrade::open(server.address(), polling.sid()).await.expect("a websocket");
    let mut second = Upgrade::open(server.address(), polling.sid()).await.expect("a websocket");
    assert_eq!(second.next().await, None, "the second is closed");
    first.close().await;
    connect(&polling, "/chat", &token("ana")).await;
    for unknown in ["AAAAAAAAAAAAAAAA", "no-session"] {
        assert_eq!(Upgrade::open(server.address(), unknown).await.err(), Some(400), "{unknown:?}");
    }
}

#[tokio::test]
async fn stock_clients_keep_polling_behind_a_proxy_that_breaks_websockets() {
    let server = Server::dev().start().await;
    for fault in [Fault::Cut, Fault::Silent] {
        for stock in Stock::ALL {
            let blocker = WebsocketBlocker::start(server.address(), fault).await;
            let connected = stock.connect_at(&blocker.url(), "/chat", token("ana"), Transports::Upgrade).await;
            let mut ana = connected.expect("accepted");
            wait::eventually("the upgrade to be broken", async || blocker.broken() > 0).await;
            for _ in 0..3 {
                assert_eq!(ana.ask("no:such", json!({})).await["error"]["code"], "not_found", "{stock:?}, {fault:?}");
            }
            ana.expect_none("disconnect");
        }
    }
}

#[tokio::test]
async fn the_admin_port_refuses_an_upgrade_and_keeps_polling() {
    let server = Server::dev().start().await;
    let polling = Polling::open_admin(&server).await;
    assert_eq!(Upgrade::open(server.admin_address(), polling.sid()).await.err(), Some(400));
    let auth = json!({"token": tests::server::ADMIN_TOKEN});
    assert!(matches!(polling.connect("/figures", Some(&auth)).await, Packet::Connect { .. }));
}
