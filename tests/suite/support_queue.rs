//! A backend that runs the support desk's queue itself: `queue.new`, `queue.taken` and `queue.updated` reach `/hub` unchanged.
//! Must never use a topic of the server's own queue, except where both meet.

use serde_json::{Value, json};
use tests::{Client, Server, wait};

use crate::helpers::{expect_none_of, publish_keyed, refused_both_ways, user};

const EVENTS: [&str; 3] = ["queue:new", "queue:taken", "queue:updated"];

async fn in_hub(server: &Server, id: &str) -> Client {
    let mut client = server.connect("/hub", user(id).role("ATTENDANT")).await;
    wait::eventually("the attendant to be online", async || client.next("attendant:online").await["userId"] == id).await;
    client
}

fn item(id: Value) -> Value {
    json!({"itemId": id, "threadId": "t1", "customer": {"id": 7, "name": "Cal", "vip": true}, "waitingSince": "2026-01-01T00:00:00Z"})
}

/// Publishes an item as the backend does and waits until the attendant receives it.
async fn announce(server: &Server, client: &mut Client, id: Value) {
    publish_keyed(server, "queue", "queue.new", item(id.clone())).await;
    assert_eq!(client.next("queue:new").await, item(id));
}

#[tokio::test]
async fn a_backends_queue_messages_reach_attendants_unchanged() {
    let server = Server::dev().start().await;
    let (mut eva, mut cal) = (in_hub(&server, "eva").await, server.connect("/portal", user("cal")).await);
    announce(&server, &mut eva, json!("q1")).await;
    announce(&server, &mut eva, json!(5)).await;
    let messages = [
        ("queue.new", "queue:new", json!({"itemId": "q2", "threadId": 9, "customer": {"id": "c2", "name": "Dora"}})),
        ("queue.updated", "queue:updated", json!({"length": 2, "items": [{"itemId": 5}, "q2"], "more": [null]})),
        ("queue.taken", "queue:taken", json!({"itemId": 5, "attendantId": 3, "at": "now"})),
        ("queue.taken", "queue:taken", json!({"itemId": "never seen", "attendantId": "ben"})),
        ("queue.updated", "queue:updated", json!({"length": 0, "items": []})),
    ];
    for (topic, event, data) in messages {
        publish_keyed(&server, "queue", topic, data.clone()).await;
        assert_eq!(eva.next(event).await, data);
    }
    expect_none_of(&mut eva, &EVENTS).await;
    expect_none_of(&mut cal, &EVENTS).await;
}

#[tokio::test]
async fn a_backends_queue_item_is_taken_once_by_an_attendant_or_the_backend() {
    let server = Server::dev().start().await;
    let (mut ana, mut eva) = (in_hub(&server, "ana").await, in_hub(&server, "eva").await);
    for id in [json!("q1"), json!(5), json!("q3")] {
        announce(&server, &mut eva, id).await;
    }
    assert_eq!(ana.ask("queue:take", json!({"itemId": "q1"})).await, json!({"itemId": "q1", "taken": true}));
    assert_eq!(eva.next("queue:taken").await, json!({"itemId": "q1", "attendantId": "ana"}));
    assert_eq!(eva.ask("queue:take", json!({"itemId": "q1"})).await, json!({"itemId": "q1", "taken": false}));
    refused_both_ways(&mut ana, "queue:take", json!({"itemId": 5}), "invalid", "itemId: must be a string").await;
    assert_eq!(ana.ask("queue:take", json!({"itemId": "5"})).await, json!({"itemId": "5", "taken": true}));
    assert_eq!(eva.next("queue:taken").await, json!({"itemId": 5, "attendantId": "ana"}), "the id in the backend's form");

    // A repeated take is not sent again.
    publish_keyed(&server, "queue", "queue.taken", json!({"itemId": "q1", "attendantId": "ana"})).await;
    publish_keyed(&server, "queue", "queue.taken", json!({"itemId": "q3", "attendantId": "ben"})).await;
    assert_eq!(eva.next("queue:taken").await, json!({"itemId": "q3", "attendantId": "ben"}));
    assert_eq!(ana.ask("queue:take", json!({"itemId": "q3"})).await, json!({"itemId": "q3", "taken": false}));
    // A waiting item is announced once, whichever topic it came by.
    announce(&server, &mut eva, json!("q4")).await;
    publish_keyed(&server, "queue", "queue.new", item(json!("q4"))).await;
    let added = json!({"itemId": "q4", "threadId": "t4", "customer": {"id": "c4", "name": "Cal"}});
    publish_keyed(&server, "queue", "queue.added", added).await;
    eva.next("queue:updated").await;
    expect_none_of(&mut eva, &EVENTS).await;
}
