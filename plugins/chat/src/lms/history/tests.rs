//! Pages of a chat's history after a message.

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Chat;

/// A participant of the chats `c1` and `c2`, who has joined both.
fn participant() -> Client<Chat> {
    let app = Harness::<Chat>::new().config(json!({ "messages_per_minute": 0 }));
    for chat in ["c1", "c2"] {
        app.publish("chat.upserted", json!({ "chatId": chat, "participants": [{ "userId": "ana" }, { "userId": "eve" }] }));
    }
    let ana = app.connect("/chat", user("ana"));
    for chat in ["c1", "c2"] {
        let _ = ana.emit("chat:join", json!({ "chatId": chat })).ack();
    }
    ana.forget();
    ana
}

/// Sends numbered messages, and returns them as the room received them.
fn say(ana: &Client<Chat>, chat: &str, messages: usize) -> Vec<Value> {
    for n in 0..messages {
        ana.emit("chat:message", json!({ "chatId": chat, "content": n.to_string() })).expect_ok();
    }
    ana.received("chat:message")
}

#[test]
fn pages_after_a_message_fill_a_gap_of_250() {
    let ana = participant();
    let sent = say(&ana, "c1", 260);
    let (mut filled, mut after, mut pages) = (Vec::new(), sent[9]["id"].clone(), 0);
    loop {
        let page = ana.emit("chat:history", json!({ "chatId": "c1", "after": after, "limit": 100 })).ack();
        assert!(page.get("nextBefore").is_none());
        filled.extend(page["messages"].as_array().cloned().unwrap_or_default());
        pages += 1;
        let Some(next) = page.get("nextAfter") else { break };
        after = next.clone();
    }
    assert_eq!((filled.as_slice(), pages), (&sent[10..], 3));
}

#[test]
fn pages_before_and_after_a_message_meet_at_it() {
    let ana = participant();
    let sent = say(&ana, "c1", 5);
    let page = |key: &str| ana.emit("chat:history", json!({ "chatId": "c1", key: sent[2]["id"], "limit": 2 })).ack();
    assert_eq!(page("before")["messages"], json!([sent[1], sent[0]]));
    assert_eq!(page("after"), json!({ "chatId": "c1", "messages": [sent[3], sent[4]] }));
    let none = ana.emit("chat:history", json!({ "chatId": "c1", "after": sent[4]["id"] }));
    none.expect_ack(json!({ "chatId": "c1", "messages": [] }));
}

#[test]
fn both_keys_and_unknown_ids_are_invalid() {
    let ana = participant();
    let (sent, other) = (say(&ana, "c1", 2), say(&ana, "c2", 1));
    let (one, two) = (&sent[0]["id"], &sent[1]["id"]);
    let both = ana.emit("chat:history", json!({ "chatId": "c1", "before": two, "after": one }));
    both.expect_refusal("invalid", "before, after: only one of them may be given");
    for unknown in [json!("nonsense"), json!("01JGFJJZ000000000000000ZZZ"), json!("99999999999999999999"), other[0]["id"].clone()]
    {
        for key in ["before", "after"] {
            let page = ana.emit("chat:history", json!({ "chatId": "c1", key: unknown }));
            page.expect_refusal("invalid", &format!("{key}: unknown id"));
        }
    }
}

#[test]
fn a_page_of_the_largest_messages_fits_a_reply() {
    let ana = participant();
    for _ in 0..100 {
        ana.emit("chat:message", json!({ "chatId": "c1", "content": "&".repeat(2000) })).expect_ok();
    }
    let page = ana.emit("chat:history", json!({ "chatId": "c1", "limit": 100 })).ack();
    assert!(page["messages"].as_array().is_some_and(|messages| (30..100).contains(&messages.len())));
    assert!(page["nextBefore"].is_string());
}
