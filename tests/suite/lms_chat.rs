//! The course chat: each row of the catalogue. Must never use another product's events.

use serde_json::{Value, json};
use tests::server::Builder;
use tests::{Client, Server, wait};

use crate::helpers::{is_time, join, keys, member, name, open_chat, refused_both_ways, say, user};

#[tokio::test]
async fn a_joining_participant_is_announced_to_the_room() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut bia = member(&server, "bia", "c1").await;
    bia.next("user:joined").await;
    let mut ana = server.connect("/chat", user("ana")).await;

    let reply = ana.ask("chat:join", json!({"chatId": "c1"})).await;
    let entry = |id: &str| json!({"userId": id, "name": name(id), "role": "STUDENT"});
    let participants = json!([entry("ana"), entry("bia")]);
    assert_eq!(reply, json!({"chatId": "c1", "participants": participants, "onlineCount": 2}));
    assert_eq!(ana.next("chat:join").await, reply, "the reply is an event too");
    let joined = json!({"userId": "ana", "name": name("ana")});
    assert_eq!(bia.next("user:joined").await, joined);
    assert_eq!(ana.next("user:joined").await, joined, "the user who has just joined is in the room");
}

#[tokio::test]
async fn a_message_reaches_the_room_once_and_sanitized() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;

    say(&mut ana, "c1", "olá <b>mundo</b><script>alert(1)</script>").await;
    let message = bia.next("chat:message").await;
    assert_eq!(keys(&message), ["chatId", "content", "createdAt", "id", "user", "userId"]);
    assert_eq!(message["user"], json!({"name": name("ana"), "image": "/ana.png"}));
    assert_eq!((&message["chatId"], &message["userId"]), (&json!("c1"), &json!("ana")));
    let content = message["content"].as_str().expect("content is text");
    assert!(content.starts_with("olá <b>mundo</b>") && !content.contains("<script"), "sanitized: {content}");
    assert!(is_time(&message["createdAt"]), "{message}");
    assert_eq!(ana.next("chat:message").await, message, "the sender is in the room");
    bia.expect_none("chat:message").await;
}

#[tokio::test]
async fn every_refusal_is_sent_in_the_ack_and_as_an_event() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut eva = server.connect("/chat", user("eva")).await;
    let here = |content: Value| json!({"chatId": "c1", "content": content});

    for content in [json!(""), json!("   "), json!("x".repeat(2001)), json!(7), json!(null)] {
        refused_both_ways(&mut ana, "chat:message", here(content), "invalid", "Invalid message").await;
    }
    refused_both_ways(&mut ana, "chat:message", json!({"chatId": "c1"}), "invalid", "Invalid message").await;
    refused_both_ways(&mut eva, "chat:join", json!({"chatId": "c1"}), "forbidden", "Not authorized").await;
    refused_both_ways(&mut eva, "chat:join", json!({"chatId": "no such chat"}), "forbidden", "Not authorized").await;
    refused_both_ways(&mut eva, "chat:message", here(json!("hello")), "forbidden", "Not authorized").await;
    refused_both_ways(&mut eva, "chat:history", json!({"chatId": "c1"}), "forbidden", "Not authorized").await;
    // The limit is two thousand characters, not bytes.
    say(&mut ana, "c1", &"é".repeat(2000)).await;
}

#[tokio::test]
async fn ten_messages_a_minute_are_allowed_per_user_across_devices() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut phone = member(&server, "ana", "c1").await;
    let mut laptop = member(&server, "ana", "c1").await;
    for n in 0..5 {
        say(&mut phone, "c1", &format!("phone {n}")).await;
        say(&mut laptop, "c1", &format!("laptop {n}")).await;
    }
    let eleventh = json!({"chatId": "c1", "content": "one more"});
    let error = phone.ask("chat:message", eleventh.clone()).await["error"].clone();
    assert_eq!(error["code"], "rate_limited");
    assert_eq!(error["message"], "Too many messages. Please slow down.");
    let retry = error["retryAfterMs"].as_u64().expect("a retry time");
    assert!((1..=60_000).contains(&retry), "{retry} ms");
    laptop.emit("chat:message", eleventh).await;
    let event = laptop.next("error").await;
    assert_eq!(event["message"], "Too many messages. Please slow down.");
    assert!(event["retryAfterMs"].is_u64(), "{event}");
    let mut bia = member(&server, "bia", "c1").await;
    say(&mut bia, "c1", "another user has her own budget").await;
}

#[tokio::test]
async fn typing_reaches_the_room_except_the_sender() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    assert_eq!(ana.ask("chat:typing", json!({"chatId": "c1"})).await, json!({}));
    let typing = json!({"chatId": "c1", "userId": "ana", "userName": name("ana")});
    assert_eq!(bia.next("chat:typing").await, typing);
    ana.expect_none("chat:typing").await;
}

#[tokio::test]
async fn a_user_who_leaves_receives_no_more_and_the_room_is_notified() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    let reply = ana.ask("chat:leave", json!({"chatId": "c1"})).await;
    assert_eq!(reply, json!({"chatId": "c1"}));
    assert_eq!(ana.next("chat:leave").await, reply);
    assert_eq!(bia.next("user:left").await, json!({"userId": "ana", "name": name("ana")}));
    say(&mut bia, "c1", "has she left?").await;
    ana.expect_none("chat:message").await;
    let (code, message) = ana.refused("chat:message", json!({"chatId": "c1", "content": "no"})).await;
    assert_eq!((code.as_str(), message.as_str()), ("forbidden", "Not authorized"));
}

#[tokio::test]
async fn history_returns_the_messages_newest_first_in_pages() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut live = Vec::new();
    for n in 0..120 {
        say(&mut ana, "c1", &format!("message {n}")).await;
        live.push(ana.next("chat:message").await);
    }
    live.reverse();

    let page = ana.ask("chat:history", json!({"chatId": "c1"})).await;
    assert_eq!(ana.next("chat:history").await, page, "the reply is an event too");
    let all = json!({"chatId": "c1", "limit": 1000});
    let first = ana.ask("chat:history", all).await;
    assert_eq!(first["messages"], json!(live[..100]), "at most a hundred");
    let second = ana.ask("chat:history", json!({"chatId": "c1", "before": first["nextBefore"], "limit": 100})).await;
    assert_eq!(second["messages"], json!(live[100..]));
    assert_eq!(keys(&second), ["chatId", "messages"], "no further page");
    let two = ana.ask("chat:history", json!({"chatId": "c1", "limit": 2})).await;
    assert_eq!(two["messages"], json!(live[..2]));
    assert_eq!(ana.ask("chat:read", json!({"chatId": "c1"})).await, json!({"chatId": "c1", "unreadCount": 0}));
}

#[tokio::test]
async fn a_restart_keeps_chats_and_history() {
    chats_and_history_survive_a_restart(Server::dev()).await;
}

/// The same on any storage.
pub(crate) async fn chats_and_history_survive_a_restart(server: Builder) {
    let mut server = server.start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    say(&mut ana, "c1", "before").await;
    let before = ana.next("chat:message").await;
    server.restart().await;

    let mut ana = server.connect("/chat", user("ana")).await;
    let joined = ana.ask("chat:join", json!({"chatId": "c1"})).await;
    assert_eq!(joined["onlineCount"], 1, "{joined}");
    let history = ana.ask("chat:history", json!({"chatId": "c1"})).await;
    assert_eq!(history["messages"], json!([before]));
}

#[tokio::test]
async fn two_devices_count_as_one_user_and_both_receive_everything() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut phone = member(&server, "ana", "c1").await;
    let mut laptop = server.connect("/chat", user("ana")).await;
    assert_eq!(join(&mut laptop, "c1").await["onlineCount"], 1, "distinct users, not sockets");
    let mut bia = member(&server, "bia", "c1").await;
    say(&mut bia, "c1", "to both").await;
    assert_eq!(phone.next("chat:message").await, laptop.next("chat:message").await);
    // One device leaves; the other stays in the room.
    phone.ask("chat:leave", json!({"chatId": "c1"})).await;
    say(&mut bia, "c1", "to one").await;
    assert_eq!(laptop.next("chat:message").await["content"], "to one");
    phone.expect_none("chat:message").await;
}

#[tokio::test]
async fn chats_are_isolated_from_each_other() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    open_chat(&server, "c10", &["eva"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut eva = member(&server, "eva", "c10").await;
    say(&mut ana, "c1", "private").await;
    ana.ask("chat:typing", json!({"chatId": "c1"})).await;
    for event in ["chat:message", "chat:typing"] {
        eva.expect_none(event).await;
    }
    assert_eq!(eva.ask("chat:history", json!({"chatId": "c10"})).await["messages"], json!([]));
    for odd in
        [json!("c1\u{0}"), json!("c1/"), json!("chat:c1"), json!(""), json!(["c1"]), json!({"a": 1}), json!("x".repeat(5000))]
    {
        let (code, _) = eva.refused("chat:join", json!({"chatId": odd})).await;
        assert!(["forbidden", "invalid"].contains(&code.as_str()), "{odd}: {code}");
    }
}

#[tokio::test]
async fn a_removed_participant_leaves_the_room_at_once() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "eva"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut eva = member(&server, "eva", "c1").await;

    open_chat(&server, "c1", &["ana"]).await;
    not_authorized_any_more(&mut eva, "c1").await;
    // The nodes exchange her leaving, so another node may see it later.
    wait::eventually("her to be out of the room", async || join(&mut ana, "c1").await["onlineCount"] == 1).await;
    say(&mut ana, "c1", "just us").await;
    eva.expect_none("chat:message").await;

    server.publish("chat.deleted", json!({"chatId": "c1"})).await;
    not_authorized_any_more(&mut ana, "c1").await;
}

async fn not_authorized_any_more(client: &mut Client, chat: &str) {
    wait::eventually("the change to take effect", async || {
        let ack = client.ask("chat:typing", json!({"chatId": chat})).await;
        ack["error"]["message"] == "Not authorized"
    })
    .await;
    let (_, message) = client.refused("chat:join", json!({"chatId": chat})).await;
    assert_eq!(message, "Not authorized");
}
