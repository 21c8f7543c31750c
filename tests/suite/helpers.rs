//! Helpers with which many tests begin. Must never assert what a test is about.

use serde_json::{Value, json};
use tests::{Client, Server, Token, token, wait};

/// A user with the same name in the token and in the chat's list of participants.
pub(crate) fn user(id: &str) -> Token {
    token(id).name(&name(id))
}

pub(crate) fn name(id: &str) -> String {
    format!("Name of {id}")
}

/// Publishes a chat's participants, as the product's backend does.
pub(crate) async fn open_chat(server: &Server, chat: &str, participants: &[&str]) {
    let entry = |id: &&str| json!({"userId": id, "name": name(id), "role": "STUDENT", "image": format!("/{id}.png")});
    let participants: Vec<_> = participants.iter().map(entry).collect();
    server.publish("chat.upserted", json!({"chatId": chat, "participants": participants})).await;
}

/// Joins a chat as soon as the server has handled the backend's message about it.
pub(crate) async fn join(client: &mut Client, chat: &str) -> Value {
    let what = format!("{chat} to exist");
    wait::until(&what, wait::DEADLINE, async || {
        let reply = client.ask("chat:join", json!({"chatId": chat})).await;
        (reply["error"]["message"] != "Not authorized").then_some(reply)
    })
    .await
}

/// Connects a user and joins a chat.
pub(crate) async fn member(server: &Server, id: &str, chat: &str) -> Client {
    let mut client = server.connect("/chat", user(id)).await;
    join(&mut client, chat).await;
    client
}

/// Sends a chat message and requires an empty ack.
pub(crate) async fn say(client: &mut Client, chat: &str, content: &str) {
    let ack = client.ask("chat:message", json!({"chatId": chat, "content": content})).await;
    assert_eq!(ack, json!({}), "the ack of {content:?}");
}

/// The keys of an object, sorted.
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Whether a text is a time in the catalogue's format: RFC 3339 in UTC.
pub(crate) fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default().as_bytes();
    text.len() >= 20 && text[4] == b'-' && text[10] == b'T' && text[13] == b':' && text.ends_with(b"Z")
}

/// Sends an event that must be refused in its ack and, if no ack is asked for, with the event `error`.
pub(crate) async fn refused_both_ways(client: &mut Client, event: &str, payload: Value, code: &str, message: &str) {
    let ack = client.ask(event, payload.clone()).await;
    assert_eq!(ack, json!({"error": {"code": code, "message": message}}), "{event} {payload}");
    client.emit(event, payload).await;
    assert_eq!(client.next("error").await, json!({"code": code, "message": message, "event": event}));
}

/// Emits an event without arguments and waits for its ack.
pub(crate) async fn ask_bare(client: &mut Client, event: &str) -> Value {
    let ack = client.emit_for_ack(&json!([event])).await;
    client.acked(ack).await
}

/// Publishes a message in order with the others of its key.
pub(crate) async fn publish_keyed(server: &Server, key: &str, topic: &str, data: Value) {
    server.publish_message(&json!({"topic": topic, "key": key, "data": data})).await;
}

/// Asserts that none of these events has been sent to the client so far.
pub(crate) async fn expect_none_of(client: &mut Client, events: &[&str]) {
    for event in events {
        client.expect_none(event).await;
    }
}
