//! Publishing to the bus and emitting to clients, as a backend does over HTTP. Must never test a product's rules.

use serde_json::{Value, json};
use tests::Server;

use crate::helpers::{join, member, open_chat, user};

#[tokio::test]
async fn a_published_message_is_accepted_and_handled() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = server.connect("/chat", user("ana")).await;
    assert_eq!(join(&mut ana, "c1").await["chatId"], "c1");
    // A topic without a subscriber is accepted too: a publisher does not know the subscribers.
    server.publish("nobody.listens", json!({"a": 1})).await;
}

#[tokio::test]
async fn messages_without_a_subscriber_are_counted_and_logged_at_intervals() {
    let server = Server::dev().only(&["chat"]).single_node().env("HUBBUB_EGRESS__REDIS", "{\"sent.out\": \"there\"}");
    let server = server.env("HUBBUB_EGRESS__REDIS_URL", "redis://127.0.0.1:1").start().await;
    let unheard = async || server.metrics().await.get("hubbub_bus_messages_unheard_total", &[]);
    assert_eq!(unheard().await, Some(0.0));
    server.admin(reqwest::Method::POST, "/admin/plugins/chat/disable", Vec::new()).await;
    server.publish("chat.upserted", json!({"chatId": "c1", "participants": []})).await;
    server.publish("sent.out", json!({})).await;
    assert_eq!(unheard().await, Some(0.0), "they wait for a disabled plugin and for another system");
    for _ in 0..3 {
        server.publish("chat.upsertd", json!({})).await;
    }
    assert_eq!(unheard().await, Some(3.0));
    let log = server.log();
    assert_eq!(log.matches("published to a topic that no plugin listens to").count(), 1, "{log}");
    assert!(log.contains("chat.upsertd"), "{log}");
}

#[tokio::test]
async fn a_message_with_an_id_is_handled_once() {
    let server = Server::dev().start().await;
    let upsert = |who: &str| json!({"chatId": "c1", "participants": [{"userId": who, "name": who, "role": "STUDENT"}]});
    let publish = async |id: &str, data: Value| {
        server.publish_message(&json!({"topic": "chat.upserted", "data": data, "id": id, "key": "c1"})).await;
    };
    publish("m1", upsert("ana")).await;
    publish("m2", upsert("bia")).await;
    // The first message again, as a backend retries: it must not undo the second.
    publish("m1", upsert("ana")).await;
    publish("m3", json!({"chatId": "c2", "participants": [{"userId": "bia", "name": "b", "role": "STUDENT"}]})).await;
    let mut bia = server.connect("/chat", user("bia")).await;
    join(&mut bia, "c2").await;
    let joined = join(&mut bia, "c1").await;
    assert_eq!(joined["participants"][0]["userId"], "bia");
}

#[tokio::test]
async fn messages_of_one_key_are_handled_in_the_order_accepted() {
    let server = Server::dev().start().await;
    for n in 0..40 {
        let participant = json!({"userId": "ana", "name": format!("name {n}"), "role": "STUDENT"});
        let data = json!({"chatId": "c1", "participants": [participant]});
        server.publish_message(&json!({"topic": "chat.upserted", "key": "c1", "data": data})).await;
    }
    let mut ana = server.connect("/chat", user("ana")).await;
    tests::wait::eventually("the last update to take effect", async || {
        let reply = ana.ask("chat:join", json!({"chatId": "c1"})).await;
        reply["participants"][0]["name"] == "name 39"
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_message_becomes_a_dead_letter_and_delays_no_other() {
    let server = Server::dev().start().await;
    let bad = [json!(null), json!("text"), json!({}), json!({"chatId": 7}), json!({"chatId": "c1", "participants": "none"})];
    for (n, data) in bad.iter().enumerate() {
        server.publish_message(&json!({"topic": "chat.upserted", "key": format!("bad{n}"), "data": data})).await;
    }
    for n in 0..10 {
        let participant = json!({"userId": "ana", "name": "Ana", "role": "STUDENT"});
        let data = json!({"chatId": format!("c{n}"), "participants": [participant]});
        server.publish_message(&json!({"topic": "chat.upserted", "key": format!("c{n}"), "data": data})).await;
    }
    let mut ana = server.connect("/chat", user("ana")).await;
    for n in 0..10 {
        join(&mut ana, &format!("c{n}")).await;
    }
    tests::wait::eventually("the bad messages to be dead letters", async || {
        server.metrics().await.get("hubbub_bus_dead_letters_total", &[]) == Some(5.0)
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_accepted_whole_or_not_at_all() {
    let server = Server::dev().start().await;
    let message = |chat: &str, topic: &str| {
        let data = json!({"chatId": chat, "participants": [{"userId": "ana", "name": "a", "role": "STUDENT"}]});
        json!({"topic": topic, "key": "one", "data": data})
    };
    let (status, body) = server.api("/api/publish", &json!([message("c1", "chat.upserted"), message("c2", "No Topic")])).await;
    assert_eq!(status, 400, "{body}");
    let whole: Vec<_> = (2..=201).map(|n| message(&format!("c{n}"), "chat.upserted")).collect();
    let (status, body) = server.api("/api/publish", &json!(whole)).await;
    assert_eq!((status, body.matches('"').count()), (202, 2 + 2 * whole.len()), "{body}");

    let mut ana = server.connect("/chat", user("ana")).await;
    join(&mut ana, "c201").await;
    assert_eq!(ana.refused("chat:join", json!({"chatId": "c1"})).await.1, "Not authorized");
    let too_many: Vec<_> = (0..257).map(|_| message("c1", "chat.upserted")).collect();
    assert_eq!(server.api("/api/publish", &json!(too_many)).await.0, 400);
}

#[tokio::test]
async fn a_bad_request_is_refused_with_a_reason() {
    let server = Server::dev().start().await;
    let message = json!({"topic": "chat.upserted", "data": {}});
    for path in ["/api/publish", "/api/emit"] {
        let no_key = server.http().post(server.url(path)).json(&message).send().await.expect("an answer");
        assert_eq!(no_key.status(), 401, "{path} without a key");
        let wrong_key = server.http().post(server.url(path)).bearer_auth("dev-admin-token").json(&message);
        assert_eq!(wrong_key.send().await.expect("an answer").status(), 401, "{path} with another key");
        for bad in [json!({}), json!([]), json!({"topic": 1, "data": {}}), json!({"topic": "Not A Topic", "data": {}})] {
            let (status, body) = server.api(path, &bad).await;
            assert!((400..500).contains(&status) && !body.is_empty(), "{path} {bad}: {status} {body}");
        }
    }
    let unknown_key = json!({"topic": "chat.upserted", "data": {}, "datas": {}});
    assert_eq!(server.api("/api/publish", &unknown_key).await.0, 400, "a misspelt key is an error");
    let deep = format!("{{\"topic\":\"chat.upserted\",\"data\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let request = server.http().post(server.url("/api/publish")).bearer_auth(tests::server::API_KEY);
    let request = request.header("content-type", "application/json").body(deep);
    assert_eq!(request.send().await.expect("an answer").status(), 400);
}

#[tokio::test]
async fn an_emit_reaches_the_named_room_or_user() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut phone = server.connect("/chat", user("bia")).await;
    let mut laptop = server.connect("/chat", user("bia")).await;
    let mut elsewhere = server.connect("/", user("bia")).await;

    server.emit(&json!({"namespace": "/chat", "room": "chat:c1", "event": "to:room", "args": [{"n": 1}]})).await;
    assert_eq!(ana.next("to:room").await, json!({"n": 1}));
    server.emit(&json!({"namespace": "/chat", "user": "bia", "event": "to:user", "args": [{"n": 2}]})).await;
    assert_eq!(phone.next("to:user").await, json!({"n": 2}));
    assert_eq!(laptop.next("to:user").await, json!({"n": 2}));
    for client in [&mut phone, &mut laptop] {
        client.expect_none("to:room").await;
    }
    ana.expect_none("to:user").await;
    elsewhere.expect_none("to:user").await;
    let (status, _) = server.api("/api/emit", &json!({"namespace": "/chat", "room": "r", "event": "connect", "args": []})).await;
    assert_eq!(status, 400, "a reserved name");
}
