//! Namespaces, events, acks and attachments, from both sides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says what it expects")]

use std::time::Duration;

use bytes::Bytes;
use hubbub_wire::{AskError, Config, Limit, Message, Outgoing, PrivateId, Reason, Sent, SocketId, next_ask};
use support::{Call, Frame, SOON, Server};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

mod support;

fn event(namespace: &str, name: &str, args: &str) -> Call {
    let _ = namespace;
    Call::Event(name.to_owned(), args.to_owned(), None, 0)
}

#[tokio::test]
async fn connect_is_answered_after_the_handler_has_decided() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.websocket().await;
    ws.send("40/slow,").await;
    ws.send("42/slow,[\"early\",1]").await;
    ws.send("42/slow,7[\"early\",2]").await;
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"), "another namespace does not wait for it");
    assert_eq!(server.call().await, Call::Open);
    assert_eq!(server.call().await, Call::Connected("/".to_owned()));
    server.probe.socket(0).send(&Message::event("/slow", "[\"sent\"]"));
    assert!(!server.probe.socket(0).is_connected());

    server.probe.gate.notify_one();
    assert!(ws.text().await.starts_with("40/slow,{\"sid\":\""));
    assert_eq!(ws.text().await, "42/slow,[\"held\"]");
    assert_eq!(ws.text().await, "42/slow,[\"sent\"]");
    assert_eq!(ws.text().await, "43/slow,7[2]");
    assert_eq!(server.call().await, Call::Connected("/slow".to_owned()));
    assert_eq!(server.call().await, event("/slow", "early", "1"));
    assert_eq!(server.call().await, Call::Event("early".to_owned(), "2".to_owned(), Some(7), 0));
    assert!(server.probe.socket(0).is_connected());
}

#[tokio::test]
async fn early_events_after_a_server_disconnect_are_ignored() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.websocket().await;
    ws.send("40/slow,").await;
    ws.send("42/slow,[\"leave\"]").await;
    ws.send("42/slow,[\"after\"]").await;
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"));
    server.probe.gate.notify_one();
    assert!(ws.text().await.starts_with("40/slow,"));
    assert_eq!(ws.text().await, "42/slow,[\"held\"]");
    assert_eq!(ws.text().await, "41/slow,");
    assert_eq!(server.call().await, Call::Open);
    assert_eq!(server.call().await, Call::Connected("/".to_owned()));
    assert_eq!(server.call().await, Call::Connected("/slow".to_owned()));
    assert_eq!(server.call().await, event("/slow", "leave", ""));
    assert_eq!(server.call().await, Call::Disconnected("/slow".to_owned(), Reason::ServerDisconnect));
}

#[tokio::test]
async fn a_refusal_carries_a_message_and_data() {
    let server = Server::start(Config::default()).await;
    let mut ws = server.websocket().await;
    ws.send("40/refused,{\"token\":1}").await;
    assert_eq!(ws.text().await, r#"44/refused,{"message":"no \"entry\"","data":{"code":7}}"#);
    ws.send("40/none").await;
    assert_eq!(ws.text().await, r#"44/none,{"message":"Invalid namespace"}"#);
    ws.send("40/refused,").await;
    assert!(ws.text().await.starts_with("44/refused,"), "it may be tried again");
}

#[tokio::test]
async fn a_socket_accepted_after_the_end_of_its_connection_is_disconnected_once() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.websocket().await;
    ws.send("40/slow,").await;
    while server.probe.sockets.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(ws);
    while !server.wire.is_empty() {
        tokio::task::yield_now().await;
    }
    server.probe.gate.notify_one();
    assert_eq!(server.call().await, Call::Open);
    let Call::Disconnected(namespace, _) = server.call().await else { panic!("it is disconnected first") };
    assert_eq!(namespace, "/slow");
    assert!(matches!(server.call().await, Call::Closed(Reason::TransportClose | Reason::TransportError)));
    assert_eq!(server.probe.socket(0).send(&Message::event("/slow", "[\"x\"]")), Sent::Closed);
}

#[tokio::test]
async fn a_resumed_socket_keeps_its_ids_and_gets_missed_messages_first() {
    let server = Server::start(Config::default()).await;
    let (id, private) = (SocketId::random(), PrivateId::random());
    let mut ws = server.websocket().await;
    ws.send(&format!(r#"40/missed,{{"id":"{id}","pid":"{private}"}}"#)).await;
    assert_eq!(ws.text().await, r#"42/missed,["one","o:1"]"#);
    assert_eq!(ws.text().await, r#"42/missed,["two","o:2"]"#);
    assert_eq!(ws.text().await, format!(r#"40/missed,{{"sid":"{id}","pid":"{private}"}}"#));
    assert_eq!(server.probe.socket(0).id(), id);
    assert_eq!(format!("{:?}", server.probe.socket(0).private_id()), "PrivateId(…)", "it is in no log");
}

#[tokio::test]
async fn any_name_and_any_number_of_arguments_reach_the_handler() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    for (packet, name, args) in [
        (r#"42["ol\u00e1 \"x\"",1,"2",{"3":[true]}]"#, "olá \"x\"", r#"1,"2",{"3":[true]}"#),
        (r#"42["\ud83d\ude00"]"#, "😀", ""),
        (r#"42["🦀",null]"#, "🦀", "null"),
        (r#"42[5,"x"]"#, "5", r#""x""#),
        (r#"42[""]"#, "", ""),
        ("42[ \"a\" , { \"b\" : 1.50 } ]", "a", "{ \"b\" : 1.50 }"),
    ] {
        ws.send(packet).await;
        server.wait_for(&event("/", name, args)).await;
    }
}

#[tokio::test]
async fn attachments_go_both_ways_over_both_transports() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    ws.send(&format!("451-5[\"up\",{placeholder}]")).await;
    ws.binary(&[1, 2, 3]).await;
    assert_eq!(ws.text().await, format!("461-5[{placeholder}]"));
    assert_eq!(ws.next().await, Frame::Binary(vec![1, 2, 3]));
    server.wait_for(&Call::Event("up".to_owned(), placeholder.to_owned(), Some(5), 1)).await;

    let session = server.poll().await;
    server.post(&session, "40").await;
    assert!(server.get(&session).await.body.starts_with("40{"));
    server.post(&session, &format!("451-[\"message\",{placeholder}]\u{1e}bAQID")).await;
    assert_eq!(server.get(&session).await.body, format!("451-[\"message-back\",{placeholder}]\u{1e}bAQID"));
    // A BINARY_EVENT without attachments.
    server.post(&session, "450-[\"message\",1]").await;
    assert_eq!(server.get(&session).await.body, "42[\"message-back\",1]");
}

#[tokio::test]
async fn ask_resolves_to_the_answer_of_the_client() {
    let server = Server::start(Config { asks: 2, ..Config::default() }).await;
    let mut ws = server.connected("").await;
    let socket = server.probe.socket(0);
    let number = next_ask();
    let question = Outgoing { namespace: "/", name: "ask", args: "1", ask: Some(number), ..Outgoing::default() }.encode();
    let asked = socket.ask(&question, number).unwrap();
    assert_eq!(ws.text().await, format!("42{number}[\"ask\",1]"));
    ws.send(&format!("461-{number}[\"yes\",{{\"_placeholder\":true,\"num\":0}}]")).await;
    ws.binary(b"x").await;
    let answer = asked.await.unwrap();
    assert_eq!(answer.args, r#""yes",{"_placeholder":true,"num":0}"#);
    assert_eq!(answer.attachments, [Bytes::from_static(b"x")]);

    let ask = || {
        let number = next_ask();
        socket.ask(&Outgoing { namespace: "/", name: "ask", ask: Some(number), ..Outgoing::default() }.encode(), number)
    };
    let (first, second) = (ask().unwrap(), ask().unwrap());
    assert_eq!(ask().err(), Some(AskError::TooMany));
    drop(first);
    let third = ask().unwrap();
    drop(ws);
    assert_eq!(second.await, Err(AskError::Closed));
    assert_eq!(third.await, Err(AskError::Closed));
    assert_eq!(ask().err(), Some(AskError::Closed));
}

#[tokio::test]
async fn what_a_handler_sends_to_its_client_is_written_together_with_the_ack() {
    let server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    ws.send("427[\"message\",1]").await;
    let mut written = [0; 100];
    let count = timeout(SOON, ws.stream.read(&mut written)).await.unwrap().unwrap();
    assert_eq!(&written[..count], b"\x81\x1442[\"message-back\",1]\x81\x06437[1]" as &[u8]);
}

#[tokio::test]
async fn client_disconnect_ends_one_namespace_only() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    ws.send("40/custom").await;
    assert!(ws.text().await.starts_with("40/custom,{"));
    ws.send("41/custom,").await;
    server.wait_for(&Call::Disconnected("/custom".to_owned(), Reason::ClientDisconnect)).await;
    ws.send("421[\"still here\"]").await;
    assert_eq!(ws.text().await, "431[]");
    ws.send("40/custom").await;
    assert!(ws.text().await.starts_with("40/custom,{"), "it may come back");
}

#[tokio::test]
async fn server_disconnect_ends_one_socket_and_ignores_its_later_events() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    ws.send("40/custom").await;
    ws.text().await;
    ws.send("42[\"leave\"]").await;
    ws.send("42[\"late\"]").await;
    assert_eq!(ws.text().await, "41");
    server.wait_for(&Call::Disconnected("/".to_owned(), Reason::ServerDisconnect)).await;
    // An event that the client sent before it was notified does not end the connection.
    ws.send("42[\"later\"]").await;
    ws.send("42/custom,1[\"x\"]").await;
    assert_eq!(ws.text().await, "43/custom,1[]");
    assert_eq!(server.call().await, Call::Event("x".to_owned(), String::new(), Some(1), 0));
    ws.send("40").await;
    assert!(ws.text().await.starts_with("40{"), "it may come back");
}

#[tokio::test]
async fn close_sends_the_queue_first() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    ws.send("42[\"message\",1]").await;
    ws.send("42[\"close\"]").await;
    assert_eq!(ws.text().await, "42[\"message-back\",1]");
    assert_eq!(ws.next().await, Frame::Close(None));
    server.wait_for(&Call::Disconnected("/".to_owned(), Reason::Closed("come_back"))).await;
    assert_eq!(server.ended().await, Reason::Closed("come_back"));

    let session = server.poll().await;
    server.post(&session, "40\u{1e}42[\"message\",1]\u{1e}42[\"close\"]").await;
    assert_eq!(server.ended().await, Reason::Closed("come_back"));
    let body = server.get(&session).await.body;
    assert!(body.starts_with("40{") && body.ends_with("\u{1e}42[\"message-back\",1]"), "no close packet: {body}");
    assert_eq!(server.get(&session).await.status, 400);
    server.is_empty().await;
}

#[tokio::test]
async fn a_disconnect_is_read_though_writing_has_failed() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    let (connection, socket) = (support::connection(&server), server.probe.socket(0));
    connection.pause();
    ws.send("41").await;
    drop(ws);
    let message = Outgoing { namespace: "/", name: "late", ..Outgoing::default() }.encode();
    while socket.send(&message) != Sent::Closed {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.wait_for(&Call::Disconnected("/".to_owned(), Reason::ClientDisconnect)).await;
}

#[tokio::test]
async fn a_poll_is_answered_when_its_client_leaves() {
    let server = Server::start(Config::default()).await;
    let session = server.poll().await;
    server.post(&session, "40").await;
    assert!(server.get(&session).await.body.starts_with("40{"));
    loop {
        let (address, query) = (server.address, session.clone());
        let mut poll = tokio::spawn(async move { support::request(address, "GET", &query, &[], "").await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.post(&session, "41").await;
        if let Ok(answer) = timeout(Duration::from_millis(200), &mut poll).await {
            return assert_eq!(answer.unwrap().body, "6");
        }
        // The poll has arrived after the DISCONNECT.
        server.post(&session, "40").await;
        assert!(poll.await.unwrap().body.starts_with("40{"));
    }
}

#[tokio::test]
async fn pause_stops_reading_until_resume() {
    let config =
        Config { ping_interval: Duration::from_millis(30), ping_timeout: Duration::from_millis(30), ..Config::default() };
    let server = Server::start(config).await;
    let mut ws = server.connected("").await;
    let connection = support::connection(&server);
    connection.pause();
    for number in 0..100 {
        ws.send(&format!("42{number}[\"x\",\"{}\"]", "y".repeat(200))).await;
    }
    ws.send("3").await;
    assert!(timeout(Duration::from_millis(900), ws.next()).await.is_err(), "nothing is read, and no pong is missed");
    connection.resume();
    for number in 0..100 {
        assert!(ws.text().await.starts_with(&format!("43{number}[")));
    }

    let server = Server::start(Config::default()).await;
    let session = server.poll().await;
    let polling = support::connection(&server);
    polling.pause();
    let address = server.address;
    let query = session.clone();
    let post = tokio::spawn(async move { support::request(address, "POST", &query, &[], "40").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!post.is_finished(), "the POST waits");
    polling.resume();
    assert_eq!(post.await.unwrap().body, "ok");
}

#[tokio::test]
async fn each_limit_ends_the_connection_with_its_reason() {
    let small = || Config {
        namespaces: 2,
        namespace_bytes: 20,
        early_events: 2,
        attachments: 3,
        attachment_bytes: 10,
        attachment_timeout: Duration::from_millis(50),
        connect_timeout: Duration::from_millis(300),
        post_packets: 4,
        ..Config::default()
    };
    let mut server = Server::start(small()).await;
    for (packets, limit) in [
        (vec!["40", "40/custom", "40/third"], Limit::Namespaces),
        (vec!["40/a-name-that-is-too-long"], Limit::NamespaceBytes),
        (vec!["40/slow", "42/slow,[\"1\"]", "42/slow,[\"2\"]", "42/slow,[\"3\"]"], Limit::EarlyEvents),
        (vec!["40", "454-[\"x\"]"], Limit::Attachments),
        (vec!["40", "45100000-[\"x\"]"], Limit::Attachments),
        (vec!["40", "452-[\"x\"]", "b:123456", "b:12345"], Limit::AttachmentBytes),
        (vec!["40", "452-[\"x\"]", "b:123456"], Limit::AttachmentTimeout),
        (vec!["40/none"], Limit::ConnectTimeout),
        (vec!["40", "41"], Limit::ConnectTimeout),
    ] {
        let mut ws = server.websocket().await;
        for packet in &packets {
            match packet.strip_prefix("b:") {
                Some(bytes) => ws.binary(bytes.as_bytes()).await,
                None => ws.send(packet).await,
            }
        }
        while !matches!(ws.next().await, Frame::Close(None)) {}
        if limit == Limit::EarlyEvents {
            // The connection ends after its pending connect is decided.
            server.probe.gate.notify_one();
        }
        assert_eq!(server.ended().await, Reason::Limit(limit), "{packets:?}");
    }
    let session = server.poll().await;
    assert_eq!(server.post(&session, &["6"; 5].join("\u{1e}")).await.status, 400);
    assert_eq!(server.ended().await, Reason::Limit(Limit::PostPackets));
}
