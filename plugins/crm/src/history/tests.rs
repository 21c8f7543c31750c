//! Pages of a conversation's history.

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Crm;

fn enter(app: &Harness<Crm>, company: &str) -> Client<Crm> {
    app.publish("conversation.upserted", json!({ "companyId": company, "conversationId": "c1" }));
    let client = app.connect("/conversations", user("ana").claim("userId", "ana").claim("companyId", company));
    client.emit("join:conversation", json!("c1")).expect_ok();
    client
}

/// Numbered messages of a user and of a contact in turn, as the room received them.
fn say(app: &Harness<Crm>, ana: &Client<Crm>, messages: usize) -> Vec<Value> {
    for n in 0..messages {
        let message = json!({ "companyId": "acme", "conversationId": "c1", "from": "contact", "content": n.to_string() });
        if n % 2 == 0 {
            let _ = ana.emit("message:send", message).ack();
        } else {
            app.publish("message.received", message);
        }
    }
    ana.received("message:new")
}

fn page(client: &Client<Crm>, key: &str, id: &Value) -> Value {
    client.emit("message:history", json!({ "conversationId": "c1", key: id, "limit": 100 })).ack()
}

#[test]
fn pages_after_a_message_fill_a_gap_of_250() {
    let app = Harness::<Crm>::new();
    let ana = enter(&app, "acme");
    let sent = say(&app, &ana, 260);
    let (mut filled, mut after) = (Vec::new(), sent[9]["id"].clone());
    loop {
        let page = page(&ana, "after", &after);
        filled.extend(page["messages"].as_array().cloned().unwrap_or_default());
        let Some(next) = page.get("nextAfter") else { break };
        after = next.clone();
    }
    assert_eq!(filled, sent[10..]);
    let first = page(&ana, "limit", &json!(100));
    assert_eq!(first["messages"], json!(sent[160..].iter().rev().collect::<Vec<_>>()));
    let second = page(&ana, "before", &first["nextBefore"]);
    assert_eq!(second["messages"], json!(sent[60..160].iter().rev().collect::<Vec<_>>()));
}

#[test]
fn both_keys_and_unknown_ids_are_invalid() {
    let app = Harness::<Crm>::new();
    let (ana, spy) = (enter(&app, "acme"), enter(&app, "bolt"));
    let sent = say(&app, &ana, 1);
    let both = json!({ "conversationId": "c1", "before": sent[0]["id"], "after": sent[0]["id"] });
    ana.emit("message:history", both).expect_refusal("invalid", "before, after: only one of them may be given");
    for key in ["before", "after"] {
        let unknown = json!({ "conversationId": "c1", key: "nonsense" });
        ana.emit("message:history", unknown).expect_refusal("invalid", &format!("{key}: unknown id"));
        let of_acme = json!({ "conversationId": "c1", key: sent[0]["id"] });
        spy.emit("message:history", of_acme).expect_refusal("invalid", &format!("{key}: unknown id"));
    }
}

#[test]
fn only_a_companys_users_read_its_conversation() {
    let app = Harness::<Crm>::new();
    let (ana, spy) = (enter(&app, "acme"), enter(&app, "bolt"));
    say(&app, &ana, 1);
    spy.emit("message:history", json!({ "conversationId": "c1" })).expect_ack(json!({ "conversationId": "c1", "messages": [] }));
    app.publish("conversation.upserted", json!({ "companyId": "acme", "conversationId": "c2" }));
    let other = spy.emit("message:history", json!({ "conversationId": "c2" }));
    other.expect_refusal("not_found", "Conversation not found");
}

#[test]
fn edited_and_deleted_messages_are_read_as_they_are_now() {
    let app = Harness::<Crm>::new();
    let ana = enter(&app, "acme");
    let sent = say(&app, &ana, 5);
    ana.emit("message:delete", json!({ "messageId": sent[0]["id"] })).expect_ok();
    ana.emit("message:edit", json!({ "messageId": sent[2]["id"], "content": "new" })).expect_ok();
    let page = page(&ana, "after", &sent[0]["id"]);
    let mut edited = sent[2].clone();
    edited["content"] = json!("new");
    edited["updatedAt"] = json!("2025-01-01T00:00:00.000Z");
    assert_eq!(page, json!({ "conversationId": "c1", "messages": [sent[1], edited, sent[3], sent[4]] }));
}

#[test]
fn a_page_of_large_messages_is_cut_and_continued() {
    let app = Harness::<Crm>::new();
    let ana = enter(&app, "acme");
    for n in 0..5 {
        let content = format!("{n}{}", "x".repeat(150_000));
        app.publish("message.received", json!({ "companyId": "acme", "conversationId": "c1", "from": "a", "content": content }));
    }
    let sent = ana.received("message:new");
    let first = page(&ana, "after", &sent[0]["id"]);
    assert_eq!(first["messages"], json!(sent[1..3]));
    assert_eq!(page(&ana, "after", &first["nextAfter"])["messages"], json!(sent[3..]));
}
