//! Events that a client sends again with the same `clientId`: they take effect once, and get the first reply again. Must never depend on
//! the speed of the storage.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::stock::Transports;
use tests::{Client, Server, Stock, TcpProxy, Token, token, wait};

use crate::helpers::{member, open_chat, user};

/// A user of a company with the conversation `c1`.
fn of(company: &str, id: &str) -> Token {
    token(id).claim("userId", id).claim("companyId", company)
}

async fn connect(server: &Server, who: Token) -> Client {
    let mut client = server.connect("/conversations", who).await;
    wait::eventually("the conversation", async || client.ask("join:conversation", json!("c1")).await == json!({})).await;
    client
}

async fn company(server: &Server, company: &str) -> Client {
    server.publish("conversation.upserted", json!({"companyId": company, "conversationId": "c1"})).await;
    connect(server, of(company, "ana")).await
}

/// Sends a message and returns its reply.
async fn send(client: &mut Client, content: &str, key: &str) -> Value {
    let reply = client.ask("message:send", json!({"conversationId": "c1", "content": content, "clientId": key})).await;
    assert!(reply["id"].is_string(), "{content} {key}: {reply}");
    reply
}

/// The contents of the stored messages, the newest first.
async fn stored(client: &mut Client) -> Vec<Value> {
    let (mut contents, mut before) = (Vec::new(), None);
    loop {
        let mut request = json!({"conversationId": "c1", "limit": 100});
        request.as_object_mut().unwrap().extend(before.map(|before| ("before".to_owned(), before)));
        let page = client.ask("message:history", request).await;
        contents.extend(page["messages"].as_array().expect("messages").iter().map(|message| message["content"].clone()));
        before = page.get("nextBefore").cloned();
        if before.is_none() {
            return contents;
        }
    }
}

async fn metric(server: &Server, name: &str) -> f64 {
    server.metrics().await.get(name, &[]).unwrap_or_default()
}

#[tokio::test]
async fn a_repeat_gets_the_first_reply_and_sends_nothing_to_the_room() {
    let server = Server::dev().single_node().start().await;
    let mut ana = company(&server, "acme").await;
    let first = send(&mut ana, "hi", "m1").await;
    assert_eq!(ana.next("message:new").await["clientId"], "m1");
    assert_eq!(ana.next("message:sent").await, first);
    assert_eq!(send(&mut ana, "another text", "m1").await, first);
    assert_eq!(ana.next("message:sent").await, first, "the reply as an event too");
    ana.expect_none("message:new").await;
    assert_eq!(stored(&mut ana).await, ["hi"]);
    assert_eq!(metric(&server, "hubbub_once_repeats_total").await, 1.0);
}

#[tokio::test]
async fn a_repeat_is_recognized_after_a_reconnect_a_restart_and_a_kill() {
    let mut server = Server::dev().start().await;
    let mut ana = company(&server, "acme").await;
    let first = send(&mut ana, "hi", "m1").await;
    ana.close().await;
    let mut ana = connect(&server, of("acme", "ana")).await;
    assert_eq!(send(&mut ana, "hi", "m1").await, first);
    server.restart().await;
    let mut ana = connect(&server, of("acme", "ana")).await;
    assert_eq!(send(&mut ana, "hi", "m1").await, first);
    let last = send(&mut ana, "last", "m2").await;
    server.kill9();
    server.start_again().await;
    let mut ana = connect(&server, of("acme", "ana")).await;
    assert_eq!(send(&mut ana, "last", "m2").await, last);
    assert_eq!(stored(&mut ana).await, ["last", "hi"]);
}

#[tokio::test]
async fn of_concurrent_repeats_one_takes_effect_and_all_get_its_reply() {
    let server = Server::dev().start().await;
    let mut ana = company(&server, "acme").await;
    let mut devices = Vec::new();
    for _ in 0..8 {
        devices.push(connect(&server, of("acme", "ana")).await);
    }
    for round in 0..20 {
        let key = format!("m{round}");
        let replies = join_all(devices.iter_mut().map(|device| send(device, &key, &key))).await;
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    }
    assert_eq!(stored(&mut ana).await.len(), 20);
}

#[tokio::test]
async fn the_same_key_of_another_user_or_company_is_no_repeat() {
    let server = Server::dev().start().await;
    let (mut ana, mut spy) = (company(&server, "acme").await, company(&server, "bolt").await);
    let mut ben = connect(&server, of("acme", "ben")).await;
    send(&mut ana, "of ana", "m1").await;
    send(&mut ben, "of ben", "m1").await;
    send(&mut spy, "of another company", "m1").await;
    assert_eq!(
        (stored(&mut ana).await, stored(&mut spy).await),
        (vec![json!("of ben"), json!("of ana")], vec![json!("of another company")])
    );
}

#[tokio::test]
async fn a_refused_event_is_not_remembered() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = server.connect("/chat", user("ana")).await;
    let message = json!({"chatId": "c1", "content": "hi", "clientId": "m1"});
    assert_eq!(ana.refused("chat:message", message.clone()).await.0, "forbidden");
    let mut ana = member(&server, "ana", "c1").await;
    for _ in 0..2 {
        assert_eq!(ana.ask("chat:message", message.clone()).await, json!({}));
    }
    assert_eq!(ana.next("chat:message").await["clientId"], "m1");
    ana.expect_none("chat:message").await;
}

#[tokio::test]
async fn a_repeat_is_answered_when_the_budget_is_used_up() {
    let server = Server::dev().single_node().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let message = |key: usize| json!({"chatId": "c1", "content": "hi", "clientId": key.to_string()});
    for key in 0..10 {
        for _ in 0..2 {
            assert_eq!(ana.ask("chat:message", message(key)).await, json!({}), "{key}");
        }
    }
    assert_eq!(ana.refused("chat:message", message(10)).await.0, "rate_limited");
    assert_eq!(ana.ask("chat:message", message(0)).await, json!({}));
}

#[tokio::test]
async fn a_key_that_is_no_short_text_is_refused() {
    let server = Server::dev().start().await;
    let mut ana = company(&server, "acme").await;
    let message = |key: Value| json!({"conversationId": "c1", "content": "hi", "clientId": key});
    let invalid = ("invalid".to_owned(), "clientId: expected a text of 1 to 64 characters".to_owned());
    for key in [json!(""), json!("é".repeat(65)), json!(1), json!({})] {
        assert_eq!(ana.refused("message:send", message(key.clone())).await, invalid, "{key}");
    }
    send(&mut ana, "hi", &"é".repeat(64)).await;
    for without in [json!({"conversationId": "c1", "content": "without"}), message(json!(null))] {
        assert!(ana.ask("message:send", without).await["id"].is_string());
    }
    assert_eq!(stored(&mut ana).await.len(), 3);
}

#[tokio::test]
async fn a_visitors_key_is_ignored() {
    let server = Server::dev().start().await;
    let mut visitor = server.connect("/", ()).await;
    let message = json!({"videoId": "v1", "message": "hi", "clientId": "x".repeat(65)});
    assert_eq!(visitor.refused("chat:message", message).await.0, "unauthenticated");
}

#[tokio::test]
async fn every_product_echoes_the_key_only_where_it_was_sent() {
    let server = Server::dev().start().await;
    server.publish("thread.upserted", json!({"threadId": "t1", "customer": {"id": "cal", "name": "Cal"}})).await;
    let mut fan = server.connect("/", user("ana")).await;
    fan.ask("chat:join", json!({"videoId": "v1"})).await;
    let mut ana = server.connect("/hub", user("ana").claim("role", "ATTENDANT")).await;
    let mut cal = server.connect("/portal", user("cal")).await;
    for client in [&mut ana, &mut cal] {
        wait::eventually("the thread", async || client.ask("join:thread", json!("t1")).await == json!({})).await;
    }
    let chat = ("chat:message", json!({"videoId": "v1", "message": "hi"}), "chat:message");
    let thread = ("thread:send", json!({"threadId": "t1", "content": "hi"}), "thread:message");
    for (client, (event, mut payload, sent)) in [(&mut fan, chat), (&mut ana, thread.clone()), (&mut cal, thread)] {
        client.ask(event, payload.clone()).await;
        assert_eq!(client.next(sent).await.get("clientId"), None, "{event}");
        payload["clientId"] = json!("m1");
        client.ask(event, payload.clone()).await;
        client.ask(event, payload).await;
        let other_side = client.next(sent).await;
        assert_eq!(other_side["clientId"], "m1", "{event}");
    }
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time() {
    let server = Server::dev().env("HUBBUB_ONCE__KEEP", "1s").start().await;
    let mut ana = company(&server, "acme").await;
    let first = send(&mut ana, "hi", "m1").await;
    wait::eventually("the key to be forgotten", async || send(&mut ana, "hi", "m1").await != first).await;
    assert_eq!(stored(&mut ana).await, ["hi", "hi"]);
}

#[tokio::test]
async fn past_its_bytes_a_user_loses_the_oldest_keys_alone() {
    let server = Server::dev().single_node().env("HUBBUB_ONCE__USER_BYTES", "2000").start().await;
    let mut ana = company(&server, "acme").await;
    let mut ben = connect(&server, of("acme", "ben")).await;
    let of_ben = send(&mut ben, "of ben", "m0").await;
    let mut replies = Vec::new();
    for n in 0..20 {
        replies.push(send(&mut ana, "hi", &format!("m{n}")).await);
    }
    assert_eq!(send(&mut ana, "hi", "m19").await, replies[19]);
    assert_ne!(send(&mut ana, "hi", "m0").await, replies[0]);
    assert_eq!(send(&mut ben, "of ben", "m0").await, of_ben);
    assert!(metric(&server, "hubbub_once_replies_dropped_total").await > 5.0);
}

/// Messages of a stock client that sends each until it is acked.
const SENT: usize = 300;

#[tokio::test]
async fn a_stock_client_with_retries_sends_each_message_once_and_in_order() {
    let mut server = Server::dev().single_node().start().await;
    company(&server, "acme").await.leave().await;
    // Most of the time an ack is on its way, so that cuts lose some.
    let proxy = TcpProxy::slow_to(server.address(), Duration::from_millis(5)).await;
    let (url, options) = (format!("http://{}", proxy.address()), json!({"retries": 50, "ackTimeout": 1000}));
    let connected = Stock::Node.connect_with(&url, "/conversations", of("acme", "ana"), Transports::Websocket, options).await;
    let mut ana = connected.expect("accepted");
    let mut acks = Vec::new();
    for n in 0..SENT {
        let message = json!({"conversationId": "c1", "content": n.to_string(), "clientId": format!("m{n}")});
        acks.push(ana.emit_for_ack("message:send", message).await);
    }
    let mut repeats = 0.0;
    for (n, ack) in acks.into_iter().enumerate() {
        let reply = ana.acked(ack).await;
        assert!(reply["id"].is_string(), "{n}: {reply}");
        match n % 100 {
            50 => {
                repeats += metric(&server, "hubbub_once_repeats_total").await;
                server.restart().await;
            }
            80 => {
                repeats += metric(&server, "hubbub_once_repeats_total").await;
                server.kill9();
                server.start_again().await;
            }
            at if at % 10 == 0 => {
                proxy.cut();
                proxy.redirect_to(server.address());
            }
            _ => {}
        }
    }
    assert!(repeats > 0.0, "no ack was lost");
    let expected: Vec<_> = (0..SENT).rev().map(|n| json!(n.to_string())).collect();
    assert_eq!(stored(&mut connect(&server, of("acme", "ana")).await).await, expected);
}
