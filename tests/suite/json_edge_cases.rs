//! Texts and numbers that JSON allows and that few programs expect. They must never end a connection that Node's server would
//! keep open.

use serde_json::{Value, json};
use tests::client::End;
use tests::node_server::NodeServer;
use tests::packet::Packet;
use tests::polling::Polling;
use tests::redis::Redis;
use tests::stock::Transports;
use tests::{Client, Server, Stock, token, wait};

use crate::helpers::{member, open_chat, user};

/// The replacement character for a lone surrogate.
const CUT: &str = "\u{fffd}";

/// Texts as clients write them and as others receive them.
const TEXTS: [(&str, &str); 4] = [
    (r"ok \ud83d\ude00", "ok 😀"),
    (r"cut \ud83d", "cut \u{fffd}"),
    (r"\uDF38 low", "\u{fffd} low"),
    (r"a\ud83db", "a\u{fffd}b"),
];

async fn emit(client: &mut Client, id: u64, args: &str) -> Value {
    client.send_raw(&format!("42/chat,{id}{args}")).await;
    client.acked(id).await
}

#[tokio::test]
async fn lone_surrogates_in_a_payload_become_replacement_characters() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let (mut ana, mut bia) = (member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    for (id, (written, received)) in (900..).zip(TEXTS) {
        let args = format!(r#"["chat:message",{{"chatId":"c1","content":"{written}"}}]"#);
        assert_eq!(emit(&mut ana, id, &args).await, json!({}), "{written}");
        assert_eq!(bia.next("chat:message").await["content"], received);
    }
    let extra = r#"["chat:typing",{"chatId":"c1","draft":"\ud83d","\ud83d":1}]"#;
    assert_eq!(emit(&mut ana, 910, extra).await, json!({}), "in an unused field");
    let id = r#"["chat:join",{"chatId":"c1\ud83d"}]"#;
    assert_eq!(emit(&mut ana, 911, id).await["error"]["message"], "Not authorized", "in an id");
    assert_eq!(ana.ask("chat:typing", json!({"chatId": "c1"})).await, json!({}), "and the socket stays open");
}

#[tokio::test]
async fn a_lone_surrogate_in_an_event_name_is_an_unknown_event() {
    let server = Server::dev().start().await;
    let names = [(r"chat:\ud83d", format!("chat:{CUT}")), (r"ol\u00e1", "olá".to_owned()), (r"\ud83d\ude00", "😀".to_owned())];
    let mut ana = server.connect("/chat", user("ana")).await;
    let polling = Polling::open(&server).await;
    polling.connect("/chat", Some(&json!({"token": user("ana").sign()}))).await;
    for (id, (written, name)) in (900..).zip(names) {
        assert_eq!(emit(&mut ana, id, &format!(r#"["{written}",{{}}]"#)).await["error"]["message"], "Unknown event", "{written}");
        ana.send_raw(&format!(r#"42/chat,["{written}"]"#)).await;
        assert_eq!(ana.next("error").await["event"], name);
        assert_eq!(polling.send(format!(r#"42/chat,["{written}",1]"#)).await, 200);
        assert_eq!(next_error(&polling).await["event"], name);
    }
    let written = r#"["chat:typ\u0069ng",{"chatId":7}]"#;
    assert_eq!(emit(&mut ana, 950, written).await["error"]["message"], "chatId: must be a string", "the decoded event name");
    for escaped in [r#"["a\"b"]"#, r#"["a\\b"]"#] {
        assert_eq!(emit(&mut ana, 951, escaped).await["error"]["message"], "Unknown event", "{escaped}");
    }
    assert_eq!(emit(&mut ana, 952, r#"["a\nb"]"#).await["error"]["code"], "invalid", "a control character");
}

/// The next `error` event over polling.
async fn next_error(polling: &Polling) -> Value {
    loop {
        for packet in polling.poll().await {
            match packet {
                Packet::Event { args, .. } if args[0] == "error" => return args[1].clone(),
                Packet::Ping => assert_eq!(polling.send("3".into()).await, 200),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn lone_surrogates_in_the_auth_object_or_a_claim_are_accepted() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let token = token("x").sign_text(r#"{"sub":"ana","name":"A\ud83d","exp":9999999999}"#);
    let polling = Polling::open(&server).await;
    let connect = format!(r#"40/chat,{{"token":"{token}","device":"Ana\ud83d","\udc00":null}}"#);
    assert_eq!(polling.send(connect).await, 200);
    wait::until("the answer to the connect", wait::DEADLINE, async || {
        let packets = polling.poll().await;
        assert!(packets.iter().all(|packet| matches!(packet, Packet::Ping | Packet::Connect { .. })), "{packets:?}");
        packets.iter().any(|packet| matches!(packet, Packet::Connect { .. })).then_some(())
    })
    .await;
    let cut_id = tests::token("x").sign_text(r#"{"sub":"ana\ud83d","exp":9999999999}"#);
    assert_eq!(server.connect_refused("/chat", cut_id.as_str()).await, "Invalid token", "two users must not become one");
}

#[tokio::test]
async fn lone_surrogates_from_a_backend_become_replacement_characters() {
    let server = Server::dev().start().await;
    let mut ana = server.connect("/", token("ana")).await;
    let api = async |path: &str, body: &str| {
        let request = server.http().post(server.url(path)).bearer_auth(tests::server::API_KEY).body(body.to_owned());
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    };
    let publish =
        r#"{"topic":"notification.created","data":{"userId":"ana","type":"t","title":"cut \ud83d","message":"m","link":null}}"#;
    assert_eq!(api("/api/publish", publish).await.0, 202);
    assert_eq!(ana.next("notification:new").await["title"], format!("cut {CUT}"));
    let emit = r#"{"namespace":"/","user":"ana","event":"x","args":[{"\ud83d":"\ude00"}]}"#;
    assert_eq!(api("/api/emit", emit).await.0, 202);
    assert_eq!(ana.next("x").await, json!({CUT: CUT}));
    let (status, text) = api("/api/publish", r#"{"topic":"a\ud83d","data":1}"#).await;
    assert_eq!(status, 400);
    assert!(text.contains("topic") && !text.contains("line 1"), "{text}");
}

#[tokio::test]
async fn stock_clients_stay_connected_after_sending_lone_surrogates() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut bia = member(&server, "bia", "c1").await;
    for stock in Stock::ALL {
        for transports in [Transports::Websocket, Transports::Polling] {
            let mut ana = stock.connect(&server, "/chat", user("ana"), transports).await.expect("accepted");
            wait::eventually("the chat to exist", async || {
                ana.ask("chat:join", json!({"chatId": "c1"})).await["error"].is_null()
            })
            .await;
            let ack = ana.emit_text_for_ack(r#"["chat:message",{"chatId":"c1","content":"cut \ud83d"}]"#).await;
            assert_eq!(ana.acked(ack).await, json!({}), "{stock:?} over {transports:?}");
            assert_eq!(bia.next("chat:message").await["content"], format!("cut {CUT}"));
            let ack = ana.emit_text_for_ack(r#"["chat:\ud83d",{}]"#).await;
            assert_eq!(ana.acked(ack).await["error"]["code"], "not_found", "{stock:?} over {transports:?}");
            ana.expect_none("disconnect");
        }
    }
}

#[tokio::test]
async fn unrepresentable_numbers_are_rounded_as_in_node_or_refused() {
    let server = Server::dev().start().await;
    let mut ana = server.connect("/", token("ana")).await;
    let mut phone = server.connect("/", token("ana")).await;
    let progress = |number: &str| format!(r#"["video:progress",{{"videoId":"v1","timestamp":{number}}}]"#);
    for (written, received) in
        [("9007199254740993", json!(9_007_199_254_740_993_u64)), ("12345678901234567890123", json!(1.234_567_890_123_456_8e22))]
    {
        ana.send_raw(&format!("421{}", progress(written))).await;
        assert_eq!(ana.acked(1).await, json!({}), "{written}");
        assert_eq!(phone.next("video:sync").await["timestamp"], received);
    }
    ana.send_raw(&format!("422{}", progress("1e999"))).await;
    let refused = ana.acked(2).await;
    assert_eq!(refused["error"], json!({"code": "invalid", "message": "timestamp: too large a number"}));
    for no_json in ["NaN", "Infinity", "-Infinity", "01", "0x1", ".5"] {
        let mut eva = server.connect("/", token("eva")).await;
        eva.send_raw(&format!("421{}", progress(no_json))).await;
        assert_eq!(eva.ended().await, End::Closed, "{no_json} ends the connection, as Node's server does");
    }
}

#[tokio::test]
async fn after_nan_a_client_reconnects_as_with_nodes_server() {
    let server = Server::dev().start().await;
    let node = NodeServer::start(Redis::shared().await).await;
    let nan = r#"["video:progress",{"videoId":"v1","timestamp":NaN}]"#;
    let mut reasons = Vec::new();
    for url in [server.url(""), node.url()] {
        let mut ana = Stock::Python.connect_at(&url, "/", token("ana"), Transports::Websocket).await.expect("accepted");
        ana.emit_text_for_ack(nan).await;
        reasons.push(ana.disconnected().await);
        ana.reconnected().await;
    }
    assert_eq!(reasons[0], reasons[1]);
    // Node's server also ends the connection over polling, but its close packet stops Python's client from reconnecting.
    let mut ana = Stock::Python.connect(&server, "/", token("ana"), Transports::Polling).await.expect("accepted");
    ana.emit_text_for_ack(nan).await;
    ana.disconnected().await;
}

#[tokio::test]
async fn a_refused_binary_event_is_reported_with_and_without_an_ack() {
    let server = Server::dev().start().await;
    let mut ana = server.connect("/chat", user("ana")).await;
    let message = "chat:message: binary attachments are not supported";
    ana.send_raw(r#"451-/chat,["chat:message",{"_placeholder":true,"num":0}]"#).await;
    ana.send_binary(vec![1, 2, 3]).await;
    assert_eq!(ana.next("error").await, json!({"message": message, "code": "invalid", "event": "chat:message"}));
    ana.send_raw(r#"452-/chat,7["chat:message",{"a":{"_placeholder":true,"num":0},"b":{"_placeholder":true,"num":1}}]"#).await;
    ana.send_binary(vec![1]).await;
    ana.send_binary(vec![2]).await;
    assert_eq!(ana.acked(7).await, json!({"error": {"code": "invalid", "message": message}}));

    let polling = Polling::open(&server).await;
    polling.connect("/chat", Some(&json!({"token": user("ana").sign()}))).await;
    let packets = "451-/chat,[\"chat:message\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID";
    assert_eq!(polling.send(packets.to_owned()).await, 200);
    assert_eq!(next_error(&polling).await, json!({"message": message, "code": "invalid", "event": "chat:message"}));
}
