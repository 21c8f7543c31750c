//! Conversations of thousands: more members than one call can send to, count or remove.

use serde_json::{Value, json};

use super::{Client, Conversations, Harness, here, user};

fn named(number: usize) -> String {
    format!("user-{number}")
}

/// A conversation with this many members, and the clients of the first, the middle and the last.
fn crowd(size: usize, tenant: Option<&str>) -> (Harness<Conversations>, Vec<Client<Conversations>>) {
    let app = Harness::<Conversations>::new();
    let clients = [0, size / 2, size - 1].map(|number| {
        let who = user(&named(number));
        app.connect("/", tenant.map_or(who.clone(), |tenant| who.tenant(tenant)))
    });
    publish(&app, tenant, "conversation.created", conversation(size));
    (app, clients.into())
}

fn publish(app: &Harness<Conversations>, tenant: Option<&str>, topic: &str, data: Value) {
    match tenant {
        Some(tenant) => app.publish_for(tenant, topic, data),
        None => app.publish(topic, data),
    }
}

fn conversation(size: usize) -> Value {
    let members: Vec<String> = (0..size).map(named).collect();
    json!({ "id": "c1", "members": members, "about": "x".repeat(100_000) })
}

#[test]
fn thousands_get_a_conversation_and_its_deletion() {
    for tenant in [None, Some("acme")] {
        let (app, clients) = crowd(3000, tenant);
        publish(&app, tenant, "conversation.updated", conversation(3000));
        publish(&app, tenant, "conversation.deleted", json!({ "id": "c1" }));
        for client in &clients {
            client.expect("conversation_created", conversation(3000));
            client.expect("conversation_updated", conversation(3000));
            client.expect("conversation_deleted", json!({ "id": "c1" }));
            client.expect_nothing();
        }
    }
}

#[test]
fn a_message_is_unread_for_thousands() {
    let (app, clients) = crowd(1500, Some("acme"));
    clients.iter().for_each(Client::forget);
    app.publish_for("acme", "message.created", json!({ "id": "m1", "conversation_id": "c1", "user_id": "user-0" }));
    clients[0].expect_nothing();
    for client in &clients[1..] {
        client.expect("unread_count", json!({ "conversation_id": "c1", "unread_count": 1 }));
        client.expect_nothing();
    }
}

#[test]
fn thousands_are_removed_in_one_message() {
    let (app, clients) = crowd(1500, Some("acme"));
    for client in &clients {
        client.emit("join_conversation", here()).expect_ok();
    }
    app.publish_for("acme", "conversation.updated", json!({ "id": "c1", "members": ["user-0"] }));
    assert_eq!(clients[0].rooms(), ["conversation:c1", "everyone"]);
    assert_eq!((clients[1].rooms().len(), clients[2].rooms().len()), (1, 1));
}

#[test]
fn a_list_over_the_limit_fails_its_message() {
    let app = Harness::<Conversations>::new();
    let members: Vec<String> = (0..5001).map(named).collect();
    assert!(app.try_publish("conversation.created", json!({ "id": "c1", "members": members })).is_err());
}
