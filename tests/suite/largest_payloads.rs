//! Handlers that process many items, with the largest payload that they accept, on both storages. None must need more CPU than a
//! call may use, and none may fault.

use serde_json::{Value, json};
use tests::server::Builder;
use tests::{Client, Postgres, Server, Token, machine, token, wait};

use crate::helpers::{join, open_chat, user};

/// How often each event is sent.
const TIMES: usize = 3;

/// Sends an event and requires an ack without an error. An event that conflicts with messages that are still being handled is
/// refused as `unavailable`, and sent again.
async fn event(client: &mut Client, event: &str, payload: Value) {
    for _ in 0..TIMES {
        wait::eventually("the event to be accepted", async || {
            let ack = client.ask(event, payload.clone()).await;
            let is_conflict = ack["error"]["code"] == "unavailable";
            assert!(ack["error"].is_null() || is_conflict, "{} {event}: {ack}", client.namespace());
            !is_conflict
        })
        .await;
    }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

fn of_company(id: &str) -> Token {
    token(id).claim("userId", id).claim("companyId", "acme").claim("email", "a@b.c")
}

async fn everything_at_its_largest(server: Server) {
    chats(&server).await;
    teams(&server).await;
    inboxes(&server).await;
    desk(&server).await;
    for never in ["hubbub_plugin_faults_total", "hubbub_bus_dead_letters_total"] {
        assert_eq!(server.metrics().await.get(never, &[]).unwrap_or(0.0), 0.0, "{never}\n{}", server.log());
    }
}

/// Stored chats: the longest texts, the fullest pages and the longest list.
async fn chats(server: &Server) {
    open_chat(server, "c1", &["ana"]).await;
    let mut ana = server.connect("/chat", user("ana")).await;
    join(&mut ana, "c1").await;
    for content in ["x".repeat(2000), "é".repeat(2000), "<b>".repeat(666), "<a href=".repeat(250), "&lt;".repeat(500)] {
        event(&mut ana, "chat:message", json!({"chatId": "c1", "content": content})).await;
    }
    for _ in 0..100 {
        ana.ask("chat:message", json!({"chatId": "c1", "content": "<i>é</i>".repeat(250)})).await;
    }
    event(&mut ana, "chat:history", json!({"chatId": "c1", "limit": 100})).await;
    let page = ana.ask("chat:history", json!({"chatId": "c1", "limit": 1})).await;
    let newest = page["messages"][0]["id"].clone();
    event(&mut ana, "chat:history", json!({"chatId": "c1", "limit": 100, "before": newest})).await;
    // No message has this id, which only a search can find out.
    let unknown = ana.refused("chat:history", json!({"chatId": "c1", "before": "%"})).await;
    assert_eq!(unknown.0, "invalid");

    let listed = |turn: usize| {
        let one = |n: usize| json!({"userId": format!("u{}", n + turn), "name": "A name of some length", "role": "STUDENT", "image": "/i.png"});
        json!({"chatId": "crowd", "participants": (0..6000).map(one).collect::<Vec<_>>()})
    };
    for turn in 0..TIMES {
        server.publish("chat.upserted", listed(turn)).await;
    }
    let mut one = server.connect("/chat", user("u100")).await;
    join(&mut one, "crowd").await;
    event(&mut one, "chat:join", json!({"chatId": "crowd"})).await;
    event(&mut one, "chat:message", json!({"chatId": "crowd", "content": "x"})).await;

    let mut live = server.connect("/", user("ana")).await;
    live.ask("chat:join", json!({"videoId": "v1"})).await;
    event(&mut live, "chat:message", json!({"videoId": "v1", "message": "é".repeat(2000)})).await;
}

/// Conversations with thousands of members, and the longest lists of ids.
async fn teams(server: &Server) {
    let members = ids("m", 5000);
    for turn in 0..TIMES {
        server.publish("conversation.created", json!({"id": format!("big{turn}"), "members": members, "title": "All"})).await;
    }
    for turn in 0..TIMES {
        server.publish("message.created", json!({"id": format!("x{turn}"), "conversation_id": "big0", "user_id": "m1"})).await;
    }
    for n in 0..1000 {
        let message = json!({"id": format!("r{n}"), "conversation_id": "big0", "user_id": "m1"});
        server.publish_message(&json!({"topic": "message.created", "key": "big0", "data": message})).await;
    }
    let mut reader = server.connect("/", token("m2")).await;
    let read = json!({"conversation_id": "big0", "message_ids": ids("r", 1000)});
    wait::eventually("the messages", async || {
        reader.ask("mark_read", json!({"conversation_id": "big0", "message_ids": ["r999"]})).await == json!({})
    })
    .await;
    event(&mut reader, "mark_read", read.clone()).await;
    event(&mut reader, "delivered", json!({"conversation_id": "big0", "message_ids": ids("r", 200)})).await;
    server.publish("message.read", json!({"conversation_id": "big0", "message_ids": ids("r", 1000), "user_id": "m3"})).await;
    for turn in 0..TIMES {
        server.publish("conversation.updated", json!({"id": "big0", "members": members, "turn": turn})).await;
    }

    let mut crm = server.connect("/conversations", of_company("ana")).await;
    server.publish("conversation.upserted", json!({"companyId": "acme", "conversationId": "k1"})).await;
    wait::eventually("the conversation", async || crm.ask("join:conversation", json!("k1")).await == json!({})).await;
    event(&mut crm, "message:send", json!({"conversationId": "k1", "content": "é".repeat(10_000)})).await;
}

/// Full inboxes and channels.
async fn inboxes(server: &Server) {
    let notify = async |n: usize| {
        let data = json!({"userId": "ana", "companyId": "acme", "title": "é".repeat(500), "message": "é".repeat(1000)});
        let message = json!({"topic": "notification.created", "key": "k", "id": format!("n{n}"), "data": data});
        server.publish_message(&message).await;
    };
    for n in 0..1000 {
        notify(n).await;
    }
    let mut crm = server.connect("/notifications", of_company("ana")).await;
    wait::eventually("the last notification", async || {
        let page = crm.ask("notification:list", json!({"limit": 1})).await;
        page["notifications"][0]["id"] == "n999"
    })
    .await;
    event(&mut crm, "notification:list", json!({"limit": 100})).await;
    event(&mut crm, "notification:list", json!({"limit": 100, "unreadOnly": true})).await;
    assert_eq!(crm.ask("notification:read", json!(ids("n", 1000))).await, json!({}));
    for n in 0..1000 {
        assert_eq!(crm.next("notification:read").await, json!({"id": format!("n{n}")}));
    }
    event(&mut crm, "notification:all_read", Value::Null).await;

    let mut fan = server.connect("/", of_company("ana")).await;
    for n in 0..32 {
        fan.ask("notifications:subscribe", json!({"channelId": format!("ch{n}")})).await;
    }
    for n in 0..32 * 100 {
        let data = json!({"channelId": format!("ch{}", n % 32), "title": "t", "message": "é".repeat(500)});
        server.publish_message(&json!({"topic": "channel.notification", "key": "c", "id": format!("p{n}"), "data": data})).await;
    }
    wait::eventually("the last channel notification", async || {
        fan.ask("notifications:list", json!({})).await["unreadCount"].as_i64() >= Some(3200)
    })
    .await;
    event(&mut fan, "notifications:list", json!({})).await;
    event(&mut fan, "notifications:list", json!({"unreadOnly": true})).await;
    event(&mut fan, "notifications:read", json!({"notificationId": "p0"})).await;
}

/// The support desk with a long queue and long texts.
async fn desk(server: &Server) {
    let mut ana = server.connect("/hub", token("ana").name("Ana").role("ATTENDANT")).await;
    for n in 0..200 {
        let data = json!({"itemId": format!("i{n}"), "threadId": "t", "customer": {"id": "c", "name": "é".repeat(500)}});
        server.publish_message(&json!({"topic": "queue.added", "key": "q", "data": data})).await;
    }
    while ana.next("queue:updated").await["length"] != 200 {}
    event(&mut ana, "queue:take", json!({"itemId": "i199"})).await;
    event(&mut ana, "presence:list", Value::Null).await;
    server.publish("thread.upserted", json!({"threadId": "t1", "customer": {"id": "c1", "name": "C"}})).await;
    wait::eventually("the thread", async || ana.ask("join:thread", json!({"threadId": "t1"})).await == json!({})).await;
    let send = json!({"threadId": "t1", "content": "é".repeat(2000)});
    event(&mut ana, "thread:send", send).await;
    event(&mut ana, "cursor:move", json!({"threadId": "t1", "x": 1e300, "y": -1e-300})).await;
}

fn builder() -> Builder {
    // A thousand confirmations are sent at once: more than the queue of a client that reads late holds by default.
    let server = Server::dev().single_node().without_message_limit().env("HUBBUB_ADMISSION__USER_CPU", "0");
    server.env("HUBBUB_GATEWAY__CLIENT_QUEUE", "2048")
}

#[tokio::test]
async fn the_largest_payloads_fit_a_calls_cpu_on_the_embedded_database() {
    machine::exclusive();
    everything_at_its_largest(builder().start().await).await;
}

#[tokio::test]
async fn the_largest_payloads_fit_a_calls_cpu_on_postgres() {
    machine::exclusive();
    let url = Postgres::shared().await.empty().await;
    everything_at_its_largest(builder().database(&url).start().await).await;
}
