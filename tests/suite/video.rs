//! Videos except for their live chat: viewers, counts of the backend, channels and notifications. Must never use another
//! product's events.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::server::Builder;
use tests::{Auth, Client, Server, wait};

use crate::helpers::{is_time, keys, user};

/// The plugins of the videos and those that share `/` with them.
fn server() -> Builder {
    Server::dev()
}

/// The minimum interval between two counts or two views of one video.
const TURN: Duration = Duration::from_millis(500);

async fn watch(server: &Server, video: &str, who: impl Into<Auth>) -> Client {
    let mut client = server.connect("/", who).await;
    assert_eq!(client.ask("video:join", json!({"videoId": video})).await, json!({}));
    client
}

/// Waits for this count and returns how many counts were received.
async fn viewers_are(client: &mut Client, video: &str, count: u64) -> u32 {
    let mut received = 0;
    loop {
        let seen = client.next("video:viewers").await;
        assert_eq!(keys(&seen), ["count", "videoId"]);
        assert_eq!(seen["videoId"], video);
        received += 1;
        if seen["count"] == count {
            return received;
        }
    }
}

/// The maximum number of updates in this time, with one more for a partial interval.
fn turns(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / TURN.as_millis()).expect("a short time") + 2
}

async fn post(server: &Server, channel: &str, title: &str) {
    let data = json!({"channelId": channel, "type": "new_video", "title": title, "message": "Look"});
    server.publish("channel.notification", data).await;
}

async fn notify(server: &Server, who: &str, title: &str) {
    let data = json!({"userId": who, "type": "reply", "title": title, "message": "Look", "link": "/v1"});
    server.publish("notification.created", data).await;
}

/// The titles of a list, newest first.
fn titles(list: &Value) -> Vec<&str> {
    let notifications = list["notifications"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    notifications.iter().map(|one| one["title"].as_str().expect("a title")).collect()
}

fn is_milliseconds(value: &Value) -> bool {
    value.as_u64().is_some_and(|ms| ms > 1_600_000_000_000)
}

#[tokio::test]
async fn viewers_are_counted_as_they_join_and_leave() {
    let server = server().start().await;
    let mut visitor = watch(&server, "v1", ()).await;
    viewers_are(&mut visitor, "v1", 1).await;
    let mut phone = watch(&server, "v1", user("ana")).await;
    viewers_are(&mut phone, "v1", 2).await;
    viewers_are(&mut visitor, "v1", 2).await;
    let mut laptop = watch(&server, "v1", user("ana")).await;
    assert_eq!(laptop.next("video:viewers").await, json!({"videoId": "v1", "count": 2}), "one user on two devices");
    let mut elsewhere = watch(&server, "v10", user("eva")).await;
    viewers_are(&mut elsewhere, "v10", 1).await;
    let gone = watch(&server, "v1", ()).await;
    viewers_are(&mut visitor, "v1", 3).await;
    gone.leave().await;
    viewers_are(&mut visitor, "v1", 2).await;
    // One device of a user leaves, then the other.
    assert_eq!(laptop.ask("video:leave", json!({"videoId": "v1"})).await, json!({}));
    let mut last = watch(&server, "v1", ()).await;
    viewers_are(&mut last, "v1", 3).await;
    assert_eq!(phone.ask("video:leave", json!({"videoId": "v1"})).await, json!({}));
    viewers_are(&mut visitor, "v1", 2).await;
    assert_eq!(laptop.ask("video:leave", json!({"videoId": "v1"})).await, json!({}), "leaving twice is no error");
    let _also_elsewhere = watch(&server, "v10", ()).await;
    viewers_are(&mut elsewhere, "v10", 2).await;
}

#[tokio::test]
async fn viewer_counts_are_sent_at_most_twice_a_second() {
    const RUSH: usize = 60;
    let server = server().start().await;
    let mut first = watch(&server, "v1", ()).await;
    viewers_are(&mut first, "v1", 1).await;
    let began = Instant::now();
    let rush = join_all((0..RUSH).map(|_| watch(&server, "v1", ()))).await;
    let received = viewers_are(&mut first, "v1", RUSH as u64 + 1).await;
    assert!(received <= turns(began.elapsed()), "{received} in {:?}", began.elapsed());
    // A new viewer receives the count at once, regardless of earlier updates.
    for mut viewer in rush {
        let seen = viewer.next("video:viewers").await;
        assert!(seen["count"].as_u64() > Some(1), "{seen}");
    }
}

#[tokio::test]
async fn a_position_is_sent_only_to_the_users_other_devices() {
    let server = server().start().await;
    let mut phone = watch(&server, "v1", user("ana")).await;
    let mut laptop = watch(&server, "v1", user("ana")).await;
    let mut tablet = server.connect("/", user("ana")).await;
    let mut in_chat = server.connect("/chat", user("ana")).await;
    let mut bia = watch(&server, "v1", user("bia")).await;
    let mut visitor = watch(&server, "v1", ()).await;
    let mut other_visitor = watch(&server, "v1", ()).await;
    for at in [json!(45.5), json!(46), json!(0)] {
        let position = json!({"videoId": "v1", "timestamp": at});
        assert_eq!(phone.ask("video:progress", position.clone()).await, json!({}));
        assert_eq!(laptop.next("video:sync").await, position);
        assert_eq!(tablet.next("video:sync").await, position, "also without having joined");
    }
    assert_eq!(visitor.ask("video:progress", json!({"videoId": "v1", "timestamp": 1})).await, json!({}));
    for other in [&mut phone, &mut laptop, &mut tablet, &mut in_chat, &mut bia, &mut visitor, &mut other_visitor] {
        other.expect_none("video:sync").await;
    }
    for bad in [json!({"videoId": "v1"}), json!({"videoId": "v1", "timestamp": "1"}), json!({"timestamp": 1}), json!(null)] {
        assert_eq!(phone.refused("video:progress", bad.clone()).await.0, "invalid", "{bad}");
    }
    laptop.expect_none("video:sync").await;
}

#[tokio::test]
async fn a_videos_backend_messages_reach_only_its_room() {
    let server = server().start().await;
    let mut visitor = watch(&server, "v1", ()).await;
    let mut ana = watch(&server, "v1", user("ana")).await;
    let mut elsewhere = watch(&server, "v10", user("eva")).await;
    let mut left = watch(&server, "v1", user("bia")).await;
    left.ask("video:leave", json!({"videoId": "v1"})).await;
    let mut not_joined = server.connect("/", user("ana")).await;

    server.publish("video.view", json!({"videoId": "v1", "timestamp": 1_234_567_890})).await;
    server.publish("video.like", json!({"videoId": "v1", "userId": "bia", "timestamp": 1_234_567_891})).await;
    server.publish("video.dislike", json!({"videoId": "v1"})).await;
    server.publish("video.comment", json!({"videoId": "v1", "commentId": "k1", "timestamp": 1_234_567_892})).await;
    server.publish("video.comment", json!({"videoId": "v1", "commentId": 7})).await;
    let like = |kind: &str, at: &Value| json!({"videoId": "v1", "type": kind, "timestamp": at});
    for viewer in [&mut visitor, &mut ana] {
        assert_eq!(viewer.next("video:view").await, json!({"videoId": "v1", "timestamp": 1_234_567_890}));
        // The two topics may be handled in any order.
        let mut likes = [viewer.next("video:like").await, viewer.next("video:like").await];
        likes.sort_by_key(|like| like["type"].as_str().map(str::to_owned));
        let [dislike, liked] = likes;
        assert_eq!(liked, like("video.like", &json!(1_234_567_891)));
        assert_eq!(dislike, like("video.dislike", &dislike["timestamp"]));
        assert!(is_milliseconds(&dislike["timestamp"]), "{dislike}");
        let comment = json!({"videoId": "v1", "commentId": "k1", "timestamp": 1_234_567_892});
        assert_eq!(viewer.next("video:comment").await, comment);
        let numbered = viewer.next("video:comment").await;
        assert_eq!(keys(&numbered), ["commentId", "timestamp", "videoId"]);
        assert!(numbered["commentId"] == 7 && is_milliseconds(&numbered["timestamp"]), "ids are unchanged: {numbered}");
    }
    for event in ["video:view", "video:like", "video:comment"] {
        for other in [&mut visitor, &mut elsewhere, &mut left, &mut not_joined] {
            other.expect_none(event).await;
        }
    }
}

#[tokio::test]
async fn views_are_sent_twice_a_second_and_all_are_counted() {
    const BATCHES: usize = 8;
    const BATCH: usize = 250;
    // Checking for duplicates makes two thousand commits in a row, which takes a while on PostgreSQL.
    let mut server = server().single_node().start().await;
    let mut viewer = watch(&server, "v1", ()).await;
    let mut elsewhere = watch(&server, "v2", ()).await;
    let view = |video: &str, n: usize| json!({"topic": "video.view", "key": video, "id": format!("{video}-{n}"), "data": {"videoId": video, "timestamp": n}});
    let began = Instant::now();
    let mut received = 0;
    for batch in 0..BATCHES {
        let views: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(|n| view("v1", n)).collect();
        let (status, body) = server.api("/api/publish", &json!(views)).await;
        assert_eq!(status, 202, "{body}");
        // A producer that repeats its messages adds no views.
        assert_eq!(server.api("/api/publish", &json!(views)).await.0, 202);
    }
    server.publish_message(&view("v2", 1)).await;
    // The two thousand messages before it are stored first.
    let own = elsewhere.next_within("video:view", Duration::from_secs(60)).await;
    assert_eq!(own, json!({"videoId": "v2", "timestamp": 1}), "an interval of its own");
    let mut last = None;
    while last != Some((BATCHES * BATCH - 1) as u64) {
        let seen = viewer.next("video:view").await;
        assert_eq!((keys(&seen), &seen["videoId"]), (vec!["timestamp", "videoId"], &json!("v1")));
        assert!(seen["timestamp"].as_u64() > last || last.is_none(), "{seen} after {last:?}");
        last = seen["timestamp"].as_u64();
        received += 1;
    }
    assert!(received <= turns(began.elapsed()), "{received} in {:?}", began.elapsed());
    let counts = |server: &Server| (server.store().counter("video", "views/v1"), server.store().counter("video", "views/v2"));
    assert_eq!(counts(&server), ((BATCHES * BATCH) as i64, 1));
    elsewhere.expect_none("video:view").await;
    server.restart().await;
    server.publish_message(&view("v1", 0)).await;
    server.publish_message(&view("v1", BATCHES * BATCH)).await;
    wait::eventually("the next view", async || counts(&server).0 > (BATCHES * BATCH) as i64).await;
    assert_eq!(counts(&server), ((BATCHES * BATCH) as i64 + 1, 1));
}

#[tokio::test]
async fn every_like_and_dislike_is_sent_and_counted() {
    const EACH: usize = 100;
    let server = server().start().await;
    let mut viewer = watch(&server, "v1", ()).await;
    let rate = |n: usize| {
        let topic = if n.is_multiple_of(2) { "video.like" } else { "video.dislike" };
        json!({"topic": topic, "key": "v1", "data": {"videoId": "v1", "userId": "ana", "timestamp": n}})
    };
    let all: Vec<_> = (0..2 * EACH).map(rate).collect();
    assert_eq!(server.api("/api/publish", &json!(all)).await.0, 202);
    let mut likes = 0;
    for _ in 0..2 * EACH {
        likes += usize::from(viewer.next("video:like").await["type"] == "video.like");
    }
    assert_eq!(likes, EACH);
    viewer.expect_none("video:like").await;
    let counter = |key: &str| server.store().counter("video", key);
    assert_eq!((counter("likes/v1"), counter("dislikes/v1"), counter("views/v1")), (EACH as i64, EACH as i64, 0));
}

#[tokio::test]
async fn a_message_without_a_video_is_a_dead_letter_and_the_next_is_sent() {
    let server = server().start().await;
    let mut viewer = watch(&server, "v1", ()).await;
    let view = |data: Value, key: &str| json!({"topic": "video.view", "key": key, "data": data});
    let bad = [json!({}), json!(null), json!({"videoId": null}), json!({"videoId": ""}), json!({"videoId": "x".repeat(5000)})];
    for (n, bad) in bad.iter().enumerate() {
        server.publish_message(&view(bad.clone(), &format!("bad{n}"))).await;
    }
    server.publish("video.comment", json!({"videoId": "v1"})).await;
    server.publish_message(&view(json!({"videoId": "v1", "timestamp": "yesterday", "more": [1]}), "good")).await;
    let seen = viewer.next("video:view").await;
    assert!(is_milliseconds(&seen["timestamp"]), "an invalid time is replaced: {seen}");
    all_but_those_are_handled(&server, 6.0).await;
    viewer.expect_none("video:comment").await;
}

#[tokio::test]
async fn bad_messages_in_a_row_do_not_delay_the_next_good_one() {
    let server = server().start().await;
    let mut viewer = watch(&server, "v1", ()).await;
    // Once the count has been received twice, no other message passes through the plugin.
    let _another = watch(&server, "v1", ()).await;
    viewers_are(&mut viewer, "v1", 2).await;
    for data in [json!({}), json!({}), json!({}), json!({}), json!({"videoId": "v1", "timestamp": 1})] {
        server.publish_message(&json!({"topic": "video.view", "key": "v1", "data": data})).await;
    }
    assert_eq!(viewer.next("video:view").await, json!({"videoId": "v1", "timestamp": 1}));
    all_but_those_are_handled(&server, 4.0).await;
}

async fn all_but_those_are_handled(server: &Server, dead: f64) {
    wait::eventually("the bad messages to be dead letters", async || {
        server.metrics().await.get("hubbub_bus_dead_letters_total", &[]) == Some(dead)
    })
    .await;
}

#[tokio::test]
async fn a_subscription_survives_reconnects_and_restarts_on_all_devices() {
    let mut server = server().start().await;
    let mut phone = server.connect("/", user("ana")).await;
    let mut laptop = server.connect("/", user("ana")).await;
    let mut bia = server.connect("/", user("bia")).await;
    let mut visitor = server.connect("/", ()).await;
    let follow = json!({"channelId": "ch1"});
    for _ in 0..2 {
        assert_eq!(phone.ask("notifications:subscribe", follow.clone()).await, json!({}), "a second time changes nothing");
    }
    let data =
        json!({"channelId": "ch1", "type": "new_video", "title": "One", "message": "Look", "timestamp": 1_700_000_000_000_u64});
    server.publish("channel.notification", data).await;
    let one = phone.next("notification").await;
    let id = one["id"].clone();
    let as_published =
        json!({"id": id, "type": "new_video", "title": "One", "message": "Look", "timestamp": 1_700_000_000_000_u64});
    assert_eq!(one, as_published);
    assert!(id.is_string(), "{one}");
    assert_eq!(laptop.next("notification").await, one);
    for other in [&mut phone, &mut bia, &mut visitor] {
        other.expect_none("notification").await;
    }

    phone.leave().await;
    let mut phone = server.connect("/", user("ana")).await;
    post(&server, "ch1", "Two").await;
    let two = phone.next("notification").await;
    assert!(two["title"] == "Two" && is_milliseconds(&two["timestamp"]), "{two}");
    server.restart().await;
    let mut phone = server.connect("/", user("ana")).await;
    let mut laptop = server.connect("/", user("ana")).await;
    post(&server, "ch10", "Not followed").await;
    post(&server, "ch1", "Three").await;
    for device in [&mut phone, &mut laptop] {
        assert_eq!(device.next("notification").await["title"], "Three");
    }

    let mut bia = server.connect("/", user("bia")).await;
    bia.ask("notifications:subscribe", follow.clone()).await;
    assert_eq!(laptop.ask("notifications:unsubscribe", follow).await, json!({}));
    post(&server, "ch1", "Four").await;
    assert_eq!(bia.next("notification").await["title"], "Four");
    for device in [&mut phone, &mut laptop] {
        device.expect_none("notification").await;
    }
    server.restart().await;
    let mut phone = server.connect("/", user("ana")).await;
    let mut bia = server.connect("/", user("bia")).await;
    post(&server, "ch1", "Five").await;
    assert_eq!(bia.next("notification").await["title"], "Five");
    phone.expect_none("notification").await;
}

#[tokio::test]
async fn the_list_contains_own_and_followed_notifications_and_read_state() {
    let mut server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    post(&server, "ch1", "Before").await;
    let mut early = server.connect("/", user("eva")).await;
    early.ask("notifications:subscribe", json!({"channelId": "ch2"})).await;
    post(&server, "ch2", "Sent").await;
    early.next("notification").await;
    // An earlier message of its channel may be handled after the subscription, so a third channel is used.
    ana.ask("notifications:subscribe", json!({"channelId": "ch3"})).await;
    notify(&server, "ana", "Mine").await;
    let mine = ana.next("notification").await;
    assert_eq!(keys(&mine), ["id", "message", "timestamp", "title", "type"]);
    assert!(mine["type"] == "reply" && is_milliseconds(&mine["timestamp"]), "{mine}");
    post(&server, "ch3", "Theirs").await;
    let theirs = ana.next("notification").await;
    assert_eq!(theirs["title"], "Theirs");

    let list = ana.ask("notifications:list", json!({})).await;
    assert_eq!(keys(&list), ["notifications", "unreadCount"]);
    assert_eq!((titles(&list), &list["unreadCount"]), (vec!["Theirs", "Mine"], &json!(2)));
    assert_eq!(ana.next("notifications:list").await, list, "the reply is an event too");
    let listed = &list["notifications"][1];
    for key in ["id", "type", "title", "message", "timestamp"] {
        assert_eq!(listed[key], mine[key], "{key}");
    }
    assert!(listed["link"] == "/v1" && listed["read"] == false && is_time(&listed["createdAt"]), "{listed}");

    let read = |one: &Value| json!({"notificationId": one["id"]});
    for _ in 0..2 {
        assert_eq!(ana.ask("notifications:read", read(&mine)).await, json!({}), "a second time changes nothing");
    }
    let unread = ana.ask("notifications:list", json!({"unreadOnly": true})).await;
    assert_eq!((titles(&unread), &unread["unreadCount"]), (vec!["Theirs"], &json!(1)));
    server.restart().await;
    let mut ana = server.connect("/", user("ana")).await;
    let all = ana.ask("notifications:list", json!({"unreadOnly": false})).await;
    assert_eq!((titles(&all), &all["unreadCount"]), (vec!["Theirs", "Mine"], &json!(1)));
    assert_eq!((&all["notifications"][0]["read"], &all["notifications"][1]["read"]), (&json!(false), &json!(true)));
    assert_eq!(ana.ask("notifications:read", read(&theirs)).await, json!({}));
    assert_eq!(ana.ask("notifications:list", json!(null)).await["unreadCount"], 0);
}

#[tokio::test]
async fn a_list_is_paged_and_excludes_items_before_the_subscription() {
    let server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    let mut bia = server.connect("/", user("bia")).await;
    bia.ask("notifications:subscribe", json!({"channelId": "ch1"})).await;
    post(&server, "ch1", "Old").await;
    let old = bia.next("notification").await;
    ana.ask("notifications:subscribe", json!({"channelId": "ch1"})).await;
    for n in 0..5 {
        notify(&server, "ana", &format!("n{n}")).await;
        ana.next("notification").await;
    }
    let first = ana.ask("notifications:list", json!({"limit": 2})).await;
    assert_eq!((titles(&first), &first["unreadCount"]), (vec!["n4", "n3"], &json!(5)));
    let before = &first["notifications"][1]["id"];
    let second = ana.ask("notifications:list", json!({"limit": 100, "before": before})).await;
    assert_eq!(titles(&second), ["n2", "n1", "n0"], "without items from before the subscription");
    for unknown in [old["id"].clone(), json!("no such")] {
        let refusal = ana.refused("notifications:list", json!({"before": unknown})).await;
        assert_eq!(refusal, ("not_found".to_owned(), "Notification not found".to_owned()));
    }
    for bad in [json!({"limit": "two"}), json!({"unreadOnly": "yes"}), json!(7)] {
        assert_eq!(ana.refused("notifications:list", bad.clone()).await.0, "invalid", "{bad}");
    }
}

#[tokio::test]
async fn users_cannot_read_or_list_notifications_of_others() {
    let server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    let mut eva = server.connect("/", user("eva")).await;
    ana.ask("notifications:subscribe", json!({"channelId": "ch1"})).await;
    notify(&server, "ana", "Mine").await;
    let mine = ana.next("notification").await;
    post(&server, "ch1", "Followed").await;
    let followed = ana.next("notification").await;
    for id in [&mine["id"], &followed["id"], &json!("no such"), &json!("../user/ana"), &json!("x".repeat(128))] {
        let refusal = eva.refused("notifications:read", json!({"notificationId": id})).await;
        assert_eq!(refusal, ("not_found".to_owned(), "Notification not found".to_owned()), "{id}");
    }
    eva.emit("notifications:read", json!({"notificationId": mine["id"]})).await;
    let error = json!({"code": "not_found", "message": "Notification not found", "event": "notifications:read"});
    assert_eq!(eva.next("error").await, error);
    let none = eva.ask("notifications:list", json!({})).await;
    assert_eq!(none, json!({"notifications": [], "unreadCount": 0}));
    for event in ["notification", "notification:new"] {
        eva.expect_none(event).await;
    }
    let list = ana.ask("notifications:list", json!({"unreadOnly": true})).await;
    assert_eq!(list["unreadCount"], 2, "the user's own are still unread");
}

#[tokio::test]
async fn a_visitor_may_watch_and_is_counted_without_notifications() {
    let server = server().start().await;
    assert_eq!(server.connect_refused("/", "nonsense").await, "Invalid token");
    let mut visitor = watch(&server, "v1", ()).await;
    let mut other = watch(&server, "v1", ()).await;
    viewers_are(&mut other, "v1", 2).await;
    let events = [
        ("notifications:subscribe", json!({"channelId": "ch1"})),
        ("notifications:unsubscribe", json!({"channelId": "ch1"})),
        ("notifications:read", json!({"notificationId": "n1"})),
        ("notifications:list", json!({})),
    ];
    for (event, payload) in events {
        let refusal = visitor.refused(event, payload.clone()).await;
        assert_eq!(refusal, ("unauthenticated".to_owned(), "Authentication error".to_owned()), "{event}");
        visitor.emit(event, payload).await;
        let error = json!({"code": "unauthenticated", "message": "Authentication error", "event": event});
        assert_eq!(visitor.next("error").await, error);
    }
    let mut ana = server.connect("/", user("ana")).await;
    ana.ask("notifications:subscribe", json!({"channelId": "ch1"})).await;
    post(&server, "ch1", "For followers").await;
    ana.next("notification").await;
    visitor.expect_none("notification").await;
    assert_eq!(visitor.ask("video:leave", json!({"videoId": "v1"})).await, json!({}));
    viewers_are(&mut other, "v1", 1).await;
}

#[tokio::test]
async fn a_payload_without_an_id_is_refused_with_the_field() {
    let server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    let fields = [
        ("video:join", "videoId"),
        ("video:leave", "videoId"),
        ("notifications:subscribe", "channelId"),
        ("notifications:unsubscribe", "channelId"),
        ("notifications:read", "notificationId"),
    ];
    for (event, field) in fields {
        let (code, sentence) = ana.refused(event, json!({})).await;
        assert_eq!((code, sentence), ("invalid".to_owned(), format!("{field}: missing")), "{event}");
        for odd in [json!(null), json!(""), json!(7), json!(["v1"]), json!({"a": 1}), json!("x".repeat(5000))] {
            let (code, sentence) = ana.refused(event, json!({field: odd})).await;
            assert!(code == "invalid" && sentence.starts_with(field), "{event} {odd}: {code} {sentence}");
        }
    }
    ana.expect_none("video:viewers").await;
}

#[tokio::test]
async fn a_users_followed_channels_are_limited() {
    let server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    for n in 0..32 {
        assert_eq!(ana.ask("notifications:subscribe", json!({"channelId": format!("ch{n}")})).await, json!({}));
    }
    let refusal = ana.refused("notifications:subscribe", json!({"channelId": "one more"})).await;
    assert_eq!(refusal, ("too_large".to_owned(), "Too many subscriptions".to_owned()));
    ana.ask("notifications:unsubscribe", json!({"channelId": "ch0"})).await;
    assert_eq!(ana.ask("notifications:subscribe", json!({"channelId": "one more"})).await, json!({}));
    let mut phone = server.connect("/", user("ana")).await;
    post(&server, "ch31", "The last").await;
    assert_eq!(phone.next("notification").await["title"], "The last");
}

#[tokio::test]
async fn the_health_page_counts_users_and_visitors() {
    // These counts are per process.
    let mut server = server().single_node().start().await;
    let connections = async |server: &Server| server.get("/health").await.1["connections"].clone();
    assert_eq!(connections(&server).await, 0);
    let visitor = watch(&server, "v1", ()).await;
    let _ana = watch(&server, "v1", user("ana")).await;
    assert_eq!(connections(&server).await, 2);
    visitor.leave().await;
    wait::eventually("the count to decrease", async || connections(&server).await == 1).await;
    server.restart().await;
    let (status, health) = server.get("/health").await;
    assert_eq!((status, keys(&health)), (200, vec!["connections", "service", "status", "timestamp"]));
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("realtime")));
    assert!(health["connections"] == 0 && is_time(&health["timestamp"]), "{health}");
}
