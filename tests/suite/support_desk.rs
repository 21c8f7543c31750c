//! The support desk, with attendants in `/hub` and customers in `/portal`: each row of the catalogue. Must never wait for a
//! default time of presence: tests shorten it.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Client, Server, Token, wait};

use crate::helpers::{ask_bare, expect_none_of, is_time, keys, name, publish_keyed, refused_both_ways, user};

fn attendant(id: &str) -> Token {
    user(id).role("ATTENDANT")
}

/// Connects an attendant and waits for the attendant's own online event.
async fn in_hub(server: &Server, id: &str) -> Client {
    let mut client = server.connect("/hub", attendant(id)).await;
    wait::eventually("the attendant to be online", async || client.next("attendant:online").await["userId"] == id).await;
    client
}

fn person(id: &str) -> Value {
    json!({"id": id, "name": name(id)})
}

/// Publishes a thread's customer, as the product's backend does.
async fn open_thread(server: &Server, thread: &str, customer: &str) {
    publish_keyed(server, thread, "thread.upserted", json!({"threadId": thread, "customer": person(customer)})).await;
}

/// Joins a thread as soon as the server has handled its message.
async fn enter(client: &mut Client, thread: &str) {
    let what = format!("{thread} to exist");
    wait::eventually(&what, async || client.ask("join:thread", json!({"threadId": thread})).await == json!({})).await;
}

/// Connects an attendant and a customer to the thread `t1`.
async fn in_thread(server: &Server) -> (Client, Client) {
    open_thread(server, "t1", "cal").await;
    let mut ana = in_hub(server, "ana").await;
    let mut cal = server.connect("/portal", user("cal")).await;
    enter(&mut ana, "t1").await;
    enter(&mut cal, "t1").await;
    (ana, cal)
}

async fn queue_up(server: &Server, item: &str) {
    let data = json!({"itemId": item, "threadId": format!("thread of {item}"), "customer": person("cal")});
    publish_keyed(server, "queue", "queue.added", data).await;
}

/// One attendant's entry in `presence:list`.
async fn listed(client: &mut Client, id: &str) -> Value {
    let list = ask_bare(client, "presence:list").await;
    let attendants = list["attendants"].as_array().expect("a list").iter();
    attendants.clone().find(|one| one["userId"] == id).cloned().unwrap_or(Value::Null)
}

async fn sockets_are(server: &Server, count: u64) {
    let what = format!("{count} sockets to be left");
    wait::eventually(&what, async || server.get("/socket/health").await.1["connectedSockets"] == count).await;
}

#[tokio::test]
async fn every_refused_connect_gets_the_same_sentence() {
    let server = Server::dev().start().await;
    for namespace in ["/hub", "/portal"] {
        assert_eq!(server.connect_refused(namespace, ()).await, "Token invalido");
        assert_eq!(server.connect_refused(namespace, "nonsense").await, "Token invalido");
        assert_eq!(server.connect_refused(namespace, attendant("ana").expires_in(-3600)).await, "Token invalido");
        assert_eq!(server.connect_refused(namespace, attendant("ana").secret("another secret")).await, "Token invalido");
    }
    for outsider in [user("cal"), user("cal").role("CUSTOMER"), user("cal").role("attendant")] {
        assert_eq!(server.connect_refused("/hub", outsider).await, "Token invalido");
    }
    server.connect("/hub", attendant("ana")).await;
    server.connect("/hub", user("bia").role("ADMIN")).await;
    server.connect("/portal", user("cal")).await;
}

#[tokio::test]
async fn each_status_change_of_an_attendant_is_sent_once_to_attendants_only() {
    let server = Server::dev().start().await;
    let mut cal = server.connect("/portal", user("cal")).await;
    let mut eva = in_hub(&server, "eva").await;
    let mut ana = server.connect("/hub", attendant("ana")).await;
    let online = eva.next("attendant:online").await;
    assert_eq!(online, json!({"userId": "ana", "name": name("ana"), "status": "online", "at": online["at"]}));
    assert!(is_time(&online["at"]), "{online}");
    assert_eq!(ana.next("attendant:online").await, online, "her own event as well");

    // Two away events with a heartbeat between them are one change.
    for event in ["presence:away", "heartbeat", "presence:away"] {
        assert_eq!(ask_bare(&mut ana, event).await, json!({}), "{event}");
    }
    let away = eva.next("attendant:away").await;
    assert_eq!(away, json!({"userId": "ana", "name": name("ana"), "status": "away", "at": away["at"]}));
    assert_eq!(ask_bare(&mut ana, "presence:online").await, json!({}));
    assert_eq!(eva.next("attendant:online").await["userId"], "ana");
    // The next event must be about the next attendant.
    let mut bia = in_hub(&server, "bia").await;
    assert_eq!(eva.next("attendant:online").await["userId"], "bia");
    expect_none_of(&mut eva, &["attendant:online", "attendant:away", "attendant:offline"]).await;
    expect_none_of(&mut cal, &["attendant:online", "attendant:away", "attendant:offline"]).await;
    assert_eq!(cal.refused("presence:away", Value::Null).await.0, "not_found", "only the hub handles presence events");

    let list = ask_bare(&mut bia, "presence:list").await;
    assert_eq!(bia.next("presence:list").await, list, "the reply is an event too");
    let entry = |at: usize, id: &str| {
        let since = &list["attendants"][at]["since"];
        assert!(is_time(since), "{list}");
        json!({"userId": id, "name": name(id), "status": "online", "since": since})
    };
    assert_eq!(list, json!({"attendants": [entry(0, "ana"), entry(1, "bia"), entry(2, "eva")]}));
}

#[tokio::test]
async fn an_attendant_without_heartbeats_is_away_until_the_next_one() {
    let server = Server::dev().env("HUBBUB_PRESENCE__AWAY_AFTER", "2s").start().await;
    let mut eva = in_hub(&server, "eva").await;
    let mut ana = in_hub(&server, "ana").await;
    wait::eventually("the attendant without heartbeats to be away", async || {
        eva.emit("heartbeat", Value::Null).await;
        listed(&mut eva, "ana").await["status"] == "away"
    })
    .await;
    assert_eq!(eva.next("attendant:away").await["userId"], "ana");
    eva.expect_none("attendant:away").await;
    assert_eq!(eva.next("attendant:online").await["userId"], "ana", "the event of her connect");
    assert_eq!(ask_bare(&mut ana, "heartbeat").await, json!({}));
    assert_eq!(eva.next("attendant:online").await["userId"], "ana");
}

#[tokio::test]
async fn a_reconnect_within_the_grace_period_sends_no_event() {
    let server = Server::dev().env("HUBBUB_PRESENCE__GRACE", "2s").start().await;
    let mut eva = in_hub(&server, "eva").await;
    let (ana, mut bia, carl) = (in_hub(&server, "ana").await, in_hub(&server, "bia").await, in_hub(&server, "carl").await);
    assert_eq!(ask_bare(&mut bia, "presence:away").await, json!({}));
    assert_eq!(eva.next("attendant:away").await["userId"], "bia");
    for id in ["ana", "bia", "carl"] {
        assert_eq!(eva.next("attendant:online").await["userId"], id);
    }
    let (ana_before, bia_before) = (listed(&mut eva, "ana").await, listed(&mut eva, "bia").await);
    drop((ana, bia, carl));
    sockets_are(&server, 1).await;
    let _ana = server.connect("/hub", attendant("ana")).await;
    let _bia = server.connect("/hub", attendant("bia")).await;

    let offline = eva.next("attendant:offline").await;
    assert_eq!(offline, json!({"userId": "carl", "name": name("carl"), "status": "offline", "at": offline["at"]}));
    expect_none_of(&mut eva, &["attendant:online", "attendant:away", "attendant:offline"]).await;
    assert_eq!(listed(&mut eva, "ana").await, ana_before);
    assert_eq!(listed(&mut eva, "bia").await, bia_before, "still away");
    assert_eq!(listed(&mut eva, "carl").await, Value::Null);
}

#[tokio::test]
async fn two_devices_count_as_one_attendant_who_goes_offline_once() {
    let server = Server::dev().env("HUBBUB_PRESENCE__GRACE", "1s").start().await;
    let mut eva = in_hub(&server, "eva").await;
    let mut phone = in_hub(&server, "ana").await;
    assert_eq!(eva.next("attendant:online").await["userId"], "ana");
    let laptop = server.connect("/hub", attendant("ana")).await;
    // A node reports users in the order in which they connected. After the last of these, each node has reported the laptop.
    let mut others = Vec::new();
    for id in ["other 1", "other 2", "other 3"] {
        others.push(in_hub(&server, id).await);
        assert_eq!(eva.next("attendant:online").await["userId"], id);
    }
    // One device being away is no change while another is online.
    ask_bare(&mut phone, "presence:away").await;
    phone.leave().await;
    let bia = in_hub(&server, "bia").await;
    assert_eq!(eva.next("attendant:online").await["userId"], "bia");
    drop(bia);
    assert_eq!(eva.next("attendant:offline").await["userId"], "bia");
    assert_eq!(listed(&mut eva, "ana").await["status"], "online");

    drop(laptop);
    assert_eq!(eva.next("attendant:offline").await["userId"], "ana");
    drop(in_hub(&server, "dora").await);
    assert_eq!(eva.next("attendant:offline").await["userId"], "dora", "and no other offline event");
    assert_eq!(eva.next("attendant:online").await["userId"], "dora");
    expect_none_of(&mut eva, &["attendant:online", "attendant:away", "attendant:offline"]).await;
}

#[tokio::test]
async fn a_queue_item_is_shown_to_attendants_until_one_takes_it() {
    let server = Server::dev().start().await;
    let mut cal = server.connect("/portal", user("cal")).await;
    let (mut ana, mut eva) = (in_hub(&server, "ana").await, in_hub(&server, "eva").await);
    queue_up(&server, "q1").await;
    let new = eva.next("queue:new").await;
    let since = &new["waitingSince"];
    assert_eq!(new, json!({"itemId": "q1", "threadId": "thread of q1", "customer": person("cal"), "waitingSince": since}));
    assert!(is_time(since), "{new}");
    assert_eq!(eva.next("queue:updated").await, json!({"length": 1, "items": [new]}));

    let reply = ana.ask("queue:take", json!({"itemId": "q1"})).await;
    assert_eq!(reply, json!({"itemId": "q1", "taken": true}));
    assert_eq!(ana.next("queue:take").await, reply, "the reply is an event too");
    for client in [&mut ana, &mut eva] {
        assert_eq!(client.next("queue:taken").await, json!({"itemId": "q1", "attendantId": "ana"}));
    }
    assert_eq!(eva.next("queue:updated").await, json!({"length": 0, "items": []}));
    for item in ["q1", "no such item"] {
        assert_eq!(eva.ask("queue:take", json!({"itemId": item})).await, json!({"itemId": item, "taken": false}));
    }
    refused_both_ways(&mut eva, "queue:take", json!({}), "invalid", "itemId: missing").await;
    assert_eq!(cal.refused("queue:take", json!({"itemId": "q1"})).await.0, "not_found", "only the hub handles queue events");
    expect_none_of(&mut eva, &["queue:taken", "queue:new"]).await;
    expect_none_of(&mut cal, &["queue:new", "queue:taken", "queue:updated"]).await;
}

#[tokio::test]
async fn each_queue_item_is_taken_by_exactly_one_attendant() {
    const ATTENDANTS: usize = 24;
    let server = Server::dev().start().await;
    let mut eva = in_hub(&server, "eva").await;
    let ids: Vec<String> = (0..ATTENDANTS).map(|n| format!("a{n}")).collect();
    let mut clients = join_all(ids.iter().map(async |id| server.connect("/hub", attendant(id)).await)).await;
    for round in 0..5 {
        let item = format!("q{round}");
        queue_up(&server, &item).await;
        assert_eq!(eva.next("queue:new").await["itemId"], item.as_str());
        let takes = clients.iter_mut().map(async |client| client.ask("queue:take", json!({"itemId": item})).await);
        let replies = join_all(takes).await;
        let winners: Vec<&String> =
            ids.iter().zip(&replies).filter(|(_, reply)| reply["taken"] == true).map(|(id, _)| id).collect();
        assert_eq!(winners.len(), 1, "{replies:?}");
        assert!(replies.iter().all(|reply| keys(reply) == ["itemId", "taken"]), "no attendant gets an error: {replies:?}");
        assert_eq!(eva.next("queue:taken").await, json!({"itemId": item, "attendantId": winners[0]}));
    }
    eva.expect_none("queue:taken").await;
}

#[tokio::test]
async fn the_queue_keeps_its_order_without_duplicates_and_survives_a_restart() {
    let mut server = Server::dev().start().await;
    let mut eva = in_hub(&server, "eva").await;
    let mut waiting = Vec::new();
    for item in ["q3", "q1", "q2"] {
        queue_up(&server, item).await;
        waiting.push(eva.next("queue:new").await);
    }
    // An item that is added again keeps its place.
    queue_up(&server, "q3").await;
    publish_keyed(&server, "queue", "queue.removed", json!({"itemId": "q1"})).await;
    publish_keyed(&server, "queue", "queue.removed", json!({"itemId": "never was"})).await;
    let left = json!({"length": 2, "items": [waiting[0], waiting[2]]});
    wait::eventually("the removal to be sent", async || eva.next("queue:updated").await == left).await;
    expect_none_of(&mut eva, &["queue:new", "queue:taken"]).await;
    server.restart().await;

    // A reconnect to another node within the grace period sends no online event.
    let mut eva = server.connect("/hub", attendant("eva")).await;
    queue_up(&server, "q4").await;
    let new = eva.next("queue:new").await;
    let all = json!({"length": 3, "items": [waiting[0], waiting[2], new]});
    assert_eq!(eva.next("queue:updated").await, all);
    assert_eq!(eva.ask("queue:take", json!({"itemId": "q3"})).await, json!({"itemId": "q3", "taken": true}));
}

#[tokio::test]
async fn attendants_join_any_thread_and_customers_their_own() {
    let server = Server::dev().start().await;
    let (mut ana, mut cal) = in_thread(&server).await;
    let mut dan = server.connect("/portal", user("dan")).await;
    for thread in [json!({"threadId": "t1"}), json!("t1"), json!({"threadId": "no such thread"})] {
        refused_both_ways(&mut dan, "join:thread", thread, "forbidden", "Not authorized").await;
    }
    refused_both_ways(&mut ana, "join:thread", json!("no such thread"), "forbidden", "Not authorized").await;
    // In the portal, an attendant has no special rights.
    let mut outside = server.connect("/portal", attendant("ana")).await;
    refused_both_ways(&mut outside, "join:thread", json!("t1"), "forbidden", "Not authorized").await;
    for bad in [json!(""), json!({}), json!(7), json!(null), json!("x".repeat(129))] {
        assert_eq!(dan.refused("join:thread", bad).await.0, "invalid");
    }
    // The bare id is accepted too, and a client that leaves receives no more events.
    assert_eq!(cal.ask("leave:thread", json!("t1")).await, json!({}));
    assert_eq!(ana.ask("typing:start", json!("t1")).await, json!({}));
    expect_none_of(&mut cal, &["thread:typing"]).await;
    assert_eq!(cal.ask("join:thread", json!("t1")).await, json!({}));
    assert_eq!(ana.ask("typing:stop", json!("t1")).await, json!({}));
    // An event in transit from another node may arrive after the join.
    wait::eventually("the end of typing", async || cal.next("thread:typing").await["isTyping"] == false).await;
    assert_eq!(ana.ask("leave:thread", json!({"threadId": "t1"})).await, json!({}));
    assert_eq!(cal.ask("thread:send", json!({"threadId": "t1", "content": "hello?"})).await, json!({}));
    cal.next("thread:message").await;
    expect_none_of(&mut ana, &["thread:message", "thread:typing"]).await;
    expect_none_of(&mut dan, &["thread:message", "thread:typing"]).await;
}

#[tokio::test]
async fn a_message_reaches_the_thread_in_both_namespaces() {
    let server = Server::dev().start().await;
    let (mut ana, mut cal) = in_thread(&server).await;
    let mut phone = server.connect("/portal", user("cal")).await;
    enter(&mut phone, "t1").await;
    let payload = json!({"threadId": "t1", "content": "olá & <b>oi</b>"});
    assert_eq!(cal.ask("thread:send", payload.clone()).await, json!({}));
    let message = ana.next("thread:message").await;
    assert_eq!(keys(&message), ["content", "createdAt", "id", "threadId", "userId"]);
    assert_eq!((&message["threadId"], &message["userId"]), (&json!("t1"), &json!("cal")));
    assert_eq!(message["content"], "olá & <b>oi</b>", "unchanged plain text");
    assert!(is_time(&message["createdAt"]), "{message}");
    for client in [&mut cal, &mut phone] {
        assert_eq!(client.next("thread:message").await, message);
    }
    assert_eq!(ana.ask("thread:send", payload).await, json!({}));
    let answer = phone.next("thread:message").await;
    assert_eq!(answer["userId"], "ana");
    assert_ne!(answer["id"], message["id"]);

    for content in [json!(""), json!("  "), json!("x".repeat(2001)), json!(7), json!(null)] {
        let payload = json!({"threadId": "t1", "content": content});
        refused_both_ways(&mut cal, "thread:send", payload, "invalid", "Invalid message").await;
    }
    let mut dan = server.connect("/portal", user("dan")).await;
    let here = json!({"threadId": "t1", "content": "let me in"});
    refused_both_ways(&mut dan, "thread:send", here, "forbidden", "Not authorized").await;
    cal.next("thread:message").await;
    expect_none_of(&mut cal, &["thread:message"]).await;
}

#[tokio::test]
async fn typing_and_the_cursor_reach_the_room_except_the_sender() {
    let server = Server::dev().start().await;
    let (mut ana, mut cal) = in_thread(&server).await;
    let mut phone = server.connect("/portal", user("cal")).await;
    enter(&mut phone, "t1").await;
    for (event, is_typing) in [("typing:start", true), ("typing:stop", false)] {
        for thread in [json!({"threadId": "t1"}), json!("t1")] {
            assert_eq!(cal.ask(event, thread).await, json!({}));
            let typing = json!({"threadId": "t1", "userId": "cal", "userName": name("cal"), "isTyping": is_typing});
            assert_eq!(ana.next("thread:typing").await, typing);
            assert_eq!(phone.next("thread:typing").await, typing, "the user's other device is not the sender");
        }
    }
    assert_eq!(ana.ask("cursor:move", json!({"threadId": "t1", "x": 0.25, "y": -3})).await, json!({}));
    for client in [&mut cal, &mut phone] {
        let cursor = client.next("thread:cursor").await;
        assert_eq!(keys(&cursor), ["threadId", "userId", "x", "y"]);
        assert_eq!((&cursor["threadId"], &cursor["userId"]), (&json!("t1"), &json!("ana")));
        assert_eq!((cursor["x"].as_f64(), cursor["y"].as_f64()), (Some(0.25), Some(-3.0)));
    }
    cal.expect_none("thread:typing").await;
    ana.expect_none("thread:cursor").await;
    let mut dan = server.connect("/portal", user("dan")).await;
    for event in ["typing:start", "typing:stop"] {
        refused_both_ways(&mut dan, event, json!("t1"), "forbidden", "Not authorized").await;
    }
    refused_both_ways(&mut dan, "cursor:move", json!({"threadId": "t1", "x": 1, "y": 1}), "forbidden", "Not authorized").await;
    assert_eq!(dan.refused("cursor:move", json!({"threadId": "t1", "x": "left", "y": 1})).await.0, "invalid");
}

#[tokio::test]
async fn a_threads_backend_messages_reach_only_that_thread_in_both_namespaces() {
    let server = Server::dev().start().await;
    let (mut ana, mut cal) = in_thread(&server).await;
    open_thread(&server, "t10", "dan").await;
    let mut dan = server.connect("/portal", user("dan")).await;
    enter(&mut dan, "t10").await;
    let news = [
        ("thread.status", "thread:status", json!({"threadId": "t1", "status": "waiting"})),
        ("chat.accepted", "chat:accepted", json!({"threadId": "t1", "attendant": {"id": "ana", "name": "Ana", "team": 7}})),
        ("chat.ended", "chat:ended", json!({"threadId": "t1", "reason": "solved"})),
    ];
    for (topic, event, data) in &news {
        publish_keyed(&server, "t1", topic, data.clone()).await;
        assert_eq!(ana.next(event).await, *data);
        assert_eq!(cal.next(event).await, *data);
    }
    let payload = json!({"threadId": "t1", "userId": "bot", "content": "One moment"});
    publish_keyed(&server, "t1", "thread.message", payload).await;
    let message = cal.next("thread:message").await;
    assert_eq!(keys(&message), ["content", "createdAt", "id", "threadId", "userId"]);
    assert_eq!((&message["userId"], &message["content"]), (&json!("bot"), &json!("One moment")));
    assert!(is_time(&message["createdAt"]), "{message}");
    assert_eq!(ana.next("thread:message").await, message);
    cal.expect_none("thread:message").await;
    expect_none_of(&mut dan, &["thread:status", "chat:accepted", "chat:ended", "thread:message"]).await;
}

#[tokio::test]
async fn a_threads_owner_survives_a_restart_and_can_be_replaced() {
    let mut server = Server::dev().start().await;
    drop(in_thread(&server).await);
    server.restart().await;

    let mut dan = server.connect("/portal", user("dan")).await;
    refused_both_ways(&mut dan, "join:thread", json!("t1"), "forbidden", "Not authorized").await;
    let mut cal = server.connect("/portal", user("cal")).await;
    assert_eq!(cal.ask("join:thread", json!("t1")).await, json!({}));
    open_thread(&server, "t1", "dan").await;
    enter(&mut dan, "t1").await;
    assert_eq!(dan.ask("thread:send", json!({"threadId": "t1", "content": "mine now"})).await, json!({}));
    cal.expect_none("thread:message").await;
    refused_both_ways(&mut cal, "join:thread", json!("t1"), "forbidden", "Not authorized").await;
    refused_both_ways(&mut cal, "typing:start", json!("t1"), "forbidden", "Not authorized").await;
}
