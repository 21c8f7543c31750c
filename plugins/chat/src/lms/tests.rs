//! A course's chat: each event, and each refusal's sentence.

use std::time::Duration;

use hubbub_sdk::{
    User,
    harness::{Client, Harness, user},
};
use serde_json::{Value, json};

use crate::{Chat, lms::unread};

/// A chat with two participants that have joined, without the events of the joins.
fn two() -> (Harness<Chat>, Client<Chat>, Client<Chat>) {
    let app = chat_of(&["ana", "ben"]);
    let [ana, ben] = ["ana", "ben"].map(|id| enter(&app, id));
    ana.forget();
    (app, ana, ben)
}

fn chat_of(ids: &[&str]) -> Harness<Chat> {
    let app = Harness::<Chat>::new();
    publish_list(&app, "c1", ids);
    app
}

fn publish_list(app: &Harness<Chat>, chat: &str, ids: &[&str]) {
    let participants =
        ids.iter().map(|id| json!({ "userId": id, "name": named(id), "role": "STUDENT", "image": format!("{id}.png") }));
    app.publish("chat.upserted", json!({ "chatId": chat, "participants": participants.collect::<Vec<_>>() }));
}

fn named(id: &str) -> String {
    format!("{} of the list", id.to_uppercase())
}

fn enter(app: &Harness<Chat>, id: &str) -> Client<Chat> {
    let client = app.connect("/chat", user(id));
    let _ = client.emit("chat:join", json!({ "chatId": "c1" })).ack();
    client.forget();
    client
}

fn say(client: &Client<Chat>, content: &str) {
    client.emit("chat:message", json!({ "chatId": "c1", "content": content })).expect_ok();
}

#[test]
fn a_join_of_a_participant_is_sent_to_the_room() {
    let app = chat_of(&["ana", "ben"]);
    let ana = enter(&app, "ana");
    let ben = app.connect("/chat", user("ben").name("Ben"));
    ben.emit("chat:join", json!({ "chatId": "c1" })).expect_reply(json!({
        "chatId": "c1",
        "participants": [
            { "userId": "ana", "name": "ANA of the list", "role": "STUDENT" },
            { "userId": "ben", "name": "BEN of the list", "role": "STUDENT" },
        ],
        "onlineCount": 2,
    }));
    for client in [&ana, &ben] {
        client.expect("user:joined", json!({ "userId": "ben", "name": "Ben" }));
        client.expect_nothing();
    }
    assert_eq!(ben.rooms(), ["chat:c1"]);
}

#[test]
fn online_count_counts_users_and_a_second_join_is_not_sent() {
    let (app, ana, ben) = two();
    let phone = app.connect("/chat", user("ana"));
    assert_eq!(phone.emit("chat:join", json!({ "chatId": "c1" })).ack()["onlineCount"], 2);
    ben.expect("user:joined", json!({ "userId": "ana", "name": "ANA of the list" }));
    let _ = ana.emit("chat:join", json!({ "chatId": "c1" })).ack();
    ben.expect_nothing();
}

#[test]
fn only_participants_join() {
    let app = chat_of(&["ana"]);
    let eve = app.connect("/chat", user("eve"));
    eve.emit("chat:join", json!({ "chatId": "c1" })).expect_refusal("forbidden", "Not authorized");
    eve.emit("chat:join", json!({ "chatId": "unknown" })).expect_refusal("forbidden", "Not authorized");
    eve.emit("chat:join", json!({})).expect_refusal("invalid", "chatId: missing");
    assert!(eve.rooms().is_empty());
}

#[test]
fn a_message_reaches_the_room_as_it_is_stored() {
    let (app, ana, ben) = two();
    say(&ana, "Hi <b>Ben</b><script>alert(1)</script>");
    let message = ben.expect_any("chat:message");
    assert_eq!(
        message,
        json!({
            "id": message["id"], "chatId": "c1", "userId": "ana",
            "user": { "name": "ANA of the list", "image": "ana.png" },
            "content": "Hi <b>Ben</b>", "createdAt": "2025-01-01T00:00:00.000Z",
        })
    );
    assert_eq!(message["id"].as_str().map(str::len), Some(26));
    ana.expect("chat:message", message.clone());
    assert_eq!(app.keys("messages/c1/").len(), 1);
    assert_eq!(app.stored::<Value>(&app.keys("messages/c1/")[0]), Some(message));
}

#[test]
fn the_tokens_name_and_image_win_over_the_lists() {
    let app = chat_of(&["ana"]);
    let ana = app.connect("/chat", user("ana").name("Ana").image("me.png"));
    let _ = ana.emit("chat:join", json!({ "chatId": "c1" })).ack();
    say(&ana, "hello");
    assert_eq!(ana.expect_any("chat:message")["user"], json!({ "name": "Ana", "image": "me.png" }));
}

#[test]
fn a_message_has_1_to_2000_characters() {
    let (_, ana, ben) = two();
    for content in [json!(""), json!(" \n\t "), json!("é".repeat(2001)), json!(5), json!(null)] {
        let outcome = ana.emit("chat:message", json!({ "chatId": "c1", "content": content }));
        outcome.expect_refusal("invalid", "Invalid message");
    }
    ana.emit_bare("chat:message").expect_refusal("invalid", "Invalid message");
    ben.expect_nothing();
    say(&ana, &"é".repeat(2000));
}

#[test]
fn messages_and_typing_without_a_join_are_refused() {
    let app = chat_of(&["ana", "ben"]);
    let (ana, ben) = (app.connect("/chat", user("ana")), enter(&app, "ben"));
    let message = ana.emit("chat:message", json!({ "chatId": "c1", "content": "hello" }));
    message.expect_refusal("forbidden", "Not authorized");
    ana.emit("chat:typing", json!({ "chatId": "c1" })).expect_refusal("forbidden", "Not authorized");
    ben.expect_nothing();
}

#[test]
fn ten_messages_a_minute_are_for_all_devices_of_a_user_together() {
    let (app, ana, ben) = two();
    let phone = enter(&app, "ana");
    for n in 0..10 {
        say(if n % 2 == 0 { &ana } else { &phone }, "hello");
    }
    let refusal = phone.emit("chat:message", json!({ "chatId": "c1", "content": "hello" })).refusal();
    assert_eq!(refusal.message, "Too many messages. Please slow down.");
    assert_eq!(refusal.retry_after_ms, Some(6000));
    say(&ben, "each user has a budget");
    app.advance(Duration::from_secs(6));
    say(&ana, "hello");
}

#[test]
fn messages_per_minute_0_means_no_limit() {
    let app = Harness::<Chat>::new().config(json!({ "messages_per_minute": 0 }));
    publish_list(&app, "c1", &["ana"]);
    let ana = enter(&app, "ana");
    for _ in 0..30 {
        say(&ana, "hello");
    }
    let wrong = Harness::<Chat>::new().config(json!({ "messages_per_minut": 5 }));
    assert_eq!(wrong.init(), Err("unknown configuration key messages_per_minut".into()));
    let wrong = Harness::<Chat>::new().config(json!({ "messages_per_minute": "many" }));
    assert_eq!(wrong.init(), Err("configuration key messages_per_minute: must be a whole number, 0 or more".into()));
}

#[test]
fn typing_reaches_the_others_and_is_not_stored() {
    let (app, ana, ben) = two();
    let before = app.keys("");
    ana.emit("chat:typing", json!({ "chatId": "c1" })).expect_ok();
    ben.expect("chat:typing", json!({ "chatId": "c1", "userId": "ana", "userName": "ana" }));
    ana.expect_nothing();
    assert_eq!(app.keys(""), before);
}

#[test]
fn a_leave_is_sent_to_the_room_and_ends_its_events() {
    let (_, ana, ben) = two();
    ana.emit("chat:leave", json!({ "chatId": "c1" })).expect_reply(json!({ "chatId": "c1" }));
    ben.expect("user:left", json!({ "userId": "ana", "name": "ANA of the list" }));
    say(&ben, "gone?");
    ana.expect_nothing();
    ana.emit("chat:leave", json!({ "chatId": "c1" })).expect_reply(json!({ "chatId": "c1" }));
    assert!(ben.received("user:left").is_empty());
}

#[test]
fn history_pages_run_from_the_newest_message_to_the_first() {
    let app = Harness::<Chat>::new().config(json!({ "messages_per_minute": 0 }));
    publish_list(&app, "c1", &["ana"]);
    publish_list(&app, "c1/x", &["ana"]);
    let ana = enter(&app, "ana");
    let _ = ana.emit("chat:join", json!({ "chatId": "c1/x" })).ack();
    (1..=7).for_each(|n| say(&ana, &n.to_string()));
    ana.emit("chat:message", json!({ "chatId": "c1/x", "content": "another chat" })).expect_ok();
    let sent = ana.received("chat:message");

    let (mut pages, mut before) = (Vec::new(), Value::Null);
    while pages.len() < 5 {
        let page = ana.emit("chat:history", json!({ "chatId": "c1", "limit": 3, "before": before })).ack();
        assert_eq!(page["chatId"], "c1");
        let contents = page["messages"].as_array().expect("a page").iter().map(|message| message["content"].clone());
        pages.push(contents.collect::<Vec<_>>());
        let Some(next) = page.get("nextBefore") else { break };
        before = next.clone();
    }
    assert_eq!(json!(pages), json!([["7", "6", "5"], ["4", "3", "2"], ["1"]]));

    let page = ana.emit("chat:history", json!({ "chatId": "c1" }));
    page.expect_ack(json!({ "chatId": "c1", "messages": sent[..7].iter().rev().collect::<Vec<_>>() }));
    assert_eq!(ana.received("chat:history").len(), 4);
}

#[test]
fn history_has_at_most_100_messages_a_page_and_50_by_default() {
    let app = Harness::<Chat>::new().config(json!({ "messages_per_minute": 0 }));
    publish_list(&app, "c1", &["ana"]);
    let ana = enter(&app, "ana");
    (0..102).for_each(|_| say(&ana, "hello"));
    let count = |payload: Value| ana.emit("chat:history", payload).ack()["messages"].as_array().map(Vec::len);
    assert_eq!(count(json!({ "chatId": "c1" })), Some(50));
    assert_eq!(count(json!({ "chatId": "c1", "limit": 1000 })), Some(100));
    assert_eq!(count(json!({ "chatId": "c1", "limit": 0 })), Some(1));
}

#[test]
fn history_before_a_message_has_only_older_messages() {
    let app = Harness::<Chat>::new().config(json!({ "messages_per_minute": 0 }));
    publish_list(&app, "c1", &["ana"]);
    let ana = enter(&app, "ana");
    for n in 0..30 {
        say(&ana, &n.to_string());
        app.advance(Duration::from_millis(700));
    }
    let sent = ana.received("chat:message");
    for n in [1, 2, 15, 28, 29] {
        let page = ana.emit("chat:history", json!({ "chatId": "c1", "before": sent[n]["id"], "limit": 1 })).ack();
        assert_eq!(page["messages"], json!([sent[n - 1]]));
    }
    let first = ana.emit("chat:history", json!({ "chatId": "c1", "before": sent[0]["id"] }));
    first.expect_ack(json!({ "chatId": "c1", "messages": [] }));
    for unknown in ["nonsense", "01JGFJJZ000000000000000ZZZ", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"] {
        let page = ana.emit("chat:history", json!({ "chatId": "c1", "before": unknown }));
        page.expect_refusal("invalid", "before: unknown id");
    }
}

#[test]
fn history_and_read_need_a_participant_and_no_join() {
    let app = chat_of(&["ana"]);
    let (ana, eve) = (app.connect("/chat", user("ana")), app.connect("/chat", user("eve")));
    ana.emit("chat:history", json!({ "chatId": "c1" })).expect_reply(json!({ "chatId": "c1", "messages": [] }));
    ana.emit("chat:read", json!({ "chatId": "c1" })).expect_reply(json!({ "chatId": "c1", "unreadCount": 0 }));
    for event in ["chat:history", "chat:read"] {
        eve.emit(event, json!({ "chatId": "c1" })).expect_refusal("forbidden", "Not authorized");
    }
}

#[test]
fn a_message_is_unread_for_others_until_they_read() {
    let (app, ana, ben) = two();
    let who =
        |id: &str| User { id: id.into(), name: None, email: None, image: None, role: None, tenant: None, claims: "{}".into() };
    let unread = |id: &str| app.inside(|| unread::count("c1", &who(id))).expect("the store answers");
    for _ in 0..3 {
        say(&ana, "hello");
    }
    say(&ben, "hello");
    assert_eq!((unread("ana"), unread("ben"), unread("someone else")), (1, 3, 4));
    ben.emit("chat:read", json!({ "chatId": "c1" })).expect_reply(json!({ "chatId": "c1", "unreadCount": 0 }));
    say(&ben, "read it");
    assert_eq!((unread("ana"), unread("ben")), (2, 0));
    say(&ana, "again");
    assert_eq!((unread("ana"), unread("ben")), (2, 1));
}

#[test]
fn a_removed_participant_leaves_the_room_on_all_devices() {
    let (app, ana, ben) = two();
    let phone = enter(&app, "ana");
    ana.forget();
    publish_list(&app, "c1", &["ben", "cleo"]);
    assert!(ana.rooms().is_empty() && phone.rooms().is_empty());
    say(&ben, "alone?");
    ana.expect_nothing();
    ana.emit("chat:join", json!({ "chatId": "c1" })).expect_refusal("forbidden", "Not authorized");
    assert_eq!(ben.rooms(), ["chat:c1"]);
}

#[test]
fn a_deleted_chat_removes_everyone_from_its_room() {
    let (app, ana, ben) = two();
    app.publish("chat.deleted", json!({ "chatId": "c1" }));
    assert!(ana.rooms().is_empty() && ben.rooms().is_empty());
    ben.emit("chat:join", json!({ "chatId": "c1" })).expect_refusal("forbidden", "Not authorized");
}

#[test]
fn a_backends_numbers_come_back_as_published_and_clients_send_strings() {
    let app = Harness::<Chat>::new();
    let list = json!([{ "userId": 7, "name": "Ana", "role": "STUDENT", "image": "7.png" }, { "userId": "8" }]);
    app.publish("chat.upserted", json!({ "chatId": 1, "participants": list }));
    let ana = app.connect("/chat", user("7"));
    let joined = ana.emit("chat:join", json!({ "chatId": "1" })).ack();
    let ids: Vec<&Value> = joined["participants"].as_array().into_iter().flatten().map(|one| &one["userId"]).collect();
    assert_eq!(ids, [&json!(7), &json!("8")]);
    ana.emit("chat:message", json!({ "chatId": "1", "content": "hi" })).expect_ok();
    let message = ana.expect_any("chat:message");
    assert_eq!((&message["userId"], &message["user"]["image"]), (&json!("7"), &json!("7.png")), "the token's user is the author");
    for event in ["chat:join", "chat:message", "chat:typing", "chat:leave", "chat:history", "chat:read"] {
        let refusal = ana.emit(event, json!({ "chatId": 1, "content": "hi" })).refusal();
        assert_eq!(refusal.code, hubbub_sdk::RefusalCode::Invalid, "{event}");
    }
    app.publish("chat.deleted", json!({ "chatId": 1 }));
    assert!(ana.rooms().is_empty());
}

#[test]
fn a_list_of_thousands_keeps_its_order_and_is_removed_in_one_message() {
    let ids: Vec<String> = (0..6000).map(|n| format!("u{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let app = chat_of(&ids);
    let (first, last) = (app.connect("/chat", user("u0")), app.connect("/chat", user("u5999")));
    let joined = first.emit("chat:join", json!({ "chatId": "c1" })).ack();
    let listed: Vec<&str> =
        joined["participants"].as_array().expect("a list").iter().filter_map(|one| one["userId"].as_str()).collect();
    assert_eq!(listed, ids);
    let _ = last.emit("chat:join", json!({ "chatId": "c1" })).ack();
    app.publish("chat.deleted", json!({ "chatId": "c1" }));
    assert!(first.rooms().is_empty() && last.rooms().is_empty());
}

#[test]
fn a_client_without_a_token_is_refused() {
    let app = Harness::<Chat>::new();
    let refused = app.try_connect("/chat", hubbub_sdk::harness::visitor());
    assert_eq!(refused.map(drop), Err("Authentication error".into()));
}

#[test]
fn messages_are_refused_and_not_sent_while_storage_fails() {
    let (app, ana, ben) = two();
    app.storage_answers(false);
    let message = ana.emit("chat:message", json!({ "chatId": "c1", "content": "hello" }));
    message.expect_refusal("unavailable", "Service unavailable");
    ben.expect_nothing();
    ana.emit("chat:typing", json!({ "chatId": "c1" })).expect_ok();
}

#[test]
fn equal_ids_of_two_tenants_are_two_participants() {
    let app = Harness::<Chat>::new();
    app.publish_for("acme", "chat.upserted", json!({ "chatId": "c1", "participants": [{ "userId": "ana" }] }));
    let join = |who: hubbub_sdk::harness::Identity| {
        let client = app.connect("/chat", who);
        (client.emit("chat:join", json!({ "chatId": "c1" })), client)
    };
    let (joined, acme) = join(user("ana").tenant("acme"));
    assert_eq!(joined.ack()["onlineCount"], json!(1));
    for stranger in [user("ana").tenant("other"), user("ana")] {
        join(stranger).0.expect_refusal("forbidden", "Not authorized");
    }
    app.publish_for("other", "chat.upserted", json!({ "chatId": "c1", "participants": [{ "userId": "ana" }] }));
    let (joined, other) = join(user("ana").tenant("other"));
    assert_eq!(joined.ack()["onlineCount"], json!(2));
    (0..10).for_each(|_| say(&acme, "hello"));
    say(&other, "each tenant's user has a budget");
}

#[test]
fn a_message_that_is_sent_again_with_its_client_id_is_sent_once() {
    let (app, ana, ben) = two();
    for content in ["hello", "hello", "again"] {
        ana.emit("chat:message", json!({ "chatId": "c1", "content": content, "clientId": "m1" })).expect_ok();
    }
    let message = ben.expect_any("chat:message");
    assert_eq!((&message["content"], &message["clientId"]), (&json!("hello"), &json!("m1")));
    ben.expect_nothing();
    ben.emit("chat:message", json!({ "chatId": "c1", "content": "mine", "clientId": "m1" })).expect_ok();
    assert_eq!(app.keys("messages/").len(), 2);
    say(&ana, "without");
    assert_eq!(ana.received("chat:message")[2].get("clientId"), None);
}
