//! Channels: the clients that get a notification, the list's counts, and the life of a subscription.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, user, visitor};
use serde_json::{Value, json};

use crate::Notifications;

fn post(app: &Harness<Notifications>, channel: &str, title: &str) {
    app.publish("channel.notification", json!({ "channelId": channel, "type": "new_video", "title": title, "message": "m" }));
}

fn follow(client: &Client<Notifications>, channel: &str) {
    client.emit("notifications:subscribe", json!({ "channelId": channel })).expect_ok();
}

fn list(client: &Client<Notifications>, asked: Value) -> (Vec<Value>, Value) {
    let page = client.emit("notifications:list", asked).ack();
    let titles = page["notifications"].as_array().expect("a page").iter().map(|one| one["title"].clone()).collect();
    (titles, page["unreadCount"].clone())
}

#[test]
fn a_notification_reaches_only_the_subscribers() {
    let app = Harness::<Notifications>::new();
    let (ana, ben, someone) = (app.connect("/", user("ana")), app.connect("/", user("ben")), app.connect("/", visitor()));
    follow(&ana, "c1");
    follow(&ben, "c2");
    post(&app, "c1", "A video");
    let got = ana.expect_any("notification");
    let expected = json!({
        "id": got["id"], "type": "new_video", "title": "A video", "message": "m", "timestamp": 1_735_689_600_000_u64,
    });
    assert_eq!(got, expected);
    for client in [&ana, &ben, &someone] {
        client.expect_nothing();
    }
}

#[test]
fn a_notification_for_one_user_is_stored_and_sent_to_that_user_only() {
    let app = Harness::<Notifications>::new();
    let [ana, phone, ben] = ["7", "7", "ben"].map(|id| app.connect("/", user(id)));
    follow(&ben, "c1");
    let notice = json!({ "userId": 7, "type": "strike", "title": "For you", "message": "m", "timestamp": 1234 });
    app.publish("channel.notification", notice);
    app.publish("channel.notification", json!({ "userId": "7", "channelId": "c1", "title": "Not for followers" }));
    let got = ana.expect_any("notification");
    let expected = json!({ "id": got["id"], "type": "strike", "title": "For you", "message": "m", "timestamp": 1234 });
    assert_eq!(got, expected);
    phone.expect("notification", expected);
    for client in [&ana, &phone] {
        assert_eq!(client.expect_any("notification")["title"], "Not for followers");
        client.expect_nothing();
    }
    ben.expect_nothing();
    assert_eq!(list(&ben, json!({})), (vec![], json!(0)));
    assert_eq!(list(&ana, json!({})), (vec![json!("Not for followers"), json!("For you")], json!(2)));
    ana.emit("notifications:read", json!({ "notificationId": got["id"] })).expect_ok();
    assert_eq!(list(&ana, json!({ "unreadOnly": true })).1, json!(1));
    ben.emit("notifications:read", json!({ "notificationId": got["id"] })).expect_refusal("not_found", "Notification not found");
    assert!(app.try_publish("channel.notification", json!({ "title": "For nobody" })).is_err());
}

#[test]
fn a_timestamp_in_the_message_is_used() {
    let app = Harness::<Notifications>::new();
    let ana = app.connect("/", user("ana"));
    follow(&ana, "7");
    for (timestamp, shown) in [(json!(1234), 1234), (json!("yesterday"), app.now()), (json!(null), app.now())] {
        app.publish("channel.notification", json!({ "channelId": 7, "title": "t", "timestamp": timestamp, "more": [1] }));
        assert_eq!(ana.expect_any("notification")["timestamp"], shown);
    }
}

#[test]
fn a_subscription_covers_all_devices_and_reconnects() {
    let app = Harness::<Notifications>::new();
    let (desk, phone) = (app.connect("/", user("ana")), app.connect("/", user("ana")));
    follow(&desk, "c1");
    follow(&phone, "c1");
    desk.disconnect();
    let desk = app.connect("/", user("ana"));
    for client in [&desk, &phone] {
        assert_eq!(client.rooms(), ["channel:c1"]);
    }
    post(&app, "c1", "one");
    for client in [&desk, &phone] {
        client.expect_any("notification");
        client.expect_nothing();
    }
    phone.emit("notifications:unsubscribe", json!({ "channelId": "c1" })).expect_ok();
    phone.emit("notifications:unsubscribe", json!({ "channelId": "c1" })).expect_ok();
    post(&app, "c1", "two");
    assert!(desk.rooms().is_empty() && phone.rooms().is_empty() && app.connect("/", user("ana")).rooms().is_empty());
    desk.expect_nothing();
    assert_eq!(list(&desk, json!({})), (vec![], json!(0)));
}

#[test]
fn the_list_begins_at_the_subscription() {
    let app = Harness::<Notifications>::new();
    let ana = app.connect("/", user("ana"));
    post(&app, "c1", "before");
    follow(&ana, "c1");
    assert_eq!(list(&ana, json!({})), (vec![], json!(0)));
    ana.disconnect();
    post(&app, "c1", "after");
    let ana = app.connect("/", user("ana"));
    assert_eq!(list(&ana, json!({})), (vec![json!("after")], json!(1)));
    let page = ana.emit("notifications:list", json!({})).ack();
    let expected = json!({
        "id": page["notifications"][0]["id"], "type": "new_video", "title": "after", "message": "m",
        "timestamp": 1_735_689_600_000_u64, "createdAt": "2025-01-01T00:00:00.000Z", "read": false,
    });
    assert_eq!(page["notifications"][0], expected);
}

#[test]
fn the_list_merges_inbox_and_channels_by_time() {
    let app = Harness::<Notifications>::new();
    let ana = app.connect("/", user("ana"));
    follow(&ana, "c1");
    follow(&ana, "c2");
    for (n, channel) in ["c1", "c2", "", "c1", "", "c2"].into_iter().enumerate() {
        let title = n.to_string();
        match channel {
            "" => app.publish("notification.created", json!({ "userId": "ana", "title": title })),
            channel => post(&app, channel, &title),
        }
        app.advance(Duration::from_millis(1));
    }
    let sent = ana.received("notification");
    let titles = |from: usize, to: usize| (to..=from).rev().map(|n| json!(n.to_string())).collect::<Vec<_>>();
    assert_eq!(list(&ana, json!({})), (titles(5, 0), json!(6)));
    assert_eq!(list(&ana, json!({ "limit": 2, "before": sent[4]["id"] })), (titles(3, 2), json!(6)));
    for n in [1, 2, 4] {
        ana.emit("notifications:read", json!({ "notificationId": sent[n]["id"] })).expect_ok();
    }
    assert_eq!(list(&ana, json!({ "unreadOnly": true })), (vec![json!("5"), json!("3"), json!("0")], json!(3)));
}

#[test]
fn a_channels_notification_is_stored_once_and_read_by_each_subscriber() {
    let app = Harness::<Notifications>::new();
    let (ana, ben, eve) = (app.connect("/", user("ana")), app.connect("/", user("ben")), app.connect("/", user("eve")));
    follow(&ana, "c1");
    follow(&ben, "c1");
    post(&app, "c1", "one");
    assert_eq!(app.keys("items/").len(), 1);
    follow(&eve, "c1");
    let read = json!({ "notificationId": ana.expect_any("notification")["id"] });
    eve.emit("notifications:read", read.clone()).expect_refusal("not_found", "Notification not found");
    for _ in 0..2 {
        ana.emit("notifications:read", read.clone()).expect_ok();
    }
    assert_eq!((list(&ana, json!({})).1, list(&ben, json!({})).1, list(&eve, json!({})).1), (json!(0), json!(1), json!(0)));
}

#[test]
fn a_channel_holds_the_newest_100() {
    let app = Harness::<Notifications>::new();
    let ana = app.connect("/", user("ana"));
    follow(&ana, "c1");
    (0..101).for_each(|n| post(&app, "c1", &n.to_string()));
    let sent = ana.received("notification");
    let read = |n: usize| ana.emit("notifications:read", json!({ "notificationId": sent[n]["id"] }));
    read(0).expect_refusal("not_found", "Notification not found");
    read(1).expect_ok();
    read(100).expect_ok();
    assert_eq!(list(&ana, json!({})).1, 98);
    post(&app, "c1", "101");
    assert_eq!(list(&ana, json!({})).1, 99);
    assert_eq!(app.keys("items/").len(), 100);
}

#[test]
fn the_33rd_subscription_is_refused() {
    let app = Harness::<Notifications>::new();
    let ana = app.connect("/", user("ana"));
    (0..32).for_each(|n| follow(&ana, &format!("c{n}")));
    follow(&ana, "c31");
    let one_more = ana.emit("notifications:subscribe", json!({ "channelId": "c32" }));
    one_more.expect_refusal("too_large", "Too many subscriptions");
    ana.emit("notifications:unsubscribe", json!({ "channelId": "c0" })).expect_ok();
    follow(&ana, "c32");
    assert_eq!(app.connect("/", user("ana")).rooms().len(), 32);
    ana.emit("notifications:subscribe", json!({})).expect_refusal("invalid", "channelId: missing");
}
