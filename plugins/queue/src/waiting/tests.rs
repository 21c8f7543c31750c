//! The queue: each event, and that an item is taken once.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Queue;

const START: &str = "2025-01-01T00:00:00.000Z";

fn attendant(app: &Harness<Queue>, id: &str) -> Client<Queue> {
    let client = app.connect("/hub", user(id).role("ATTENDANT"));
    client.put_in("presence:attendants");
    client
}

/// A queue with one item, and two attendants that have received it.
fn one() -> (Harness<Queue>, Client<Queue>, Client<Queue>) {
    let app = Harness::<Queue>::new();
    let [ana, ben] = ["ana", "ben"].map(|id| attendant(&app, id));
    add(&app, "i1");
    soon(&app);
    [&ana, &ben].iter().for_each(|client| client.forget());
    (app, ana, ben)
}

fn add(app: &Harness<Queue>, item: &str) {
    app.publish("queue.added", json!({ "itemId": item, "threadId": "t1", "customer": { "id": "c1", "name": "Caio" } }));
}

fn waiting(item: &str, since: &str) -> Value {
    json!({ "itemId": item, "threadId": "t1", "customer": { "id": "c1", "name": "Caio" }, "waitingSince": since })
}

fn soon(app: &Harness<Queue>) {
    app.advance(super::COLLECT);
}

#[test]
fn a_waiting_item_is_sent_to_the_attendants() {
    let app = Harness::<Queue>::new();
    let (ana, outsider) = (attendant(&app, "ana"), app.connect("/hub", user("ben")));
    add(&app, "i1");
    ana.expect("queue:new", waiting("i1", START));
    ana.expect_nothing();
    soon(&app);
    ana.expect("queue:updated", json!({ "length": 1, "items": [waiting("i1", START)] }));
    ana.expect_nothing();
    outsider.expect_nothing();
}

#[test]
fn a_clients_id_is_a_string_and_a_backends_may_be_a_number() {
    let app = Harness::<Queue>::new();
    let ana = attendant(&app, "ana");
    app.publish("queue.added", json!({ "itemId": 5, "threadId": 7, "customer": { "id": 9, "name": "Caio" } }));
    for wrong in [json!(5), json!(null), json!(["5"]), json!({ "id": "5" })] {
        ana.emit("queue:take", json!({ "itemId": wrong })).expect_refusal("invalid", &refusal(&wrong));
    }
    ana.emit("queue:take", json!({ "itemId": "5" })).expect_reply(json!({ "itemId": "5", "taken": true }));
    app.publish("queue.added", json!({ "itemId": 6, "threadId": 7, "customer": { "id": 9, "name": "Caio" } }));
    app.publish("queue.removed", json!({ "itemId": 6 }));
    ana.emit("queue:take", json!({ "itemId": "6" })).expect_reply(json!({ "itemId": "6", "taken": false }));
}

fn refusal(wrong: &Value) -> String {
    if wrong.is_null() { "itemId: missing".into() } else { "itemId: must be a string".into() }
}

#[test]
fn the_first_attendant_takes_the_item() {
    let (app, ana, ben) = one();
    ana.emit("queue:take", json!({ "itemId": "i1" })).expect_reply(json!({ "itemId": "i1", "taken": true }));
    ben.emit("queue:take", json!({ "itemId": "i1" })).expect_reply(json!({ "itemId": "i1", "taken": false }));
    soon(&app);
    for client in [&ana, &ben] {
        client.expect("queue:taken", json!({ "itemId": "i1", "attendantId": "ana" }));
        client.expect("queue:updated", json!({ "length": 0, "items": [] }));
        client.expect_nothing();
    }
    assert_eq!(app.published("queue.taken"), [json!({ "itemId": "i1", "attendantId": "ana", "threadId": "t1" })]);
}

#[test]
fn an_unknown_item_is_not_taken() {
    let (app, ana, _) = one();
    ana.emit("queue:take", json!({ "itemId": "i2" })).expect_reply(json!({ "itemId": "i2", "taken": false }));
    ana.emit("queue:take", json!({})).expect_refusal("invalid", "itemId: missing");
    ana.emit("queue:take", json!({ "itemId": 5 })).expect_refusal("invalid", "itemId: must be a string");
    soon(&app);
    ana.expect_nothing();
}

#[test]
fn a_removed_item_cannot_be_taken() {
    let (app, ana, _) = one();
    app.publish("queue.removed", json!({ "itemId": "i1" }));
    soon(&app);
    ana.expect("queue:updated", json!({ "length": 0, "items": [] }));
    ana.emit("queue:take", json!({ "itemId": "i1" })).expect_reply(json!({ "itemId": "i1", "taken": false }));
    app.publish("queue.removed", json!({ "itemId": "i1" }));
    soon(&app);
    ana.expect_nothing();
    assert_eq!(app.keys(""), ["length"]);
}

#[test]
fn an_item_added_again_keeps_its_place_and_has_the_new_thread() {
    let (app, ana, _) = one();
    add(&app, "i2");
    soon(&app);
    ana.forget();
    app.publish("queue.added", json!({ "itemId": "i1", "threadId": "t2", "customer": { "id": "c1" }, "more": 1 }));
    soon(&app);
    let again = json!({ "itemId": "i1", "threadId": "t2", "customer": { "id": "c1", "name": "" }, "waitingSince": START });
    ana.expect("queue:updated", json!({ "length": 2, "items": [again, waiting("i2", "2025-01-01T00:00:00.100Z")] }));
    ana.expect_nothing();
}

#[test]
fn a_taken_item_can_be_added_again() {
    let (app, ana, ben) = one();
    let _ = ana.emit("queue:take", json!({ "itemId": "i1" })).ack();
    add(&app, "i1");
    ana.expect("queue:new", waiting("i1", "2025-01-01T00:00:00.100Z"));
    ben.emit("queue:take", json!({ "itemId": "i1" })).expect_reply(json!({ "itemId": "i1", "taken": true }));
}

#[test]
fn the_update_lists_fifty_items_and_counts_all() {
    let app = Harness::<Queue>::new();
    let ana = attendant(&app, "ana");
    for n in (0..60).rev() {
        add(&app, &format!("i{n:02}"));
        app.advance(Duration::from_millis(1));
    }
    app.advance(Duration::from_secs(1));
    let Some(updated) = ana.received("queue:updated").pop() else { panic!("no queue:updated has come") };
    let items: Vec<&str> = updated["items"].as_array().into_iter().flatten().filter_map(|one| one["itemId"].as_str()).collect();
    assert_eq!((&updated["length"], items.len(), items[0], items[49]), (&json!(60), 50, "i59", "i10"));
}

#[test]
fn many_changes_are_sent_in_one_update() {
    let (app, ana, _) = one();
    (0..20).for_each(|n| add(&app, &format!("n{n}")));
    soon(&app);
    assert_eq!(ana.received("queue:new").len(), 20);
    assert_eq!(ana.received("queue:updated").len(), 1);
}

#[test]
fn a_change_that_cannot_be_stored_is_not_sent() {
    let (app, ana, ben) = one();
    app.storage_answers(false);
    ana.emit("queue:take", json!({ "itemId": "i1" })).expect_refusal("unavailable", "Service unavailable");
    app.storage_answers(true);
    soon(&app);
    ana.expect_nothing();
    ben.emit("queue:take", json!({ "itemId": "i1" })).expect_reply(json!({ "itemId": "i1", "taken": true }));
}

#[test]
fn numbers_as_ids_come_back_as_published() {
    let app = Harness::<Queue>::new();
    let ana = attendant(&app, "ana");
    app.publish("queue.added", json!({ "itemId": 5, "threadId": 7, "customer": { "id": 9, "name": "Caio" } }));
    let item = json!({ "itemId": 5, "threadId": 7, "customer": { "id": 9, "name": "Caio" }, "waitingSince": START });
    ana.expect("queue:new", item.clone());
    soon(&app);
    ana.expect("queue:updated", json!({ "length": 1, "items": [item] }));
    ana.emit("queue:take", json!({ "itemId": "5" })).expect_reply(json!({ "itemId": "5", "taken": true }));
    ana.expect("queue:taken", json!({ "itemId": 5, "attendantId": "ana" }));
}

#[test]
fn each_tenant_has_its_own_queue() {
    let app = Harness::<Queue>::new();
    let [acme, other] = ["acme", "other"].map(|tenant| {
        let client = app.connect("/hub", user("ana").role("ATTENDANT").tenant(tenant));
        client.put_in("presence:attendants");
        client
    });
    let bare = attendant(&app, "ana");
    app.publish_for(
        "acme",
        "queue.added",
        json!({ "itemId": "i1", "threadId": "t1", "customer": { "id": "c1", "name": "Caio" } }),
    );
    acme.expect("queue:new", waiting("i1", START));
    soon(&app);
    acme.expect("queue:updated", json!({ "length": 1, "items": [waiting("i1", START)] }));
    for client in [&other, &bare] {
        client.emit("queue:take", json!({ "itemId": "i1" })).expect_ack(json!({ "itemId": "i1", "taken": false }));
        assert!(client.received("queue:new").is_empty() && client.received("queue:updated").is_empty());
    }
    acme.emit("queue:take", json!({ "itemId": "i1" })).expect_ack(json!({ "itemId": "i1", "taken": true }));
}
