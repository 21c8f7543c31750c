//! Many clients, and many events of one client: nothing is lost or reordered. Must never measure speed; `bench` does.

use futures_util::future::join_all;
use serde_json::json;
use tests::client::End;
use tests::packet::{self, Packet};
use tests::polling::Polling;
use tests::wait::eventually;
use tests::{Client, Server, token};

use crate::helpers::{member, open_chat, user};

const CLIENTS: usize = 1000;

/// Concurrent connects: like many browser tabs at once, and fewer than the listen queue.
const AT_ONCE: usize = 100;

#[tokio::test]
async fn a_thousand_clients_emit_right_after_connecting_without_loss() {
    let server = Server::dev().start().await;
    let mut clients = Vec::new();
    for batch in 0..CLIENTS / AT_ONCE {
        let arrivals = (0..AT_ONCE).map(async |n| {
            let mut client = server.connect("/", ()).await;
            // A stock client emits in its connect callback, right after the handshake.
            let ack = client.ask("chat:join", json!({"videoId": format!("v{}", (batch * AT_ONCE + n) % 50)})).await;
            assert_eq!(ack, json!({}));
            client
        });
        clients.extend(join_all(arrivals).await);
    }
    assert_eq!(clients.len(), CLIENTS);
    assert_eq!(server.get("/health").await.1["connections"], CLIENTS);
}

#[tokio::test]
async fn events_sent_ahead_of_their_acks_are_handled_in_order() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    member(&server, "ana", "c1").await.leave().await;
    let arrivals = (0..AT_ONCE).map(async |_| {
        let mut client = server.connect("/chat", user("ana")).await;
        let ids = [
            client.emit_for_ack(&json!(["chat:join", {"chatId": "c1"}])).await,
            client.emit_for_ack(&json!(["chat:typing", {"chatId": "c1"}])).await,
        ];
        for id in ids {
            assert!(client.acked(id).await["error"].is_null(), "the second event depends on the first");
        }
    });
    join_all(arrivals).await;
}

#[tokio::test]
async fn events_of_a_socket_are_handled_in_the_order_sent() {
    const EVENTS: usize = 500;
    /// Events sent ahead of their acks: half of a socket's queue.
    const WINDOW: usize = 32;
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    let mut waiting = std::collections::VecDeque::new();
    for n in 0..EVENTS {
        if waiting.len() == WINDOW {
            let id = waiting.pop_front().expect("the window is full");
            assert_eq!(ana.acked(id).await, json!({}));
        }
        let message = json!(["chat:message", {"chatId": "c1", "content": n.to_string()}]);
        waiting.push_back(ana.emit_for_ack(&message).await);
    }
    for n in 0..EVENTS {
        assert_eq!(bia.next("chat:message").await["content"], n.to_string());
    }
}

#[tokio::test]
async fn events_over_the_queue_limit_are_refused_and_others_keep_their_order() {
    const EVENTS: u64 = 2000;
    // The outgoing queue is large, so that only the incoming one is full.
    let server = Server::dev().without_message_limit().env("HUBBUB_GATEWAY__CLIENT_QUEUE", "8192").start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    let mut ids = Vec::new();
    for n in 0..EVENTS {
        ids.push(ana.emit_for_ack(&json!(["chat:message", {"chatId": "c1", "content": n.to_string()}])).await);
    }
    let mut accepted = Vec::new();
    for (n, id) in ids.into_iter().enumerate() {
        let ack = ana.acked(id).await;
        if ack == json!({}) {
            accepted.push(n);
        } else {
            assert_eq!(ack["error"]["code"], "rate_limited", "{ack}");
            assert_eq!(ack["error"]["message"], "Too many events");
        }
    }
    assert!(accepted.len() >= 64, "at least a full queue: {}", accepted.len());
    for n in accepted {
        assert_eq!(bia.next("chat:message").await["content"], n.to_string());
    }
    bia.expect_none("chat:message").await;
}

#[tokio::test]
async fn clients_that_drop_while_connecting_leave_nothing_behind() {
    let server = Server::dev().start().await;
    for _ in 0..5 {
        let vanishing = (0..AT_ONCE).map(async |_| {
            let mut client = Client::open(server.address(), &().into()).await.expect("a websocket");
            client.send_raw("40").await;
            client.send_raw("420[\"chat:join\",{\"videoId\":\"v1\"}]").await;
            drop(client);
        });
        join_all(vanishing).await;
    }
    eventually("all connections to end", async || server.get("/health").await.1["connections"] == 0).await;
    let mut last = server.connect("/", ()).await;
    last.ask("chat:join", json!({"videoId": "v1"})).await;
    assert_eq!(last.next("chat:user-count").await["count"], 1, "no other user is left in the room");
}

#[tokio::test]
async fn a_slow_consumer_is_disconnected_and_others_receive_everything() {
    /// More than the kernel's buffers of two sockets hold.
    const MESSAGES: usize = 12_000;
    let server = Server::dev().without_message_limit().start().await;
    let watch = async |auth: tests::Auth| {
        let mut client = server.connect("/", auth).await;
        client.ask("chat:join", json!({"videoId": "v1"})).await;
        client
    };
    let mut slow = watch(().into()).await;
    let mut ana = watch(user("ana").into()).await;
    let mut ended = false;
    for n in 0..MESSAGES {
        let message = format!("{n:0>2000}");
        assert_eq!(ana.ask("chat:message", json!({"videoId": "v1", "message": message})).await, json!({}));
        assert_eq!(ana.next("chat:message").await["message"], message);
        if n % 500 == 499 && server.metrics().await.get("hubbub_slow_consumers_total", &[]) == Some(1.0) {
            ended = true;
            break;
        }
    }
    assert!(ended, "the slow client was never disconnected");
    assert_eq!(slow.ended().await, End::Closed);
}

#[tokio::test]
async fn a_slow_consumer_is_disconnected_at_its_byte_limit() {
    /// Packets of half a megabyte. With the kernel's buffers, the byte limit is reached long before 512 packets wait.
    const PACKETS: usize = 500;
    let server = Server::dev().only(&["chat"]).env("HUBBUB_GATEWAY__CLIENT_BYTES", "4000000").start().await;
    let mut slow = server.connect("/chat", token("sam").claim("tenant", "acme")).await;
    let mut quick = server.connect("/chat", token("ana").claim("tenant", "acme")).await;
    let large = json!({"namespace": "/chat", "tenant": "acme", "event": "large", "args": ["x".repeat(500_000)]});
    let ended = async || server.metrics().await.get("hubbub_slow_consumers_total", &[("reason", "bytes")]) == Some(1.0);
    let mut sent = 0;
    while !ended().await {
        assert!(sent < PACKETS, "the slow client was never disconnected");
        server.emit(&large).await;
        quick.next("large").await;
        sent += 1;
    }
    assert_eq!(slow.ended().await, End::Closed);
    server.emit(&large).await;
    quick.next("large").await;
    assert_eq!(server.metrics().await.get("hubbub_slow_consumers_total", &[]), Some(1.0), "and no other client");
}

#[tokio::test]
async fn a_client_that_stops_polling_is_disconnected_at_its_byte_limit() {
    /// Packets of half a megabyte, which no kernel buffer holds. Fewer than the queue's length, and more than are sent between
    /// two checks.
    const PACKETS: usize = 500;
    let server = Server::dev().only(&["chat"]).env("HUBBUB_GATEWAY__CLIENT_BYTES", "4000000").start().await;
    // One client has polled and another never does; its namespace is connected all the same.
    let (slow, mute, quick) = (Polling::open(&server).await, Polling::open(&server).await, Polling::open(&server).await);
    let user = json!({"token": token("sam").claim("tenant", "acme").sign()});
    slow.connect("/chat", Some(&user)).await;
    assert_eq!(mute.send(packet::connect("/chat", Some(&user))).await, 200);
    quick.connect("/chat", Some(&user)).await;
    eventually("all to connect", async || server.get("/health").await.1["connections"] == 3).await;
    let large = json!({"namespace": "/chat", "tenant": "acme", "event": "large", "args": ["x".repeat(500_000)]});
    let ended = async || server.metrics().await.get("hubbub_slow_consumers_total", &[("reason", "bytes")]);
    let mut sent = 0;
    while ended().await != Some(2.0) {
        assert!(sent < PACKETS, "{:?} were disconnected", ended().await);
        server.emit(&large).await;
        while !quick.poll().await.iter().any(|packet| matches!(packet, Packet::Event { .. })) {}
        sent += 1;
    }
    assert!(sent >= 8, "{sent} packets are less than 4 MB");
    eventually("both to be disconnected", async || server.get("/health").await.1["connections"] == 1).await;
    for polling in [&slow, &mute] {
        assert_eq!(polling.send("3".into()).await, 400, "the session has ended");
    }
    server.emit(&large).await;
    while !quick.poll().await.iter().any(|packet| matches!(packet, Packet::Event { .. })) {}
    assert_eq!(server.metrics().await.get("hubbub_slow_consumers_total", &[]), Some(2.0), "and no other client");
}
