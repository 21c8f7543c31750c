//! A backend that runs the queue itself: its messages are sent to attendants, and its items are taken once.

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Queue;

fn attendant(app: &Harness<Queue>, id: &str) -> Client<Queue> {
    let client = app.connect("/hub", user(id).role("ATTENDANT"));
    client.put_in("presence:attendants");
    client
}

fn new(item: Value) -> Value {
    json!({ "itemId": item, "threadId": 7, "customer": { "id": 1, "name": "Caio", "vip": true }, "waitingSince": 1234, "more": [1] })
}

/// An attendant that has received the backend's item `q1`.
fn one() -> (Harness<Queue>, Client<Queue>) {
    let app = Harness::<Queue>::new();
    let ana = attendant(&app, "ana");
    app.publish("queue.new", new(json!("q1")));
    ana.expect("queue:new", new(json!("q1")));
    (app, ana)
}

/// No further event is sent, also after the time in which changes are collected.
fn expect_silence(app: &Harness<Queue>, client: &Client<Queue>) {
    app.advance(super::waiting::COLLECT * 2);
    client.expect_nothing();
}

#[test]
fn the_backends_messages_reach_only_attendants_as_published() {
    let app = Harness::<Queue>::new();
    let (ana, outsider) = (attendant(&app, "ana"), app.connect("/hub", user("ben")));
    let without_time = json!({ "itemId": "q2", "threadId": "t2", "customer": { "id": "c2", "name": "Dora" } });
    for item in [new(json!(5)), without_time] {
        app.publish("queue.new", item.clone());
        ana.expect("queue:new", item);
    }
    for taken in [json!({ "itemId": 5, "attendantId": 3, "at": "now" }), json!({ "itemId": "never seen", "attendantId": "ben" })]
    {
        app.publish("queue.taken", taken.clone());
        ana.expect("queue:taken", taken);
    }
    let updated = json!({ "length": 3, "items": [{ "itemId": 5 }, "q2"], "more": null });
    app.publish("queue.updated", updated.clone());
    ana.expect("queue:updated", updated);
    expect_silence(&app, &ana);
    outsider.expect_nothing();
}

#[test]
fn an_announced_item_can_be_taken_once_by_its_id_as_text() {
    let (app, ana) = one();
    let ben = attendant(&app, "ben");
    ben.emit("queue:take", json!({ "itemId": "q1" })).expect_reply(json!({ "itemId": "q1", "taken": true }));
    ana.expect("queue:taken", json!({ "itemId": "q1", "attendantId": "ben" }));
    ana.emit("queue:take", json!({ "itemId": "q1" })).expect_reply(json!({ "itemId": "q1", "taken": false }));
    assert_eq!(app.published("queue.taken"), [json!({ "itemId": "q1", "attendantId": "ben", "threadId": 7 })]);
    app.publish("queue.new", new(json!(5)));
    ana.expect("queue:new", new(json!(5)));
    ana.emit("queue:take", json!({ "itemId": 5 })).expect_refusal("invalid", "itemId: must be a string");
    ana.emit("queue:take", json!({ "itemId": "5" })).expect_reply(json!({ "itemId": "5", "taken": true }));
    ana.expect("queue:taken", json!({ "itemId": 5, "attendantId": "ana" }));
    expect_silence(&app, &ana);
}

#[test]
fn an_item_taken_or_removed_by_the_backend_cannot_be_taken() {
    let (app, ana) = one();
    app.publish("queue.taken", json!({ "itemId": "q1", "attendantId": "ben" }));
    ana.expect("queue:taken", json!({ "itemId": "q1", "attendantId": "ben" }));
    app.publish("queue.new", new(json!("q2")));
    ana.expect("queue:new", new(json!("q2")));
    app.publish("queue.removed", json!({ "itemId": "q2" }));
    for item in ["q1", "q2"] {
        ana.emit("queue:take", json!({ "itemId": item })).expect_reply(json!({ "itemId": item, "taken": false }));
    }
    expect_silence(&app, &ana);
}

#[test]
fn a_waiting_item_is_announced_once() {
    let (app, ana) = one();
    app.publish("queue.new", new(json!("q1")));
    ana.expect_nothing();
    let added = json!({ "itemId": "q1", "threadId": "t1", "customer": { "id": "c1", "name": "Caio" } });
    app.publish("queue.added", added.clone());
    assert!(ana.received("queue:new").is_empty());
    app.publish("queue.new", new(json!("q1")));
    ana.expect_nothing();
    ana.emit("queue:take", json!({ "itemId": "q1" })).expect_reply(json!({ "itemId": "q1", "taken": true }));
    ana.emit("queue:take", json!({ "itemId": "q1" })).expect_reply(json!({ "itemId": "q1", "taken": false }));
    assert_eq!(ana.received("queue:taken").len(), 1);
    app.publish("queue.new", new(json!("q1")));
    ana.expect("queue:new", new(json!("q1")));
}

#[test]
fn a_message_without_an_item_fails() {
    let app = Harness::<Queue>::new();
    for (topic, data) in [
        ("queue.new", json!({ "threadId": "t1", "customer": {} })),
        ("queue.new", json!({ "itemId": "q1", "threadId": "t1" })),
        ("queue.taken", json!({ "itemId": "q1" })),
        ("queue.updated", json!({ "items": [] })),
    ] {
        assert!(app.try_publish(topic, data.clone()).is_err(), "{topic} {data}");
    }
}
