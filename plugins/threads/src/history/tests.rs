//! Pages of a thread's history.

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Threads;

/// The threads `t1` of the customer `carl` and `t2` of `dora`, and an attendant and `carl` in `t1`.
fn desk() -> (Harness<Threads>, Client<Threads>, Client<Threads>) {
    let app = Harness::<Threads>::new();
    for (thread, customer) in [("t1", "carl"), ("t2", "dora")] {
        app.publish("thread.upserted", json!({ "threadId": thread, "customer": { "id": customer } }));
    }
    let (ana, carl) = (app.connect("/hub", user("ana").role("ATTENDANT")), app.connect("/portal", user("carl")));
    ana.emit("join:thread", json!("t1")).expect_ok();
    carl.emit("join:thread", json!("t1")).expect_ok();
    (app, ana, carl)
}

/// Numbered messages, in turn from a client, from the backend with its own id, and from the backend without one. Returns them as the
/// room received them.
fn say(app: &Harness<Threads>, carl: &Client<Threads>, messages: usize) -> Vec<Value> {
    for n in 0..messages {
        let message = json!({ "threadId": "t1", "userId": "ana", "content": n.to_string() });
        match n % 3 {
            0 => carl.emit("thread:send", message).expect_ok(),
            // The ids of a backend have no order.
            1 => {
                app.publish("thread.message", json!({ "id": 1000 - n, "threadId": "t1", "userId": 7, "content": n.to_string() }))
            }
            _ => app.publish("thread.message", message),
        }
    }
    carl.received("thread:message")
}

fn text(id: &Value) -> Value {
    id.as_str().map_or_else(|| json!(id.to_string()), |id| json!(id))
}

#[test]
fn both_sides_fill_a_gap_of_250_messages() {
    let (app, ana, carl) = desk();
    let sent = say(&app, &carl, 260);
    for (client, known) in [(&ana, 9), (&carl, 10), (&carl, 11)] {
        let (mut filled, mut after) = (Vec::new(), text(&sent[known]["id"]));
        loop {
            let page = client.emit("thread:history", json!({ "threadId": "t1", "after": after, "limit": 100 })).ack();
            filled.extend(page["messages"].as_array().cloned().unwrap_or_default());
            let Some(next) = page.get("nextAfter") else { break };
            after = next.clone();
        }
        assert_eq!(filled, sent[known + 1..]);
    }
}

#[test]
fn history_runs_from_the_newest_message_down() {
    let (app, ana, carl) = desk();
    let sent = say(&app, &carl, 4);
    let first = ana.emit("thread:history", json!({ "threadId": "t1", "limit": 3 })).ack();
    assert_eq!(first["messages"], json!([sent[3], sent[2], sent[1]]));
    let second = json!({ "threadId": "t1", "before": text(&sent[1]["id"]) });
    ana.emit("thread:history", second).expect_ack(json!({ "threadId": "t1", "messages": [sent[0]] }));
}

#[test]
fn both_keys_and_unknown_ids_are_invalid() {
    let (app, ana, carl) = desk();
    let sent = say(&app, &carl, 2);
    app.publish("thread.message", json!({ "id": "other", "threadId": "t2", "userId": "dora", "content": "hi" }));
    let both = json!({ "threadId": "t1", "before": sent[0]["id"], "after": sent[0]["id"] });
    ana.emit("thread:history", both).expect_refusal("invalid", "before, after: only one of them may be given");
    for unknown in ["nonsense", "other", "99999999999999999999", &"/".repeat(128)] {
        for key in ["before", "after"] {
            let page = ana.emit("thread:history", json!({ "threadId": "t1", key: unknown }));
            page.expect_refusal("invalid", &format!("{key}: unknown id"));
        }
    }
}

#[test]
fn only_those_who_may_join_read_the_history() {
    let (app, ana, carl) = desk();
    say(&app, &carl, 1);
    let dora = app.connect("/portal", user("dora"));
    dora.emit("thread:history", json!({ "threadId": "t1" })).expect_refusal("forbidden", "Not authorized");
    ana.emit("thread:history", json!({ "threadId": "unknown" })).expect_refusal("forbidden", "Not authorized");
    ana.emit("leave:thread", json!("t1")).expect_ok();
    let page = ana.emit("thread:history", json!({ "threadId": "t1" })).ack();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_message_that_is_published_twice_is_stored_once() {
    let (app, ana, carl) = desk();
    for _ in 0..2 {
        app.publish("thread.message", json!({ "id": "m1", "threadId": "t1", "userId": 7, "content": "hi" }));
    }
    assert_eq!(carl.received("thread:message").len(), 2);
    let page = ana.emit("thread:history", json!({ "threadId": "t1" })).ack();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_backends_largest_message_is_sent_and_not_stored() {
    let (app, ana, carl) = desk();
    app.publish("thread.message", json!({ "threadId": "t1", "userId": 7, "content": "x".repeat(200_000) }));
    assert_eq!(carl.received("thread:message").len(), 1);
    ana.emit("thread:history", json!({ "threadId": "t1" })).expect_ack(json!({ "threadId": "t1", "messages": [] }));
}
