//! The CRM in `/conversations`, `/notifications` and `/analytics`: each row of the catalogue. Companies must never have different
//! ids: each has a conversation `c1` and a user `ana`.

use std::cell::Cell;
use std::time::Instant;

use futures_util::future::join;
use reqwest::Method;
use serde_json::{Value, json};
use tests::stock::Transports;
use tests::{Auth, Client, Server, Stock, Token, token, wait};

use crate::helpers::{ask_bare, expect_none_of, is_time, keys, publish_keyed, refused_both_ways};

const NAMESPACES: [&str; 3] = ["/conversations", "/notifications", "/analytics"];

/// Signs tokens as the product does: without `sub`.
fn at(company: &str, id: &str) -> Token {
    token(id).without("sub").claim("userId", id).claim("companyId", company).claim("email", email(company, id))
}

fn email(company: &str, id: &str) -> String {
    format!("{id}@{company}.example")
}

/// Publishes about a company's conversation `c1`, in order with all other messages about it.
async fn about_c1(server: &Server, company: &str, topic: &str, more: Value) {
    let mut data = json!({"companyId": company, "conversationId": "c1"});
    data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    publish_keyed(server, &format!("{company}/c1"), topic, data).await;
}

async fn open(server: &Server, company: &str) {
    about_c1(server, company, "conversation.upserted", json!({"title": "A lead"})).await;
}

/// Connects a user of a company and joins `c1`.
async fn in_c1(server: &Server, company: &str, id: &str) -> Client {
    let mut client = server.connect("/conversations", at(company, id)).await;
    let join = async || client.ask("join:conversation", json!("c1")).await == json!({});
    wait::eventually("the conversation to exist", join).await;
    client
}

/// Sends to `c1` and returns the message's id.
async fn send(client: &mut Client, content: &str) -> Value {
    let sent = client.ask("message:send", json!({"conversationId": "c1", "content": content})).await;
    assert_eq!(keys(&sent), ["id"], "{sent}");
    sent["id"].clone()
}

async fn notify(server: &Server, company: &str, id: &str, title: &str) {
    let texts = json!({"type": "LEAD", "title": title, "message": "Call back", "link": "/leads/7"});
    let mut data = json!({"companyId": company, "userId": id});
    data.as_object_mut().expect("an object").extend(texts.as_object().expect("an object").clone());
    publish_keyed(server, &format!("{company}/{id}"), "notification.created", data).await;
}

async fn list(client: &mut Client, asked: Value) -> Value {
    client.ask("notification:list", asked).await
}

/// A company's analytics without their timestamp.
async fn numbers(client: &mut Client, period: &str) -> Value {
    let mut update = client.ask("analytics:request", json!(period)).await;
    update.as_object_mut().expect("an object").remove("timestamp");
    update
}

#[tokio::test]
async fn connecting_requires_a_user_and_a_company() {
    let server = Server::dev().start().await;
    for namespace in NAMESPACES {
        assert_eq!(server.connect_refused(namespace, ()).await, "Authentication required");
        assert_eq!(server.connect_refused(namespace, json!({"token": ""})).await, "Authentication required");
        let incomplete = [
            at("acme", "ana").without("companyId"),
            at("acme", "ana").without("userId"),
            at("", "ana"),
            at("acme", "ana").claim("companyId", Value::Null),
            at("acme", "ana").expires_in(-3600),
            at("acme", "ana").secret("another secret"),
        ];
        for token in incomplete {
            assert_eq!(server.connect_refused(namespace, &token).await, "Invalid or expired token", "{namespace} {token:?}");
        }
        assert_eq!(server.connect_refused(namespace, "nonsense").await, "Invalid or expired token");
        server.connect(namespace, at("acme", "ana")).await;
        server.connect(namespace, Auth::bearer(&at("acme", "ana"))).await;
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_get_and_post_with_credentials() {
    let server = Server::dev().start().await;
    let preflight = server.http().request(Method::OPTIONS, server.url("/socket.io/?EIO=4&transport=polling"));
    let preflight = preflight.header("origin", "http://localhost:8080").header("access-control-request-method", "POST");
    let answer = preflight.header("access-control-request-headers", "authorization").send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_lowercase());
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("http://localhost:8080"));
    assert_eq!(header("access-control-allow-credentials").as_deref(), Some("true"));
    let methods = header("access-control-allow-methods").expect("the methods");
    assert!(methods.contains("get") && methods.contains("post") && !methods.contains("delete"), "{methods}");
    assert!(header("access-control-allow-headers").expect("the headers").contains("authorization"));
}

#[tokio::test]
async fn a_message_reaches_the_conversation() {
    let server = Server::dev().start().await;
    open(&server, "acme").await;
    let mut ana = in_c1(&server, "acme", "ana").await;
    let (mut phone, mut ben) = (in_c1(&server, "acme", "ana").await, in_c1(&server, "acme", "ben").await);
    let mut outside = server.connect("/conversations", at("acme", "cleo")).await;

    let reply = ana.ask("message:send", json!({"conversationId": "c1", "content": "olá & <b>oi</b>"})).await;
    assert_eq!(ana.next("message:sent").await, reply, "the reply is an event too");
    let message = ben.next("message:new").await;
    assert_eq!(keys(&message), ["content", "conversationId", "fromUserId", "id", "timestamp"]);
    assert_eq!((&message["id"], &message["fromUserId"]), (&reply["id"], &json!("ana")));
    assert_eq!((&message["conversationId"], &message["content"]), (&json!("c1"), &json!("olá & <b>oi</b>")));
    assert!(is_time(&message["timestamp"]), "{message}");
    for client in [&mut ana, &mut phone] {
        assert_eq!(client.next("message:new").await, message);
    }
    // A user of the company may send without having joined.
    send(&mut outside, "from outside").await;
    assert_eq!(ben.next("message:new").await["fromUserId"], "cleo");

    about_c1(&server, "acme", "message.received", json!({"from": "contact 7", "content": "inbound"})).await;
    let inbound = ben.next("message:new").await;
    assert_eq!(keys(&inbound), ["content", "conversationId", "fromUserId", "id", "timestamp"]);
    assert_eq!((&inbound["fromUserId"], &inbound["content"]), (&json!("contact 7"), &json!("inbound")));
    assert_eq!(ben.ask("leave:conversation", json!("c1")).await, json!({}));
    send(&mut ana, "has he left?").await;
    expect_none_of(&mut ben, &["message:new", "message:sent"]).await;
    outside.expect_none("message:new").await;
}

#[tokio::test]
async fn users_change_only_their_own_messages_also_after_a_restart() {
    let mut server = Server::dev().start().await;
    open(&server, "acme").await;
    let mut ana = in_c1(&server, "acme", "ana").await;
    let id = send(&mut ana, "before").await;
    about_c1(&server, "acme", "message.received", json!({"from": "ana", "content": "by a contact of her id"})).await;
    let mine = ana.next("message:new").await;
    let inbound = ana.next("message:new").await;
    assert_eq!((&mine["id"], &inbound["fromUserId"]), (&id, &json!("ana")));
    server.restart().await;

    let (mut ana, mut ben) = (in_c1(&server, "acme", "ana").await, in_c1(&server, "acme", "ben").await);
    for other in [(&mut ben, &id), (&mut ana, &inbound["id"])] {
        let (client, id) = other;
        let edit = json!({"messageId": id, "content": "not mine"});
        refused_both_ways(client, "message:edit", edit, "forbidden", "Not authorized").await;
        refused_both_ways(client, "message:delete", json!({"messageId": id}), "forbidden", "Not authorized").await;
    }
    assert_eq!(ana.ask("message:edit", json!({"messageId": id, "content": "after"})).await, json!({}));
    let updated = ben.next("message:updated").await;
    assert_eq!(updated, json!({"id": id, "content": "after", "updatedAt": updated["updatedAt"]}));
    assert!(is_time(&updated["updatedAt"]), "{updated}");
    assert_eq!(ana.ask("message:delete", json!({"messageId": id})).await, json!({}));
    assert_eq!(ben.next("message:deleted").await, json!({"id": id}));
    let edit = json!({"messageId": id, "content": "again"});
    refused_both_ways(&mut ana, "message:edit", edit, "not_found", "Message not found").await;
    refused_both_ways(&mut ana, "message:delete", json!({"messageId": id}), "not_found", "Message not found").await;
    expect_none_of(&mut ben, &["message:updated", "message:deleted"]).await;
}

#[tokio::test]
async fn an_unknown_conversation_is_not_found_and_bad_content_is_invalid() {
    let server = Server::dev().start().await;
    open(&server, "acme").await;
    let mut ana = in_c1(&server, "acme", "ana").await;
    let unknown = json!({"conversationId": "c2", "content": "hello"});
    refused_both_ways(&mut ana, "message:send", unknown, "not_found", "Conversation not found").await;
    for event in ["join:conversation", "conversation:typing"] {
        refused_both_ways(&mut ana, event, json!("c2"), "not_found", "Conversation not found").await;
    }
    for content in [json!(""), json!("  "), json!("x".repeat(10_001))] {
        let message = json!({"conversationId": "c1", "content": content});
        refused_both_ways(&mut ana, "message:send", message, "invalid", "Invalid message").await;
    }
    for bad in [json!({"conversationId": "c1"}), json!({"conversationId": 7, "content": "x"}), json!("c1"), json!(null)] {
        assert_eq!(ana.refused("message:send", bad).await.0, "invalid");
    }
    let id = send(&mut ana, "mine").await;
    let edit = json!({"messageId": id, "content": ""});
    refused_both_ways(&mut ana, "message:edit", edit, "invalid", "Invalid message").await;
    ana.expect_none("message:updated").await;
}

#[tokio::test]
async fn typing_reaches_the_conversation_and_the_sender_too() {
    let server = Server::dev().start().await;
    open(&server, "acme").await;
    let (mut ana, mut ben) = (in_c1(&server, "acme", "ana").await, in_c1(&server, "acme", "ben").await);
    assert_eq!(ana.ask("conversation:typing", json!("c1")).await, json!({}));
    let typing = json!({"userId": "ana", "userName": email("acme", "ana")});
    assert_eq!(ben.next("conversation:typing").await, typing);
    assert_eq!(ana.next("conversation:typing").await, typing);
    // Typing events require joining first.
    let mut outside = server.connect("/conversations", at("acme", "cleo")).await;
    refused_both_ways(&mut outside, "conversation:typing", json!("c1"), "not_found", "Conversation not found").await;
    expect_none_of(&mut ben, &["conversation:typing"]).await;
    outside.expect_none("conversation:typing").await;
}

#[tokio::test]
async fn a_user_is_online_with_the_first_device_and_offline_with_the_last() {
    let server = Server::dev().env("HUBBUB_PRESENCE__GRACE", "1s").start().await;
    let mut ben = server.connect("/conversations", at("acme", "ben")).await;
    assert_eq!(ben.next("status:online").await, json!({"userId": "ben"}));
    let mut spy = server.connect("/conversations", at("bolt", "ben")).await;
    assert_eq!(spy.next("status:online").await, json!({"userId": "ben"}));
    let phone = server.connect("/conversations", at("acme", "ana")).await;
    assert_eq!(ben.next("status:online").await, json!({"userId": "ana"}));
    let laptop = server.connect("/conversations", at("acme", "ana")).await;
    phone.leave().await;
    let cleo = server.connect("/conversations", at("acme", "cleo")).await;
    assert_eq!(ben.next("status:online").await, json!({"userId": "cleo"}), "a second device sends no event");
    drop(cleo);
    assert_eq!(ben.next("status:offline").await, json!({"userId": "cleo"}), "nor does the end of one device");
    drop(laptop);
    assert_eq!(ben.next("status:offline").await, json!({"userId": "ana"}));
    expect_none_of(&mut ben, &["status:online", "status:offline"]).await;
    expect_none_of(&mut spy, &["status:online", "status:offline"]).await;
}

#[tokio::test]
async fn a_custom_event_reaches_its_company_conversation_or_user_unchanged() {
    let server = Server::dev().start().await;
    open(&server, "acme").await;
    let mut ana = in_c1(&server, "acme", "ana").await;
    let mut phone = server.connect("/conversations", at("acme", "ana")).await;
    let mut ben = server.connect("/conversations", at("acme", "ben")).await;
    let any = async |event: &str, to: Value, data: &Value| {
        let message = json!({"companyId": "acme", "event": event, "to": to, "data": data});
        publish_keyed(&server, "acme", "crm.event", message).await;
    };
    let data = json!({"campaignId": 7, "nested": {"list": [1, null, "ü"]}});
    any("lead:assigned", json!({"user": "ana"}), &data).await;
    any("contact:tagged", json!({"conversation": "c1"}), &data).await;
    any("campaign:started", json!({"company": true}), &data).await;
    any("deal:won:twice", json!({"company": true}), &json!([1])).await;
    for client in [&mut ana, &mut phone, &mut ben] {
        assert_eq!(client.next("deal:won:twice").await, json!([1]));
        assert_eq!(client.next("campaign:started").await, data);
    }
    assert_eq!(ana.next("contact:tagged").await, data);
    for client in [&mut ana, &mut phone] {
        assert_eq!(client.next("lead:assigned").await, data);
    }
    phone.expect_none("contact:tagged").await;
    expect_none_of(&mut ben, &["contact:tagged", "lead:assigned"]).await;

    about_c1(&server, "acme", "conversation.upserted", json!({"title": "Renamed", "stage": {"id": 3}})).await;
    let updated = json!({"companyId": "acme", "conversationId": "c1", "title": "Renamed", "stage": {"id": 3}});
    wait::eventually("the update", async || ben.next("conversation:updated").await == updated).await;
}

#[tokio::test]
async fn companies_with_the_same_ids_are_isolated() {
    let server = Server::dev().start().await;
    open(&server, "acme").await;
    open(&server, "bolt").await;
    let (mut ours, mut theirs) = (in_c1(&server, "acme", "ana").await, in_c1(&server, "bolt", "ana").await);
    assert_eq!(theirs.next("status:online").await, json!({"userId": "ana"}));
    // Reconnect, so that no earlier event of its own company is left to receive.
    drop(theirs);
    let mut theirs = in_c1(&server, "bolt", "ana").await;

    let id = send(&mut ours, "private").await;
    ours.ask("conversation:typing", json!("c1")).await;
    refused_both_ways(&mut theirs, "message:delete", json!({"messageId": id}), "not_found", "Message not found").await;
    let edit = json!({"messageId": id, "content": "theirs"});
    refused_both_ways(&mut theirs, "message:edit", edit, "not_found", "Message not found").await;
    ours.ask("message:edit", json!({"messageId": id, "content": "changed"})).await;
    ours.ask("message:delete", json!({"messageId": id})).await;
    about_c1(&server, "acme", "message.received", json!({"from": "x", "content": "inbound"})).await;
    open(&server, "acme").await;
    for (event, to) in [
        ("any:company", json!({"company": true})),
        ("any:conversation", json!({"conversation": "c1"})),
        ("any:user", json!({"user": "ana"})),
    ] {
        publish_keyed(&server, "acme/c1", "crm.event", json!({"companyId": "acme", "event": event, "to": to, "data": {}})).await;
        ours.next(event).await;
    }
    for event in ["message:updated", "message:deleted", "conversation:typing"] {
        ours.next(event).await;
    }
    let received = ["message:new", "message:updated", "message:deleted", "conversation:typing", "conversation:updated"];
    expect_none_of(&mut theirs, &received).await;
    expect_none_of(&mut theirs, &["any:company", "any:conversation", "any:user", "status:online", "status:offline"]).await;

    // An id that contains another company's name gives no access.
    for odd in [json!("acme/c1"), json!("acme:c1"), json!("../acme/c1"), json!("conversation:acme/c1")] {
        refused_both_ways(&mut theirs, "join:conversation", odd, "not_found", "Conversation not found").await;
    }
}

#[tokio::test]
async fn a_notification_reaches_only_its_users_devices() {
    let server = Server::dev().start().await;
    let mut phone = server.connect("/notifications", at("acme", "ana")).await;
    let mut laptop = server.connect("/notifications", at("acme", "ana")).await;
    let mut ben = server.connect("/notifications", at("acme", "ben")).await;
    let mut theirs = server.connect("/notifications", at("bolt", "ana")).await;
    notify(&server, "acme", "ana", "A lead").await;
    let new = phone.next("notification:new").await;
    assert_eq!(keys(&new), ["createdAt", "id", "link", "message", "title", "type"]);
    assert_eq!((&new["type"], &new["title"]), (&json!("LEAD"), &json!("A lead")));
    assert_eq!((&new["message"], &new["link"]), (&json!("Call back"), &json!("/leads/7")));
    assert!(is_time(&new["createdAt"]), "{new}");
    assert_eq!(laptop.next("notification:new").await, new);

    assert_eq!(phone.ask("notification:read", new["id"].clone()).await, json!({}));
    for client in [&mut phone, &mut laptop] {
        assert_eq!(client.next("notification:read").await, json!({"id": new["id"]}));
    }
    assert_eq!(ask_bare(&mut laptop, "notification:all_read").await, json!({}));
    assert_eq!(phone.next("notification:all_read").await, json!({}));
    for other in [&mut ben, &mut theirs] {
        let id = new["id"].clone();
        refused_both_ways(other, "notification:read", id, "not_found", "Notification not found").await;
        assert_eq!(list(other, json!({})).await, json!({"notifications": [], "unreadCount": 0}));
        expect_none_of(other, &["notification:new", "notification:read", "notification:all_read"]).await;
    }
}

#[tokio::test]
async fn notifications_are_marked_read_singly_in_bulk_or_all_and_stay_read() {
    let mut server = Server::dev().start().await;
    let mut ana = server.connect("/notifications", at("acme", "ana")).await;
    let mut new = Vec::new();
    for title in ["1", "2", "3", "4", "5"] {
        notify(&server, "acme", "ana", title).await;
        new.push(ana.next("notification:new").await);
    }
    let page = list(&mut ana, json!({})).await;
    assert_eq!(ana.next("notification:list").await, page, "the reply is an event too");
    assert_eq!((keys(&page), &page["unreadCount"]), (vec!["notifications", "unreadCount"], &json!(5)));
    let titles = |page: &Value| -> Vec<String> {
        page["notifications"].as_array().expect("a page").iter().map(|one| one["title"].to_string()).collect()
    };
    assert_eq!(titles(&page), [r#""5""#, r#""4""#, r#""3""#, r#""2""#, r#""1""#], "newest first");
    assert_eq!(titles(&list(&mut ana, json!({"before": new[3]["id"], "limit": 2})).await), [r#""3""#, r#""2""#]);

    assert_eq!(ana.ask("notification:read", new[0]["id"].clone()).await, json!({}));
    assert_eq!(ana.next("notification:read").await, json!({"id": new[0]["id"]}));
    assert_eq!(ana.ask("notification:read", json!([new[1]["id"], new[2]["id"]])).await, json!({}));
    for one in &new[1..3] {
        assert_eq!(ana.next("notification:read").await, json!({"id": one["id"]}));
    }
    ana.expect_none("notification:read").await;
    refused_both_ways(&mut ana, "notification:read", json!("no such id"), "not_found", "Notification not found").await;
    assert_eq!(ana.refused("notification:read", json!({"id": 7})).await, ("invalid".into(), "Invalid notification id".into()));
    server.restart().await;

    let mut ana = server.connect("/notifications", at("acme", "ana")).await;
    let unread = list(&mut ana, json!({"unreadOnly": true})).await;
    assert_eq!((titles(&unread), &unread["unreadCount"]), (vec![r#""5""#.to_owned(), r#""4""#.to_owned()], &json!(2)));
    let all = list(&mut ana, json!({})).await;
    let read = &all["notifications"][4];
    assert_eq!((&read["id"], &read["read"]), (&new[0]["id"], &json!(true)));
    assert!(is_time(&read["readAt"]), "stored with the time: {read}");
    assert_eq!(ask_bare(&mut ana, "notification:all_read").await, json!({}));
    assert_eq!(ana.next("notification:all_read").await, json!({}));
    assert_eq!(list(&mut ana, json!({"unreadOnly": true})).await, json!({"notifications": [], "unreadCount": 0}));
}

#[tokio::test]
async fn each_event_returns_its_own_sentence_when_storing_fails() {
    // Storage has room for the two components and little more. Only the embedded database has a size limit.
    let only = Server::dev().only(&["chat", "crm", "notifications"]).single_node();
    let server = only.env("HUBBUB_STORAGE__SIZE", "6000000").start().await;
    open(&server, "acme").await;
    let mut ana = in_c1(&server, "acme", "ana").await;
    let mut inbox = server.connect("/notifications", at("acme", "ana")).await;
    let mut ids = Vec::new();
    for n in 0..200 {
        notify(&server, "acme", "ana", &n.to_string()).await;
        ids.push(inbox.next("notification:new").await["id"].clone());
    }
    // Fill it until not even the smallest message fits.
    for length in [10_000, 1000, 100, 1] {
        let message = json!({"conversationId": "c1", "content": "😀".repeat(length)});
        let refused = async |ana: &mut Client| ana.ask("message:send", message.clone()).await.get("error").cloned();
        let mut error = None;
        while error.is_none() {
            error = refused(&mut ana).await;
        }
        assert_eq!(error.expect("it ends")["message"], "Failed to send message");
    }
    assert_eq!(inbox.refused("notification:read", json!(ids)).await.1, "Failed to mark as read");
    expect_none_of(&mut inbox, &["notification:read"]).await;
    // A few single ones may still fit; marking all needs at least as much room as one.
    let mut one_by_one = ids.iter();
    loop {
        let id = one_by_one.next().expect("two hundred never fit").clone();
        let ack = inbox.ask("notification:read", id).await;
        if ack != json!({}) {
            assert_eq!(ack["error"]["message"], "Failed to mark as read");
            break;
        }
    }
    assert_eq!(ask_bare(&mut inbox, "notification:all_read").await["error"]["message"], "Failed");
    inbox.expect_none("notification:all_read").await;
}

#[tokio::test]
async fn analytics_count_messages_and_conversations() {
    let mut server = Server::dev().start().await;
    let mut board = server.connect("/analytics", at("acme", "boss")).await;
    let none = |period: &str| json!({"period": period, "totalMessages": 0, "totalConversations": 0, "averageResponseTime": 0.0, "conversionRate": 0.0});
    let update = board.ask("analytics:request", json!("today")).await;
    assert_eq!(board.next("analytics:update").await, update, "the reply is an event too");
    let all = ["averageResponseTime", "conversionRate", "period", "timestamp", "totalConversations", "totalMessages"];
    assert_eq!(keys(&update), all);
    assert!(is_time(&update["timestamp"]), "{update}");
    assert_eq!(numbers(&mut board, "week").await, none("week"));

    open(&server, "acme").await;
    let mut ana = in_c1(&server, "acme", "ana").await;
    let asked = Instant::now();
    about_c1(&server, "acme", "message.received", json!({"from": "x", "content": "a question"})).await;
    ana.next("message:new").await;
    let counted = async |board: &mut Client, messages: u64| {
        wait::eventually("the messages to be counted", async || numbers(board, "today").await["totalMessages"] == messages).await;
    };
    counted(&mut board, 1).await;
    send(&mut ana, "an answer").await;
    counted(&mut board, 2).await;
    let elapsed = asked.elapsed().as_secs_f64();
    send(&mut ana, "a second answer, to no question").await;
    publish_keyed(&server, "acme", "conversation.upserted", json!({"companyId": "acme", "conversationId": "c2"})).await;
    for _ in 0..2 {
        about_c1(&server, "acme", "conversation.converted", json!({})).await;
    }
    for period in ["today", "week", "month"] {
        wait::eventually("all of it to be counted", async || {
            let now = numbers(&mut board, period).await;
            now["totalMessages"] == 3 && now["totalConversations"] == 2 && now["conversionRate"] == 0.5
        })
        .await;
    }
    server.restart().await;
    let mut board = server.connect("/analytics", at("acme", "boss")).await;
    let kept = numbers(&mut board, "month").await;
    let waited = kept["averageResponseTime"].as_f64().expect("a number");
    assert!(waited > 0.0 && waited <= elapsed, "{waited} s of {elapsed} s");
    let rest = json!({"period": "month", "totalMessages": 3, "totalConversations": 2, "averageResponseTime": waited, "conversionRate": 0.5});
    assert_eq!(kept, rest);
    for bad in [json!("year"), json!(""), json!(null), json!({"period": "today"}), json!(7)] {
        refused_both_ways(&mut board, "analytics:request", bad, "invalid", "Failed to get metrics").await;
    }
    let mut theirs = server.connect("/analytics", at("bolt", "boss")).await;
    assert_eq!(numbers(&mut theirs, "today").await, none("today"));
}

#[tokio::test]
async fn dashboards_update_at_most_once_a_second_for_their_own_company() {
    let server = Server::dev().start().await;
    for company in ["acme", "bolt"] {
        open(&server, company).await;
    }
    let mut ana = in_c1(&server, "acme", "ana").await;
    let mut spy = in_c1(&server, "bolt", "ana").await;
    let mut board = server.connect("/analytics", at("acme", "boss")).await;
    let mut theirs = server.connect("/analytics", at("bolt", "boss")).await;
    let (mut sent, mut updates, enough) = (0, Vec::new(), Cell::new(false));
    let listen = async {
        while updates.len() < 3 {
            updates.push(board.next("metrics:update").await);
        }
        enough.set(true);
    };
    let talk = async {
        while !enough.get() {
            send(&mut ana, "more").await;
            sent += 1;
        }
    };
    join(listen, talk).await;
    let times: Vec<u64> = updates.iter().map(|update| milliseconds(&update["timestamp"])).collect();
    for pair in times.windows(2) {
        // Each node rounds its milliseconds separately.
        assert!(pair[1] - pair[0] >= 999, "{times:?}");
    }
    // The last update shows the last state.
    let mut last = updates.pop().expect("three came");
    wait::eventually("an update with the last message", async || {
        if last["totalMessages"] != sent {
            last = board.next("metrics:update").await;
        }
        last["totalMessages"] == sent
    })
    .await;
    assert_eq!(last["period"], "today");
    // Wait for two updates of the other company, while nothing changes here.
    for _ in 0..2 {
        send(&mut spy, "elsewhere").await;
        theirs.next("metrics:update").await;
    }
    board.expect_none("metrics:update").await;
    theirs.expect_none("metrics:update").await;
}

/// The milliseconds since midnight of a timestamp.
fn milliseconds(time: &Value) -> u64 {
    let text = time.as_str().expect("a time");
    let (_, clock) = text.trim_end_matches('Z').split_once('T').expect("a date and a clock");
    let mut parts = clock.split([':', '.']).map(|part| part.parse::<u64>().expect("a number"));
    let mut next = || parts.next().expect("hours, minutes, seconds and milliseconds");
    ((next() * 60 + next()) * 60 + next()) * 1000 + next()
}

#[tokio::test]
async fn a_stock_python_client_uses_the_crm_over_polling() {
    let server = Server::dev().start().await;
    open(&server, "acme").await;
    let refused = Stock::Python.connect(&server, "/analytics", json!({"token": "nonsense"}), Transports::Polling).await;
    assert_eq!(refused.err().as_deref(), Some("Invalid or expired token"));
    let connect = async |namespace: &'static str, id: &'static str| {
        Stock::Python.connect(&server, namespace, at("acme", id), Transports::Polling).await.expect("accepted")
    };
    let (mut ana, mut ben) = (connect("/conversations", "ana").await, connect("/conversations", "ben").await);
    for client in [&mut ana, &mut ben] {
        wait::eventually("the conversation to exist", async || client.ask("join:conversation", json!("c1")).await == json!({}))
            .await;
    }
    let sent = ana.ask("message:send", json!({"conversationId": "c1", "content": "olá ✓"})).await;
    let message = ben.next("message:new").await;
    assert_eq!((&message["id"], &message["content"]), (&sent["id"], &json!("olá ✓")));
    assert_eq!(ana.next("message:sent").await, sent);
    ben.emit("conversation:typing", json!("c1")).await;
    assert_eq!(ana.next("conversation:typing").await, json!({"userId": "ben", "userName": email("acme", "ben")}));
    ben.emit("join:conversation", json!("c2")).await;
    assert_eq!(ben.next("error").await["message"], "Conversation not found");

    let mut inbox = connect("/notifications", "ana").await;
    notify(&server, "acme", "ana", "A lead").await;
    let new = inbox.next("notification:new").await;
    inbox.emit("notification:read", json!([new["id"]])).await;
    assert_eq!(inbox.next("notification:read").await, json!({"id": new["id"]}));
    let mut board = connect("/analytics", "boss").await;
    board.emit("analytics:request", json!("week")).await;
    assert_eq!(board.next("analytics:update").await["totalMessages"], 1);
}
