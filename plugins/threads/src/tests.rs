//! A support desk's threads: each event, for attendants and customers, and each refusal's sentence.

use hubbub_sdk::harness::{Client, Harness, Identity, user, visitor};
use serde_json::{Value, json};

use crate::Threads;

fn attendant(id: &str) -> Identity {
    user(id).role("ATTENDANT").name("Ana")
}

/// The thread `t1` of the customer `carl`.
fn desk() -> Harness<Threads> {
    let app = Harness::<Threads>::new();
    app.publish("thread.upserted", json!({ "threadId": "t1", "customer": { "id": "carl", "name": "Carl" }, "subject": "?" }));
    app
}

/// An attendant and the customer, both in the thread.
fn two() -> (Harness<Threads>, Client<Threads>, Client<Threads>) {
    let app = desk();
    let (ana, carl) = (app.connect("/hub", attendant("ana")), app.connect("/portal", user("carl")));
    ana.emit("join:thread", json!({ "threadId": "t1" })).expect_ok();
    carl.emit("join:thread", json!("t1")).expect_ok();
    (app, ana, carl)
}

fn expect_both(clients: [&Client<Threads>; 2], event: &str, payload: &Value) {
    for client in clients {
        client.expect(event, payload.clone());
        client.expect_nothing();
    }
}

#[test]
fn a_refused_token_gets_the_sentence_token_invalido() {
    let app = Harness::<Threads>::new();
    for namespace in ["/hub", "/portal"] {
        assert_eq!(app.try_connect(namespace, visitor()).err().as_deref(), Some("Token invalido"));
        let described = app.description().namespaces.into_iter().find(|known| known.path == namespace);
        assert_eq!(described.and_then(|known| known.door).map(|door| door.invalid).as_deref(), Some("Token invalido"));
    }
    assert_eq!(app.try_connect("/hub", user("carl")).err().as_deref(), Some("Token invalido"));
    assert!(app.try_connect("/hub", user("root").role("ADMIN")).is_ok());
}

#[test]
fn attendants_join_any_thread_and_customers_only_their_own() {
    let (app, ana, carl) = two();
    assert_eq!((ana.rooms(), carl.rooms()), (vec!["thread:t1".to_owned()], vec!["thread:t1".to_owned()]));
    let eve = app.connect("/portal", user("eve"));
    eve.emit("join:thread", json!("t1")).expect_refusal("forbidden", "Not authorized");
    // An attendant in the customers' namespace is a customer.
    app.connect("/portal", attendant("ana")).emit("join:thread", json!("t1")).expect_refusal("forbidden", "Not authorized");
    ana.emit("join:thread", json!("unknown")).expect_refusal("forbidden", "Not authorized");
    ana.emit("join:thread", json!({})).expect_refusal("invalid", "threadId: missing");
    carl.emit("leave:thread", json!("t1")).expect_ok();
    assert!(carl.rooms().is_empty());
}

#[test]
fn the_previous_customer_of_a_thread_leaves_its_room() {
    let (app, ana, carl) = two();
    let phone = app.connect("/portal", user("carl"));
    phone.emit("join:thread", json!("t1")).expect_ok();
    app.publish("thread.upserted", json!({ "threadId": "t1", "customer": { "id": "dora", "name": "Dora" } }));
    assert!(carl.rooms().is_empty() && phone.rooms().is_empty());
    assert_eq!(ana.rooms(), ["thread:t1"]);
    carl.emit("join:thread", json!("t1")).expect_refusal("forbidden", "Not authorized");
}

#[test]
fn typing_reaches_the_others_on_both_sides_and_no_storage() {
    let (app, ana, carl) = two();
    app.storage_answers(false);
    ana.emit("typing:start", json!({ "threadId": "t1" })).expect_ok();
    carl.expect("thread:typing", json!({ "threadId": "t1", "userId": "ana", "userName": "Ana", "isTyping": true }));
    carl.emit("typing:stop", json!("t1")).expect_ok();
    ana.expect("thread:typing", json!({ "threadId": "t1", "userId": "carl", "userName": "carl", "isTyping": false }));
    ana.expect_nothing();
    carl.expect_nothing();
}

#[test]
fn cursors_reach_the_others() {
    let (_, ana, carl) = two();
    ana.emit("cursor:move", json!({ "threadId": "t1", "x": 1.5, "y": -2 })).expect_ok();
    carl.expect("thread:cursor", json!({ "threadId": "t1", "userId": "ana", "x": 1.5, "y": -2.0 }));
    ana.expect_nothing();
}

#[test]
fn a_message_reaches_both_sides_and_the_backend() {
    let (app, ana, carl) = two();
    carl.emit("thread:send", json!({ "threadId": "t1", "content": "1 < 2" })).expect_ok();
    let message = ana.expect_any("thread:message");
    let id = &message["id"];
    let expected = json!({
        "id": id, "threadId": "t1", "userId": "carl", "content": "1 < 2", "createdAt": "2025-01-01T00:00:00.000Z",
    });
    assert_eq!(message, expected);
    carl.expect("thread:message", message.clone());
    let sent = json!({ "threadId": "t1", "id": id, "userId": "carl", "content": "1 < 2" });
    assert_eq!(app.published("thread.sent"), [sent]);
}

#[test]
fn a_message_has_1_to_2000_characters() {
    let (_, ana, carl) = two();
    for content in [json!(""), json!("  "), json!("x".repeat(2001)), json!(null)] {
        let outcome = ana.emit("thread:send", json!({ "threadId": "t1", "content": content }));
        outcome.expect_refusal("invalid", "Invalid message");
    }
    carl.expect_nothing();
}

#[test]
fn messages_and_typing_without_a_join_are_refused() {
    let app = desk();
    let carl = app.connect("/portal", user("carl"));
    let events = [
        ("typing:start", json!("t1")),
        ("typing:stop", json!("t1")),
        ("cursor:move", json!({ "threadId": "t1", "x": 0, "y": 0 })),
        ("thread:send", json!({ "threadId": "t1", "content": "hi" })),
    ];
    for (event, payload) in events {
        carl.emit(event, payload).expect_refusal("forbidden", "Not authorized");
    }
    assert!(app.published("thread.sent").is_empty());
}

#[test]
fn a_message_of_the_backend_is_not_published_back() {
    let (app, ana, carl) = two();
    app.publish("thread.message", json!({ "threadId": "t1", "userId": 7, "content": "hello" }));
    let message = ana.expect_any("thread:message");
    let expected = json!({
        "id": message["id"], "threadId": "t1", "userId": 7, "content": "hello", "createdAt": "2025-01-01T00:00:00.000Z",
    });
    assert_eq!(message, expected);
    carl.expect("thread:message", message);
    let stored = json!({ "id": 12, "threadId": "t1", "userId": "7", "content": "hello", "createdAt": "2024-12-31T10:00:00Z" });
    app.publish("thread.message", stored.clone());
    expect_both([&ana, &carl], "thread:message", &stored);
    assert!(app.published("thread.sent").is_empty());
}

#[test]
fn status_accept_and_end_reach_both_sides() {
    let (app, ana, carl) = two();
    app.publish("thread.status", json!({ "threadId": "t1", "status": "waiting", "by": "x" }));
    expect_both([&ana, &carl], "thread:status", &json!({ "threadId": "t1", "status": "waiting" }));
    let attendant = json!({ "id": "ana", "name": "Ana", "avatar": "ana.png" });
    app.publish("chat.accepted", json!({ "threadId": "t1", "attendant": attendant }));
    expect_both([&ana, &carl], "chat:accepted", &json!({ "threadId": "t1", "attendant": attendant }));
    app.publish("chat.ended", json!({ "threadId": "t1", "reason": "solved" }));
    expect_both([&ana, &carl], "chat:ended", &json!({ "threadId": "t1", "reason": "solved" }));
}

#[test]
fn events_of_another_thread_are_not_sent() {
    let (app, ana, carl) = two();
    app.publish("thread.message", json!({ "threadId": "t2", "userId": "x", "content": "hello" }));
    app.publish("chat.ended", json!({ "threadId": "t2", "reason": "solved" }));
    ana.expect_nothing();
    carl.expect_nothing();
}

#[test]
fn equal_threads_of_two_tenants_stay_apart() {
    let app = Harness::<Threads>::new();
    let publish = |tenant: Option<&str>, topic: &str, data: Value| match tenant {
        Some(tenant) => app.publish_for(tenant, topic, data),
        None => app.publish(topic, data),
    };
    let of = |who: Identity, tenant: Option<&str>| tenant.map_or(who.clone(), |tenant| who.tenant(tenant));
    let tenants = [None, Some("acme"), Some("bolt")];
    let pairs = tenants.map(|tenant| {
        let ana = app.connect("/hub", of(attendant("ana"), tenant));
        ana.emit("join:thread", json!("t1")).expect_refusal("forbidden", "Not authorized");
        publish(tenant, "thread.upserted", json!({ "threadId": "t1", "customer": { "id": "carl" } }));
        let carl = app.connect("/portal", of(user("carl"), tenant));
        ana.emit("join:thread", json!("t1")).expect_ok();
        carl.emit("join:thread", json!("t1")).expect_ok();
        (ana, carl)
    });
    for (at, tenant) in tenants.into_iter().enumerate() {
        publish(tenant, "thread.status", json!({ "threadId": "t1", "status": "waiting" }));
        pairs[at].1.emit("thread:send", json!({ "threadId": "t1", "content": "hi" })).expect_ok();
        for (other, (ana, carl)) in pairs.iter().enumerate() {
            let heard = usize::from(other == at);
            for client in [ana, carl] {
                assert_eq!(client.received("thread:status").len(), heard, "{tenant:?}");
                assert_eq!(client.received("thread:message").len(), heard, "{tenant:?}");
                client.forget();
            }
        }
    }
    publish(Some("acme"), "thread.upserted", json!({ "threadId": "t1", "customer": { "id": "dora" } }));
    let rooms = pairs.map(|(_, carl)| carl.rooms().len());
    assert_eq!(rooms, [1, 0, 1], "only acme's thread has another customer");
    let threads: Vec<_> = app.keys("").into_iter().filter(|key| key.ends_with("/t1")).collect();
    assert_eq!(threads, ["%t/acme/threads/t1", "%t/bolt/threads/t1", "threads/t1"]);
    for prefix in ["%t/acme/threads/t1/", "%t/bolt/threads/t1/", "threads/t1/"] {
        assert_eq!(app.keys(prefix).len(), 2, "each tenant's message is stored under its own thread");
    }
}

#[test]
fn a_message_that_is_sent_again_with_its_client_id_is_sent_once() {
    let (app, ana, carl) = two();
    for client in [&ana, &ana, &carl, &carl] {
        client.emit("thread:send", json!({ "threadId": "t1", "content": "hi", "clientId": "m1" })).expect_ok();
    }
    ana.emit("thread:send", json!({ "threadId": "t1", "content": "hi" })).expect_ok();
    let sent: Vec<_> =
        carl.received("thread:message").iter().map(|sent| (sent["userId"].clone(), sent.get("clientId").cloned())).collect();
    assert_eq!(sent, [(json!("ana"), Some(json!("m1"))), (json!("carl"), Some(json!("m1"))), (json!("ana"), None)]);
    assert_eq!(app.published("thread.sent").len(), 3, "the backend gets each once");
}
