//! The team conversations in `/`: each row of the catalogue. Ids must never be unique: tenants share ids of conversations and
//! users.

use serde_json::{Value, json};
use tests::server::Builder;
use tests::stock::Transports;
use tests::{Client, Server, Stock, StockSocket, Token, wait};

use crate::helpers::{expect_none_of, name, publish_keyed, refused_both_ways, user};

/// Events that only members of a conversation may receive.
const NEWS: [&str; 8] = [
    "conversation_created",
    "conversation_updated",
    "conversation_deleted",
    "message_created",
    "message_read",
    "message_delivered",
    "unread_count",
    "typing",
];

fn of(tenant: &str, id: &str) -> Token {
    user(id).claim("tenant", tenant)
}

fn here() -> Value {
    json!({"conversation_id": "c1"})
}

fn read(ids: &[&str]) -> Value {
    json!({"conversation_id": "c1", "message_ids": ids})
}

fn count(unread: u64) -> Value {
    json!({"conversation_id": "c1", "unread_count": unread})
}

/// Publishes about `c1`, in order with all other messages about it.
async fn about_c1(server: &Server, topic: &str, data: Value) {
    publish_keyed(server, "c1", topic, data).await;
}

async fn post(server: &Server, id: &str, by: &str) -> Value {
    let message = json!({"id": id, "conversation_id": "c1", "user_id": by, "text": "olá", "files": [{"name": "a.pdf"}]});
    about_c1(server, "message.created", message.clone()).await;
    message
}

/// Connects a user without a tenant and joins `c1`.
pub(crate) async fn enter(server: &Server, id: &str) -> Client {
    let mut client = server.connect("/", user(id)).await;
    join(&mut client).await;
    client
}

async fn join(client: &mut Client) {
    wait::eventually("c1 to exist", async || client.ask("join_conversation", here()).await == json!({})).await;
}

/// A conversation of Ana and Ben, with both in its room.
async fn of_two() -> (Server, Client, Client) {
    of_two_on(Server::dev()).await
}

async fn of_two_on(server: Builder) -> (Server, Client, Client) {
    let server = server.start().await;
    about_c1(&server, "conversation.created", json!({"id": "c1", "members": ["ana", "ben"]})).await;
    let (ana, ben) = (enter(&server, "ana").await, enter(&server, "ben").await);
    (server, ana, ben)
}

#[tokio::test]
async fn bad_tokens_are_refused_and_anonymous_visitors_may_only_connect() {
    let (server, ..) = of_two().await;
    assert_eq!(server.connect_refused("/", "nonsense").await, "Invalid token");
    assert_eq!(server.connect_refused("/", user("ana").expires_in(-3600)).await, "Invalid token");
    let mut visitor = server.connect("/", ()).await;
    for event in ["join_conversation", "leave_conversation", "typing"] {
        refused_both_ways(&mut visitor, event, here(), "unauthenticated", "Authentication error").await;
    }
    for event in ["mark_read", "delivered"] {
        refused_both_ways(&mut visitor, event, read(&["m1"]), "unauthenticated", "Authentication error").await;
    }
}

#[tokio::test]
async fn only_members_of_a_conversation_are_authorized() {
    let (server, mut ana, mut ben) = of_two().await;
    let mut eva = server.connect("/", user("eva")).await;
    for conversation in ["c1", "c2", "conversation:c1", "/c1"] {
        let there = json!({"conversation_id": conversation});
        refused_both_ways(&mut eva, "join_conversation", there.clone(), "forbidden", "Not authorized").await;
        refused_both_ways(&mut eva, "typing", there, "forbidden", "Not authorized").await;
    }
    for event in ["mark_read", "delivered"] {
        refused_both_ways(&mut eva, event, read(&["m1"]), "forbidden", "Not authorized").await;
    }
    for bad in [json!({}), json!({"conversation_id": ""}), json!({"conversation_id": ["c1"]}), json!(null)] {
        assert_eq!(ana.refused("join_conversation", bad).await.0, "invalid");
    }
    let message = post(&server, "m1", "ben").await;
    assert_eq!(ana.next("message_created").await, message);
    assert_eq!(ben.next("message_created").await, message);
    assert_eq!(ana.ask("leave_conversation", here()).await, json!({}));
    refused_both_ways(&mut ana, "typing", here(), "forbidden", "Not authorized").await;
    post(&server, "m2", "ben").await;
    assert_eq!(ben.next("message_created").await["id"], "m2");
    assert_eq!((ana.next("unread_count").await, ana.next("unread_count").await), (count(1), count(2)));
    ana.expect_none("message_created").await;
    expect_none_of(&mut eva, &NEWS).await;
}

#[tokio::test]
async fn conversation_events_reach_members_on_every_device_unchanged() {
    let server = Server::dev().start().await;
    let (mut ana, mut phone) = (server.connect("/", user("ana")).await, server.connect("/", user("ana")).await);
    let (mut eva, mut visitor) = (server.connect("/", user("eva")).await, server.connect("/", ()).await);
    let mut conversation = json!({"id": "c1", "members": ["ana", "ben"], "title": "Plans", "extra": {"deep": [null, 7]}});
    for (topic, event) in [("conversation.created", "conversation_created"), ("conversation.updated", "conversation_updated")] {
        about_c1(&server, topic, conversation.clone()).await;
        for client in [&mut ana, &mut phone] {
            assert_eq!(client.next(event).await, conversation);
        }
        conversation["title"] = json!("Better plans");
    }
    about_c1(&server, "conversation.deleted", json!({"id": "c1", "by": "ben"})).await;
    for client in [&mut ana, &mut phone] {
        assert_eq!(client.next("conversation_deleted").await, json!({"id": "c1", "by": "ben"}));
        expect_none_of(client, &NEWS).await;
    }
    refused_both_ways(&mut ana, "join_conversation", here(), "forbidden", "Not authorized").await;
    expect_none_of(&mut eva, &NEWS).await;
    expect_none_of(&mut visitor, &NEWS).await;
}

#[tokio::test]
async fn deleting_an_unknown_conversation_notifies_named_members_or_the_tenant() {
    let server = Server::dev().start().await;
    let (mut ana, mut ben) = (server.connect("/", of("acme", "ana")).await, server.connect("/", of("acme", "ben")).await);
    let (mut spy, mut free) = (server.connect("/", of("bolt", "ana")).await, server.connect("/", user("ana")).await);
    let named = json!({"id": 7, "members": ["ana"], "by": "the backend", "companyId": "acme"});
    about_c1(&server, "conversation.deleted", named.clone()).await;
    assert_eq!(ana.next("conversation_deleted").await, named);
    let open = json!({"id": "c8", "companyId": "acme"});
    about_c1(&server, "conversation.deleted", open.clone()).await;
    for client in [&mut ana, &mut ben] {
        assert_eq!(client.next("conversation_deleted").await, open);
    }
    about_c1(&server, "conversation.deleted", json!({"id": "c9"})).await;
    assert_eq!(free.next("conversation_deleted").await, json!({"id": "c9"}));
    for client in [&mut ana, &mut ben, &mut spy, &mut free] {
        expect_none_of(client, &NEWS).await;
    }
}

#[tokio::test]
async fn a_removed_member_leaves_the_room_at_once() {
    let (server, mut ana, mut ben) = of_two().await;
    let mut phone = enter(&server, "ben").await;
    about_c1(&server, "conversation.updated", json!({"id": "c1", "members": ["ana"]})).await;
    ana.next("conversation_updated").await;
    let message = post(&server, "m1", "x").await;
    assert_eq!(ana.next("message_created").await, message);
    for client in [&mut ben, &mut phone] {
        expect_none_of(client, &["conversation_updated", "message_created", "unread_count"]).await;
        refused_both_ways(client, "typing", here(), "forbidden", "Not authorized").await;
        refused_both_ways(client, "join_conversation", here(), "forbidden", "Not authorized").await;
    }
    // An update without a list of members adds no member; one that lists Ben allows him to join again.
    about_c1(&server, "conversation.updated", json!({"id": "c1", "title": "x"})).await;
    assert_eq!(ana.next("conversation_updated").await, json!({"id": "c1", "title": "x"}));
    refused_both_ways(&mut ben, "join_conversation", here(), "forbidden", "Not authorized").await;
    about_c1(&server, "conversation.updated", json!({"id": "c1", "members": ["ana", "ben"]})).await;
    join(&mut ben).await;
}

#[tokio::test]
async fn a_conversation_without_members_is_open_to_its_tenant() {
    let server = Server::dev().start().await;
    let (mut ana, mut ben) = (server.connect("/", of("acme", "ana")).await, server.connect("/", of("acme", "ben")).await);
    let (mut spy, mut free) = (server.connect("/", of("bolt", "ana")).await, server.connect("/", user("ana")).await);
    let mut visitor = server.connect("/", ()).await;
    let conversation = json!({"id": "c1", "title": "All hands"});
    let publish = async |topic: &str, data: &Value| {
        server.publish_message(&json!({"topic": topic, "tenant": "acme", "key": "c1", "data": data})).await;
    };
    publish("conversation.created", &conversation).await;
    for client in [&mut ana, &mut ben] {
        assert_eq!(client.next("conversation_created").await, conversation);
        assert_eq!(client.ask("join_conversation", here()).await, json!({}));
    }
    let message = json!({"id": "m1", "conversation_id": "c1", "user_id": "ben"});
    publish("message.created", &message).await;
    assert_eq!(ana.next("message_created").await, message);
    for outsider in [&mut spy, &mut free] {
        refused_both_ways(outsider, "join_conversation", here(), "forbidden", "Not authorized").await;
        expect_none_of(outsider, &NEWS).await;
    }

    publish_keyed(&server, "c2", "conversation.created", json!({"id": "c2"})).await;
    assert_eq!(
        free.next("conversation_created").await,
        json!({"id": "c2"}),
        "a conversation without a tenant is for users without one"
    );
    expect_none_of(&mut ana, &["conversation_created"]).await;
    expect_none_of(&mut spy, &NEWS).await;
    expect_none_of(&mut visitor, &NEWS).await;
}

#[tokio::test]
async fn unread_messages_count_for_every_member_but_the_author_on_all_devices() {
    let (server, mut ana, mut ben) = of_two().await;
    let mut phone = server.connect("/", user("ana")).await;
    for (id, by) in [("m1", "ben"), ("m2", "ben"), ("m3", "ana")] {
        post(&server, id, by).await;
    }
    for client in [&mut ana, &mut phone] {
        assert_eq!((client.next("unread_count").await, client.next("unread_count").await), (count(1), count(2)));
    }
    assert_eq!(ben.next("unread_count").await, count(1));

    assert_eq!(phone.ask("mark_read", read(&["m1"])).await, json!({}));
    for client in [&mut ana, &mut phone] {
        assert_eq!(client.next("unread_count").await, count(1));
    }
    for client in [&mut ana, &mut ben] {
        assert_eq!(client.next("message_read").await, read(&["m1"]));
    }
    // Marking it read again changes nothing, and the backend may mark it as well.
    assert_eq!(ana.ask("mark_read", read(&["m1"])).await, json!({}));
    about_c1(&server, "message.read", json!({"conversation_id": "c1", "message_ids": ["m1", "m2"], "user_id": "ana"})).await;
    assert_eq!(ana.next("unread_count").await, count(0));
    assert_eq!((ben.next("message_read").await, ben.next("message_read").await), (read(&["m1"]), read(&["m1", "m2"])));
    assert_eq!(phone.next("unread_count").await, count(0));
    for client in [&mut ana, &mut phone, &mut ben] {
        client.expect_none("unread_count").await;
    }
    phone.expect_none("message_read").await;
}

#[tokio::test]
async fn members_and_unread_counts_survive_a_restart_and_a_message_counts_once() {
    members_and_unread_counts_survive_a_restart(Server::dev()).await;
}

/// The same on any storage.
pub(crate) async fn members_and_unread_counts_survive_a_restart(server: Builder) {
    let (mut server, mut ana, _ben) = of_two_on(server).await;
    for id in ["m1", "m2", "m3"] {
        post(&server, id, "ben").await;
    }
    assert_eq!(ana.ask("mark_read", read(&["m1"])).await["error"], Value::Null);
    wait::eventually("three unread messages", async || ana.next("unread_count").await != count(0)).await;
    wait::eventually("the last message", async || ana.next("message_created").await["id"] == "m3").await;
    ana.ask("mark_read", read(&["m1"])).await;
    server.restart().await;

    let (mut ana, mut ben) = (server.connect("/", user("ana")).await, server.connect("/", user("ben")).await);
    assert_eq!(ana.ask("join_conversation", here()).await, json!({}));
    let again = post(&server, "m3", "ben").await;
    assert_eq!(ana.next("message_created").await, again, "delivered twice, counted once");
    post(&server, "m4", "ben").await;
    assert_eq!(ana.next("unread_count").await, count(3));
    expect_none_of(&mut ben, &["unread_count", "message_created"]).await;
    assert_eq!(server.connect("/", user("eva")).await.refused("join_conversation", here()).await.1, "Not authorized");
}

#[tokio::test]
async fn only_the_author_is_notified_of_a_delivery() {
    let (server, mut ana, mut ben) = of_two().await;
    let mut phone = server.connect("/", user("ana")).await;
    post(&server, "m1", "ana").await;
    post(&server, "m2", "ben").await;
    wait::eventually("both messages", async || ben.next("message_created").await["id"] == "m2").await;
    // A member may confirm a delivery without having joined the conversation.
    let mut tablet = server.connect("/", user("ben")).await;
    assert_eq!(tablet.ask("delivered", read(&["m1", "m2", "never was"])).await, json!({}));
    for client in [&mut ana, &mut phone] {
        let delivered = json!({"conversation_id": "c1", "message_id": "m1", "user_id": "ben"});
        assert_eq!(client.next("message_delivered").await, delivered);
        client.expect_none("message_delivered").await;
    }
    for client in [&mut ben, &mut tablet] {
        client.expect_none("message_delivered").await;
    }
}

#[tokio::test]
async fn typing_reaches_the_room_except_the_sender() {
    let (server, mut ana, mut ben) = of_two().await;
    let mut phone = enter(&server, "ana").await;
    let mut outside = server.connect("/", user("ben")).await;
    assert_eq!(ana.ask("typing", here()).await, json!({}));
    let typing = json!({"conversation_id": "c1", "user_id": "ana", "user_name": name("ana")});
    for client in [&mut ben, &mut phone] {
        assert_eq!(client.next("typing").await, typing);
    }
    ana.expect_none("typing").await;
    outside.expect_none("typing").await;
}

#[tokio::test]
async fn a_tenants_users_are_online_with_the_first_device_and_offline_with_the_last() {
    let server = Server::dev().env("HUBBUB_PRESENCE__GRACE", "1s").start().await;
    let mut ben = server.connect("/", of("acme", "ben")).await;
    assert_eq!(ben.next("user_online").await, json!({"user_id": "ben"}));
    let (mut spy, mut free) = (server.connect("/", of("bolt", "ben")).await, server.connect("/", user("ben")).await);
    let mut visitor = server.connect("/", ()).await;
    assert_eq!(spy.next("user_online").await, json!({"user_id": "ben"}));
    let phone = server.connect("/", of("acme", "ana")).await;
    assert_eq!(ben.next("user_online").await, json!({"user_id": "ana"}));
    let laptop = server.connect("/", of("acme", "ana")).await;
    phone.leave().await;
    let cleo = server.connect("/", of("acme", "cleo")).await;
    assert_eq!(ben.next("user_online").await, json!({"user_id": "cleo"}), "a second device sends no event");
    drop(cleo);
    assert_eq!(ben.next("user_offline").await, json!({"user_id": "cleo"}), "nor does the end of one device");
    drop(laptop);
    assert_eq!(ben.next("user_offline").await, json!({"user_id": "ana"}));
    for client in [&mut ben, &mut spy, &mut free, &mut visitor] {
        expect_none_of(client, &["user_online", "user_offline"]).await;
    }
}

#[tokio::test]
async fn two_tenants_with_the_same_ids_are_isolated() {
    let server = Server::dev().start().await;
    let mut clients = Vec::new();
    for tenant in ["acme", "bolt"] {
        let data = json!({"id": "c1", "members": ["ana", "ben"]});
        let created = json!({"topic": "conversation.created", "tenant": tenant, "key": tenant, "data": data});
        server.publish_message(&created).await;
    }
    for (tenant, id) in [("acme", "ana"), ("acme", "ben"), ("bolt", "ana"), ("bolt", "ben")] {
        let mut client = server.connect("/", of(tenant, id)).await;
        join(&mut client).await;
        clients.push(client);
    }
    let [mut ana, mut ben, spy, other_spy] =
        <[Client; 4]>::try_from(clients).unwrap_or_else(|_| panic!("two clients of each tenant"));
    let mut spies = [spy, other_spy];
    let ours = async |topic: &str, data: Value| {
        server.publish_message(&json!({"topic": topic, "tenant": "acme", "key": "acme", "data": data})).await;
    };
    ours("message.created", json!({"id": "m1", "conversation_id": "c1", "user_id": "ben"})).await;
    ana.next("message_created").await;
    assert_eq!(ana.next("unread_count").await, count(1));
    ana.ask("typing", here()).await;
    ana.ask("mark_read", read(&["m1"])).await;
    ana.ask("delivered", read(&["m1"])).await;
    for event in ["typing", "message_read", "message_delivered"] {
        ben.next(event).await;
    }
    ours("conversation.updated", json!({"id": "c1", "members": ["ana", "ben"], "title": "x"})).await;
    ana.next("conversation_updated").await;
    ours("conversation.deleted", json!({"id": "c1"})).await;
    ana.next("conversation_deleted").await;
    for spy in &mut spies {
        // They may have received the event for their own conversation's creation.
        expect_none_of(spy, &NEWS.iter().filter(|event| **event != "conversation_created").copied().collect::<Vec<_>>()).await;
    }
    for spy in &mut spies {
        assert_eq!(spy.ask("typing", here()).await, json!({}), "still a member of its own conversation");
    }
    refused_both_ways(&mut ana, "join_conversation", here(), "forbidden", "Not authorized").await;
}

#[tokio::test]
async fn stock_clients_hold_a_conversation_over_polling() {
    let server = Server::dev().start().await;
    about_c1(&server, "conversation.created", json!({"id": "c1", "members": ["ana", "ben"], "tenant": "acme"})).await;
    let connect = async |stock: Stock, id: &str| -> StockSocket {
        let mut client = stock.connect(&server, "/", of("acme", id), Transports::Polling).await.expect("accepted");
        let join = async || client.ask("join_conversation", here()).await == json!({});
        wait::eventually("c1 to exist", join).await;
        client
    };
    let refused = Stock::Python.connect(&server, "/", json!({"token": "nonsense"}), Transports::Polling).await;
    assert_eq!(refused.err().as_deref(), Some("Invalid token"));
    let mut ana = connect(Stock::Node, "ana").await;
    let mut ben = connect(Stock::Python, "ben").await;
    wait::eventually("ben to be online", async || ana.next("user_online").await == json!({"user_id": "ben"})).await;

    let message = json!({"id": "m1", "conversation_id": "c1", "user_id": "ben", "companyId": "acme"});
    about_c1(&server, "message.created", message.clone()).await;
    assert_eq!(ana.next("message_created").await, message);
    assert_eq!(ana.next("unread_count").await, count(1));
    ana.emit("delivered", read(&["m1"])).await;
    let delivered = json!({"conversation_id": "c1", "message_id": "m1", "user_id": "ana"});
    assert_eq!(ben.next("message_delivered").await, delivered);
    ana.emit("typing", here()).await;
    assert_eq!(ben.next("typing").await["user_name"], name("ana"));
    ana.emit("mark_read", read(&["m1"])).await;
    assert_eq!(ana.next("unread_count").await, count(0));
    assert_eq!(ben.next("message_read").await, read(&["m1"]));
    ben.emit("join_conversation", json!({"conversation_id": "c2"})).await;
    assert_eq!(ben.next("error").await["message"], "Not authorized");
}
