//! Invalid input that no correct client sends. It must never affect other clients: two of them chat during every test here.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::End;
use tests::packet::Packet;
use tests::polling::Polling;
use tests::{Client, Server};

use crate::helpers::{member, open_chat, say, user};

/// Two users that chat while a third one sends invalid input.
struct Others(Client, Client);

impl Others {
    async fn keep_chatting(&mut self) {
        let before = Instant::now();
        say(&mut self.0, "c1", "still here?").await;
        self.1.next("chat:message").await;
        assert!(before.elapsed() < Duration::from_secs(2), "it took {:?}", before.elapsed());
    }
}

async fn chatting_server() -> (Server, Others) {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia", "eva"]).await;
    let others = Others(member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    (server, others)
}

#[tokio::test]
async fn an_oversized_message_ends_only_its_own_connection() {
    let (server, mut others) = chatting_server().await;
    for size in [100_001, 2_000_000] {
        let mut eva = server.connect("/chat", user("eva")).await;
        eva.send_raw(&format!("42/chat,[\"chat:message\",\"{}\"]", "x".repeat(size))).await;
        assert_eq!(eva.ended().await, End::Closed, "{size} bytes");
        others.keep_chatting().await;
    }
    let mut eva = member(&server, "eva", "c1").await;
    let (code, _) = eva.refused("chat:message", json!({"chatId": "c1", "content": "x".repeat(90_000)})).await;
    assert_eq!(code, "invalid", "a large message within the limit: only the event is refused");
    let polling = Polling::open(&server).await;
    let status = polling.send(format!("42[\"x\",\"{}\"]", "x".repeat(200_000))).await;
    assert!((400..500).contains(&status), "polling: {status}");
    others.keep_chatting().await;
}

#[tokio::test]
async fn malformed_packets_affect_no_other_client() {
    let (server, mut others) = chatting_server().await;
    let malformed = [
        "",
        "4",
        "42",
        "42/chat",
        "42/chat,",
        "42/chat,{}",
        "42/chat,[]",
        "42/chat,[1]",
        "42/chat,[null]",
        "42/chat,[[\"a\"]]",
        "42/chat,[\"a\"",
        "42/chat,[\"a\",]",
        "42/chat,nonsense",
        "42/chat,99999999999999999999999[\"a\"]",
        "42/chat,-1[\"a\"]",
        "43/chat,7[]",
        "44/chat,{}",
        "45/chat,1-[\"a\"]",
        "451-/chat,[\"a\"]",
        "46/chat,1-[]",
        "40/chat,{\"token\":",
        "41/nowhere,",
        "49",
        "9",
        "x",
        "42/chat,[\"a\\",
        "42/chat,[\"\\ud800\"]",
        "0{}",
        "1",
        "3",
        "5",
        "6",
        "2probe",
    ];
    for frame in malformed {
        let mut eva = server.connect("/chat", user("eva")).await;
        eva.send_raw(frame).await;
        others.keep_chatting().await;
    }
    let mut eva = server.connect("/chat", user("eva")).await;
    eva.send_binary(vec![0; 1000]).await;
    others.keep_chatting().await;
    assert!(server.connect("/chat", user("eva")).await.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null());
}

#[tokio::test]
async fn reserved_empty_and_long_event_names_are_invalid() {
    let (server, mut others) = chatting_server().await;
    let mut eva = member(&server, "eva", "c1").await;
    let long = "x".repeat(300);
    let names = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "", &long];
    for name in names {
        let (code, _) = eva.refused(name, json!({})).await;
        assert_eq!(code, "invalid", "{name:?}");
    }
    others.keep_chatting().await;
}

#[tokio::test]
async fn unusual_event_names_end_at_most_their_own_connection() {
    let (server, mut others) = chatting_server().await;
    let odd = [
        r#"["a\u0000b",{}]"#,
        r#"["a\nb",{}]"#,
        r#"["chat:typ\u0069ng",{"chatId":7}]"#,
        r#"[7,{}]"#,
        r#"[null]"#,
        r#"[true]"#,
        r#"[["chat:join"]]"#,
        r#"[{"a":1},1]"#,
    ];
    for args in odd {
        let mut eva = server.connect("/chat", user("eva")).await;
        eva.send_raw(&format!("42/chat,901{args}")).await;
        if let Some(ack) = eva.acked_or_ended(901).await {
            let code = if args.starts_with("[7") { "not_found" } else { "invalid" };
            assert_eq!(ack["error"]["code"], code, "{args}");
        }
        others.keep_chatting().await;
    }
}

#[tokio::test]
async fn an_unknown_event_is_not_found() {
    let (server, _others) = chatting_server().await;
    let mut eva = server.connect("/chat", user("eva")).await;
    for name in ["no:such", "__proto__", "constructor", "chat:join ", "Chat:Join", "chat:message:extra"] {
        let refusal = eva.refused(name, json!({})).await;
        assert_eq!(refusal, ("not_found".to_owned(), "Unknown event".to_owned()), "{name}");
    }
    eva.emit("no:such", json!({})).await;
    let error = json!({"code": "not_found", "message": "Unknown event", "event": "no:such"});
    assert_eq!(eva.next("error").await, error);
}

#[tokio::test]
async fn deep_nesting_and_binary_are_invalid_and_trailing_garbage_ends_the_connection() {
    let (server, mut others) = chatting_server().await;
    let mut eva = member(&server, "eva", "c1").await;
    for depth in [65, 1000, 40_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        eva.send_raw(&format!("42/chat,{depth}[\"chat:typing\",{open}{close}]")).await;
        assert_eq!(eva.acked(depth as u64).await["error"]["code"], "invalid", "{depth} levels");
    }
    eva.send_raw("451-/chat,801[\"chat:message\",{\"_placeholder\":true,\"num\":0}]").await;
    eva.send_binary(vec![1, 2, 3]).await;
    assert_eq!(eva.acked(801).await["error"]["code"], "invalid", "a binary attachment");
    assert_eq!(eva.ask("chat:typing", json!({"chatId": "c1"})).await, json!({}), "and the socket stays open");
    for garbage in ["garbage", "[1]", "}"] {
        let mut eva = member(&server, "eva", "c1").await;
        eva.send_raw(&format!("42/chat,802[\"chat:typing\",{{\"chatId\":\"c1\"}}]{garbage}")).await;
        assert_eq!(eva.ended().await, End::Closed, "followed by {garbage}, which is not JSON");
    }
    others.keep_chatting().await;
}

#[tokio::test]
async fn invalid_payloads_are_refused_without_internal_details() {
    let (server, mut others) = chatting_server().await;
    let mut eva = member(&server, "eva", "c1").await;
    let wrong = [
        json!(null),
        json!(1),
        json!("c1"),
        json!([]),
        json!([{"chatId": "c1"}]),
        json!({}),
        json!({"chatId": 1}),
        json!({"chatId": null}),
    ];
    for payload in wrong {
        for event in ["chat:join", "chat:message", "chat:typing", "chat:leave", "chat:history", "chat:read"] {
            let (code, message) = eva.refused(event, payload.clone()).await;
            assert_eq!(code, "invalid", "{event} {payload}: {message}");
            for word in ["serde", "struct", "src/", "panicked", "expected", "line 1"] {
                assert!(!message.contains(word), "{event} {payload}: {message}");
            }
        }
    }
    // No payload at all, and more than one.
    let id = eva.emit_for_ack(&json!(["chat:join"])).await;
    assert_eq!(eva.acked(id).await["error"]["code"], "invalid");
    let id = eva.emit_for_ack(&json!(["chat:typing", {"chatId": "c1"}, "more", 1, null])).await;
    assert!(eva.acked(id).await["error"]["code"].as_str().is_none_or(|code| code == "invalid"));
    others.keep_chatting().await;
}

#[tokio::test]
async fn events_before_the_namespace_connects_are_ignored() {
    let (server, mut others) = chatting_server().await;
    let mut early = Client::open(server.address(), &().into()).await.expect("a websocket");
    early.send_raw("42/chat,[\"chat:message\",{\"chatId\":\"c1\",\"content\":\"I was never let in\"}]").await;
    early.send_raw("420[\"chat:join\",{\"videoId\":\"v1\"}]").await;
    others.keep_chatting().await;
    let polling = Polling::open(&server).await;
    match polling.connect("/chat", None).await {
        Packet::ConnectError { data, .. } => assert_eq!(data["message"], Value::from("Authentication error")),
        other => panic!("accepted: {other:?}"),
    }
    polling.send("42/chat,[\"chat:message\",{\"chatId\":\"c1\",\"content\":\"nor was I\"}]".into()).await;
    others.1.expect_none("chat:message").await;
}

#[tokio::test]
async fn a_sockets_id_opens_and_feeds_no_session() {
    let (server, mut others) = chatting_server().await;
    let victim = Polling::open(&server).await;
    let auth = json!({"token": user("eva").sign()});
    let Packet::Connect { data, .. } = victim.connect("/chat", Some(&auth)).await else { panic!("refused") };
    let id = data["sid"].as_str().expect("a socket id");
    assert_ne!(id, victim.sid());
    let url = victim.url().replace(victim.sid(), id);
    let posted = server.http().post(&url).body("41/chat,").send().await.expect("an answer");
    assert_eq!((posted.status().as_u16(), posted.text().await.expect("a body").contains("Session ID unknown")), (400, true));
    assert_eq!(server.http().get(&url).send().await.expect("an answer").status(), 400);
    assert_eq!(victim.send(r#"42/chat,1["chat:join",{"chatId":"c1"}]"#.into()).await, 200, "the session is untouched");
    others.keep_chatting().await;
}
