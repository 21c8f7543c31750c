//! A CRM's conversations: each event, each refusal's sentence, and that a company with equal ids gets none of the events.

use hubbub_sdk::harness::{Client, Harness, Identity, user, visitor};
use serde_json::{Value, json};

use crate::Crm;

fn of(company: &str, id: &str) -> Identity {
    user(id).claim("userId", id).claim("companyId", company)
}

fn connect(app: &Harness<Crm>, company: &str, id: &str) -> Client<Crm> {
    app.connect("/conversations", of(company, id).email(&format!("{id}@{company}.example")))
}

fn enter(app: &Harness<Crm>, company: &str, id: &str) -> Client<Crm> {
    let client = connect(app, company, id);
    client.emit("join:conversation", json!("c1")).expect_ok();
    client
}

/// Two companies, each with a conversation `c1`.
fn companies() -> Harness<Crm> {
    let app = Harness::<Crm>::new();
    for company in ["acme", "bolt"] {
        app.publish("conversation.upserted", json!({ "companyId": company, "conversationId": "c1" }));
    }
    app
}

/// Two users of `acme`, and one of `bolt` with the same id as the first, all in `c1` of their company.
fn three() -> (Harness<Crm>, Client<Crm>, Client<Crm>, Client<Crm>) {
    let app = companies();
    let (ana, ben, spy) = (enter(&app, "acme", "ana"), enter(&app, "acme", "ben"), enter(&app, "bolt", "ana"));
    (app, ana, ben, spy)
}

fn send(client: &Client<Crm>, content: &str) -> Value {
    let ack = client.emit("message:send", json!({ "conversationId": "c1", "content": content })).ack();
    client.expect("message:sent", ack.clone());
    ack["id"].clone()
}

#[test]
fn a_token_without_a_user_or_a_company_is_refused() {
    let app = Harness::<Crm>::new();
    let refused = |who: Identity| app.try_connect("/conversations", who).err();
    assert_eq!(refused(visitor()).as_deref(), Some("Authentication required"));
    assert_eq!(refused(user("ana").claim("companyId", "acme")).as_deref(), Some("Invalid or expired token"));
    assert_eq!(refused(user("ana").claim("userId", "ana")).as_deref(), Some("Invalid or expired token"));
}

#[test]
fn a_connected_user_joins_the_companys_room() {
    let app = Harness::<Crm>::new();
    assert_eq!(connect(&app, "acme", "ana").rooms(), ["company:acme"]);
}

#[test]
fn a_conversation_of_another_company_is_not_found() {
    let app = companies();
    app.publish("conversation.upserted", json!({ "companyId": "bolt", "conversationId": "c2" }));
    let ana = connect(&app, "acme", "ana");
    for conversation in [json!("c2"), json!({ "conversationId": "c2" }), json!("unknown")] {
        ana.emit("join:conversation", conversation).expect_refusal("not_found", "Conversation not found");
    }
    let sent = ana.emit("message:send", json!({ "conversationId": "c2", "content": "hi" }));
    sent.expect_refusal("not_found", "Conversation not found");
    ana.emit("join:conversation", json!({ "conversationId": "c1" })).expect_ok();
    assert_eq!(ana.rooms(), ["company:acme", "conversation:c1"]);
    ana.emit("leave:conversation", json!("c1")).expect_ok();
    assert_eq!(ana.rooms(), ["company:acme"]);
}

#[test]
fn companies_with_similar_ids_stay_apart() {
    let app = Harness::<Crm>::new();
    app.publish("conversation.upserted", json!({ "companyId": "a", "conversationId": "b/c" }));
    let ana = connect(&app, "a/b", "ana");
    ana.emit("join:conversation", json!("c")).expect_refusal("not_found", "Conversation not found");
    assert_eq!(app.keys("crm/").len(), 1);
}

#[test]
fn a_message_is_stored_and_reaches_the_room_and_the_sender() {
    let (app, ana, ben, spy) = three();
    let id = send(&ana, "Hi");
    let message = json!({
        "id": id, "content": "Hi", "fromUserId": "ana", "timestamp": "2025-01-01T00:00:00.000Z", "conversationId": "c1",
    });
    for client in [&ana, &ben] {
        client.expect("message:new", message.clone());
        client.expect_nothing();
    }
    spy.expect_nothing();
    assert_eq!(app.keys("crm/acme/messages/").len(), 1);
    let sent = json!({ "companyId": "acme", "conversationId": "c1", "messageId": id, "userId": "ana" });
    assert_eq!(app.published("message.sent"), [sent]);
}

#[test]
fn a_message_needs_no_join() {
    let (app, ana, ..) = three();
    let carl = connect(&app, "acme", "carl");
    send(&carl, "Hi");
    assert_eq!(ana.expect_any("message:new")["fromUserId"], "carl");
    carl.expect_nothing();
}

#[test]
fn an_empty_or_too_long_message_is_refused() {
    let (_, ana, ben, _) = three();
    for content in [json!(" "), json!("x".repeat(10_001))] {
        let sent = ana.emit("message:send", json!({ "conversationId": "c1", "content": content }));
        sent.expect_refusal("invalid", "Invalid message");
    }
    let sent = ana.emit("message:send", json!({ "conversationId": "c1" }));
    sent.expect_refusal("invalid", "content: missing");
    ben.expect_nothing();
}

#[test]
fn failing_storage_refuses_a_message() {
    let (app, ana, ben, _) = three();
    app.storage_answers(false);
    let sent = ana.emit("message:send", json!({ "conversationId": "c1", "content": "Hi" }));
    sent.expect_refusal("unavailable", "Failed to send message");
    ben.expect_nothing();
}

#[test]
fn an_author_edits_and_deletes_messages() {
    let (app, ana, ben, spy) = three();
    let id = send(&ana, "Hi");
    ben.forget();
    ana.emit("message:edit", json!({ "messageId": id, "content": "Hello" })).expect_ok();
    ben.expect("message:updated", json!({ "id": id, "content": "Hello", "updatedAt": "2025-01-01T00:00:00.000Z" }));
    ana.emit("message:delete", json!({ "messageId": id })).expect_ok();
    ben.expect("message:deleted", json!({ "id": id }));
    ana.emit("message:delete", json!({ "messageId": id })).expect_refusal("not_found", "Message not found");
    ben.expect_nothing();
    spy.expect_nothing();
    assert!(app.keys("crm/acme/messages/").is_empty());
}

#[test]
fn messages_of_others_cannot_be_changed() {
    let (app, ana, ben, spy) = three();
    let id = send(&ana, "Hi");
    let inbound = app.publish_received("ben");
    ben.forget();
    for id in [&id, &inbound] {
        ben.emit("message:edit", json!({ "messageId": id, "content": "x" })).expect_refusal("forbidden", "Not authorized");
        ben.emit("message:delete", json!({ "messageId": id })).expect_refusal("forbidden", "Not authorized");
    }
    spy.emit("message:edit", json!({ "messageId": id, "content": "x" })).expect_refusal("not_found", "Message not found");
    spy.emit("message:delete", json!({ "messageId": id })).expect_refusal("not_found", "Message not found");
    ben.expect_nothing();
}

trait Backend {
    /// Publishes an inbound message of a contact, and returns its id.
    fn publish_received(&self, from: &str) -> Value;
}

impl Backend for Harness<Crm> {
    fn publish_received(&self, from: &str) -> Value {
        let watching = enter(self, "acme", "watching");
        let received = json!({ "companyId": "acme", "conversationId": "c1", "from": from, "content": "Help", "channel": "sms" });
        self.publish("message.received", received);
        let message = watching.expect_any("message:new");
        let expected = json!({
            "id": message["id"], "content": "Help", "fromUserId": from, "timestamp": "2025-01-01T00:00:00.000Z",
            "conversationId": "c1",
        });
        assert_eq!(message, expected);
        message["id"].clone()
    }
}

#[test]
fn an_inbound_message_is_stored_and_reaches_the_room() {
    let (app, ana, _, spy) = three();
    let id = app.publish_received("+55 11");
    assert_eq!(ana.expect_any("message:new")["id"], id);
    spy.expect_nothing();
    assert_eq!(app.keys("crm/acme/messages/").len(), 1);
    assert!(app.published("message.sent").is_empty());
}

#[test]
fn an_inbound_message_stores_its_conversation() {
    let app = Harness::<Crm>::new();
    app.publish_for("acme", "message.received", json!({ "conversationId": 9, "from": 5, "content": "Help" }));
    let ana = connect(&app, "acme", "ana");
    ana.emit("join:conversation", json!("9")).expect_ok();
    app.publish_for("acme", "message.received", json!({ "conversationId": 9, "from": 5, "content": "Hello?" }));
    let message = ana.expect_any("message:new");
    assert_eq!((&message["conversationId"], &message["fromUserId"]), (&json!(9), &json!(5)), "as published");
    ana.emit("join:conversation", json!(9)).expect_refusal("invalid", "payload: must be an id or an object");
    let spy = connect(&app, "bolt", "ana");
    spy.emit("join:conversation", json!("9")).expect_refusal("not_found", "Conversation not found");
}

#[test]
fn typing_reaches_the_room_and_the_sender_with_the_email() {
    let (app, ana, ben, spy) = three();
    app.storage_answers(false);
    ana.emit("conversation:typing", json!("c1")).expect_ok();
    for client in [&ana, &ben] {
        client.expect("conversation:typing", json!({ "userId": "ana", "userName": "ana@acme.example" }));
        client.expect_nothing();
    }
    spy.expect_nothing();
    let carl = connect(&app, "acme", "carl");
    carl.emit("conversation:typing", json!("c1")).expect_refusal("not_found", "Conversation not found");
}

#[test]
fn an_update_reaches_the_company_as_published() {
    let (app, ana, _, spy) = three();
    let update = json!({ "companyId": "acme", "conversationId": "c1", "status": "open", "tags": [1, null] });
    app.publish("conversation.upserted", update.clone());
    ana.expect("conversation:updated", update);
    spy.expect_nothing();
    assert!(app.try_publish("conversation.upserted", json!({ "conversationId": "c1" })).is_err());
}

#[test]
fn any_event_reaches_the_company_the_conversation_or_the_user() {
    let (app, ana, ben, spy) = three();
    let outside = connect(&app, "acme", "carl");
    let event = |name: &str, to: Value| json!({ "companyId": "acme", "event": name, "to": to, "data": { "n": [1] } });
    app.publish("crm.event", event("campaign:started", json!({ "company": true })));
    app.publish("crm.event", event("contact:tagged", json!({ "conversation": "c1" })));
    app.publish("crm.event", event("lead:assigned", json!({ "user": "ana" })));
    ana.expect("lead:assigned", json!({ "n": [1] }));
    for client in [&ana, &ben] {
        client.expect("contact:tagged", json!({ "n": [1] }));
    }
    for client in [&ana, &ben, &outside] {
        client.expect("campaign:started", json!({ "n": [1] }));
        client.expect_nothing();
    }
    spy.expect_nothing();
}

#[test]
fn an_event_may_name_its_conversation_or_user_by_a_number() {
    let app = Harness::<Crm>::new();
    app.publish_for("acme", "conversation.upserted", json!({ "conversationId": 9 }));
    let ana = connect(&app, "acme", "7");
    ana.emit("join:conversation", json!("9")).expect_ok();
    for to in [json!({ "conversation": 9 }), json!({ "user": 7 })] {
        app.publish_for("acme", "crm.event", json!({ "event": "lead:assigned", "to": to, "data": {} }));
        ana.expect("lead:assigned", json!({}));
    }
}

#[test]
fn an_event_that_cannot_be_sent_fails() {
    let app = companies();
    for (event, to) in [("connect", json!({ "company": true })), ("x", json!({ "company": false })), ("x", json!({}))] {
        let message = json!({ "companyId": "acme", "event": event, "to": to, "data": {} });
        assert!(app.try_publish("crm.event", message).is_err());
    }
}

#[test]
fn a_message_that_is_sent_again_with_its_client_id_is_sent_once() {
    let (_app, ana, ben, spy) = three();
    let send = |client: &Client<Crm>| {
        let ack = client.emit("message:send", json!({ "conversationId": "c1", "content": "hi", "clientId": "m1" })).ack();
        client.expect("message:sent", ack.clone());
        ack
    };
    let first = send(&ana);
    assert_eq!((send(&ana), ben.received("message:new").len()), (first.clone(), 1));
    assert_ne!(send(&spy), first, "a user of another company");
    assert_eq!(ana.received("message:new")[0]["clientId"], "m1");
}
