//! Ephemeral events: typing, cursors and heartbeats of all products. Must never write to storage or to the bus, however many are
//! sent.

use serde_json::{Value, json};
use tests::{Client, Server, Token, wait};

use crate::helpers::{member, open_chat, publish_keyed, user};

/// How many of each event are sent.
const MANY: usize = 40;

fn at_acme(id: &str) -> Token {
    user(id).claim("userId", id).claim("companyId", "acme")
}

/// The number of commits so far and of messages that wait.
async fn traces(server: &Server) -> (f64, f64) {
    let metrics = server.metrics().await;
    let of = |name| metrics.get(name, &[]).unwrap_or_else(|| panic!("{name} is exposed"));
    (of("hubbub_storage_commits_total"), of("hubbub_bus_messages_queued"))
}

/// Waits until all published messages are handled.
async fn settled(server: &Server) -> (f64, f64) {
    let mut before = traces(server).await;
    wait::until("all messages to be handled", wait::DEADLINE, async || {
        let now = traces(server).await;
        let last = std::mem::replace(&mut before, now);
        (last == now && now.1 == 0.0).then_some(now)
    })
    .await
}

/// Connects two clients and joins both to a room with an event.
async fn two(server: &Server, namespace: &str, tokens: [Token; 2], join: (&str, Value)) -> [Client; 2] {
    let mut clients = Vec::new();
    for token in tokens {
        let mut client = server.connect(namespace, token).await;
        wait::eventually("the room to exist", async || client.ask(join.0, join.1.clone()).await["error"].is_null()).await;
        clients.push(client);
    }
    clients.try_into().unwrap_or_else(|_| panic!("two tokens are two clients"))
}

#[tokio::test]
async fn typing_cursors_and_heartbeats_touch_neither_storage_nor_bus() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    publish_keyed(&server, "t1", "thread.upserted", json!({"threadId": "t1", "customer": {"id": "bia", "name": "Bia"}})).await;
    publish_keyed(&server, "c1", "conversation.upserted", json!({"companyId": "acme", "conversationId": "c1"})).await;
    publish_keyed(&server, "c1", "conversation.created", json!({"id": "c1", "members": ["ana", "bia"]})).await;
    let team = json!({"conversation_id": "c1"});
    let attendants = ["ana", "bia"].map(|id| user(id).role("ATTENDANT"));
    let mut lms = [member(&server, "ana", "c1").await, member(&server, "bia", "c1").await];
    let mut video = two(&server, "/", [user("ana"), user("bia")], ("chat:join", json!({"videoId": "v1"}))).await;
    let mut desk = two(&server, "/hub", attendants, ("join:thread", json!("t1"))).await;
    let mut crm = two(&server, "/conversations", ["ana", "bia"].map(at_acme), ("join:conversation", json!("c1"))).await;
    let mut teams = two(&server, "/", [user("ana"), user("bia")], ("join_conversation", team.clone())).await;

    let mut customer = server.connect("/portal", user("bia")).await;

    let before = settled(&server).await;
    for n in 0..MANY {
        send_and_receive(&mut lms, "chat:typing", json!({"chatId": "c1"}), "chat:typing").await;
        send_and_receive(&mut video, "chat:typing", json!({"videoId": "v1", "isTyping": true}), "chat:typing").await;
        send_and_receive(&mut desk, "typing:start", json!("t1"), "thread:typing").await;
        send_and_receive(&mut desk, "typing:stop", json!({"threadId": "t1"}), "thread:typing").await;
        send_and_receive(&mut desk, "cursor:move", json!({"threadId": "t1", "x": n, "y": 1}), "thread:cursor").await;
        send_and_receive(&mut crm, "conversation:typing", json!("c1"), "conversation:typing").await;
        send_and_receive(&mut teams, "typing", team.clone(), "typing").await;
        assert_eq!(desk[0].ask("heartbeat", Value::Null).await, json!({}));
        assert_eq!(customer.ask("heartbeat", Value::Null).await, json!({}));
        assert_eq!(traces(&server).await, before, "round {n}");
    }
    assert_eq!(settled(&server).await, before);
    // The metrics do count: a thread message is sent to the backend through the bus.
    assert_eq!(desk[0].ask("thread:send", json!({"threadId": "t1", "content": "hello"})).await, json!({}));
    assert!(traces(&server).await.0 > before.0);
}

/// The first client sends, the second receives.
async fn send_and_receive([from, to]: &mut [Client; 2], event: &str, payload: Value, received: &str) {
    assert_eq!(from.ask(event, payload).await, json!({}), "{event}");
    to.next(received).await;
}
