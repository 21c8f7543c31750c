//! Pages of a live chat's history.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, user, visitor};
use serde_json::{Value, json};

use crate::Chat;

fn watch(app: &Harness<Chat>) -> Client<Chat> {
    let client = app.connect("/", user("ana"));
    for video in ["v1", "v2"] {
        client.emit("chat:join", json!({ "videoId": video })).expect_ok();
    }
    client
}

fn unlimited() -> Harness<Chat> {
    Harness::new().config(json!({ "messages_per_minute": 0 }))
}

/// Sends numbered messages, and returns them as the room received them.
fn say(ana: &Client<Chat>, video: &str, messages: usize) -> Vec<Value> {
    for n in 0..messages {
        ana.emit("chat:message", json!({ "videoId": video, "message": n.to_string() })).expect_ok();
    }
    ana.received("chat:message")
}

#[test]
fn a_visitor_fills_a_gap_of_250_messages() {
    let app = unlimited();
    let ana = watch(&app);
    let sent = say(&ana, "v1", 260);
    let visitor = app.connect("/", visitor());
    let (mut filled, mut after) = (Vec::new(), sent[9]["id"].clone());
    loop {
        let page = visitor.emit("chat:history", json!({ "videoId": "v1", "after": after, "limit": 100 })).ack();
        filled.extend(page["messages"].as_array().cloned().unwrap_or_default());
        let Some(next) = page.get("nextAfter") else { break };
        after = next.clone();
    }
    assert_eq!(filled, sent[10..]);
}

#[test]
fn history_runs_from_the_newest_message_down() {
    let app = unlimited();
    let ana = watch(&app);
    let sent = say(&ana, "v1", 3);
    say(&ana, "v2", 1);
    let first = ana.emit("chat:history", json!({ "videoId": "v1", "limit": 2 })).ack();
    assert_eq!(first["messages"], json!([sent[2], sent[1]]));
    let second = ana.emit("chat:history", json!({ "videoId": "v1", "before": first["nextBefore"] })).ack();
    assert_eq!(second, json!({ "videoId": "v1", "messages": [sent[0]] }));
}

#[test]
fn both_keys_and_unknown_ids_are_invalid() {
    let app = unlimited();
    let ana = watch(&app);
    let (sent, other) = (say(&ana, "v1", 1), say(&ana, "v2", 1));
    let both = json!({ "videoId": "v1", "before": sent[0]["id"], "after": sent[0]["id"] });
    ana.emit("chat:history", both).expect_refusal("invalid", "before, after: only one of them may be given");
    for unknown in [json!("nonsense"), other[0]["id"].clone()] {
        for key in ["before", "after"] {
            let page = ana.emit("chat:history", json!({ "videoId": "v1", key: unknown }));
            page.expect_refusal("invalid", &format!("{key}: unknown id"));
        }
    }
}

#[test]
fn expired_messages_are_deleted_by_later_ones() {
    let app = unlimited();
    let ana = watch(&app);
    say(&ana, "v1", 3);
    app.advance(Duration::from_secs(7 * 24 * 60 * 60));
    say(&ana, "v1", 1);
    assert_eq!(app.keys("live/v1/").len(), 2);
    say(&ana, "v1", 1);
    assert_eq!(app.keys("live/v1/").len(), 2);
}

#[test]
fn live_history_days_0_stores_nothing() {
    let app = Harness::new().config(json!({ "live_history_days": 0 }));
    let ana = watch(&app);
    say(&ana, "v1", 2);
    assert!(app.keys("").is_empty());
    ana.emit("chat:history", json!({ "videoId": "v1" })).expect_ack(json!({ "videoId": "v1", "messages": [] }));
}
