//! A user's inbox in `/`, as the frontends of both products get it.

use hubbub_sdk::harness::{Harness, user, visitor};
use serde_json::{Value, json};

use crate::Notifications;

fn notify(app: &Harness<Notifications>, id: &str, title: &str) {
    let texts = json!({ "userId": id, "type": "COURSE_UPDATE", "title": title, "message": "m", "link": "/l" });
    app.publish("notification.created", texts);
}

#[test]
fn a_notification_reaches_every_device_under_both_names() {
    let app = Harness::<Notifications>::new();
    let (desk, phone, ben) = (app.connect("/", user("ana")), app.connect("/", user("ana")), app.connect("/", user("ben")));
    notify(&app, "ana", "A new lesson");
    for client in [&desk, &phone] {
        let new = client.expect_any("notification:new");
        let expected = json!({
            "id": new["id"], "type": "COURSE_UPDATE", "title": "A new lesson", "message": "m", "link": "/l",
            "createdAt": "2025-01-01T00:00:00.000Z",
        });
        assert_eq!(new, expected);
        let other = json!({
            "id": new["id"], "type": "COURSE_UPDATE", "title": "A new lesson", "message": "m", "timestamp": 1_735_689_600_000_u64,
        });
        client.expect("notification", other);
        client.expect_nothing();
    }
    ben.expect_nothing();
}

#[test]
fn a_notification_for_a_disconnected_user_is_in_the_list() {
    let app = Harness::<Notifications>::new();
    notify(&app, "ana", "missed");
    let ana = app.connect("/", user("ana"));
    let page = ana.emit("notifications:list", json!({})).ack();
    let expected = json!({
        "id": page["notifications"][0]["id"], "type": "COURSE_UPDATE", "title": "missed", "message": "m", "link": "/l",
        "timestamp": 1_735_689_600_000_u64, "createdAt": "2025-01-01T00:00:00.000Z", "read": false,
    });
    assert_eq!(page, json!({ "notifications": [expected], "unreadCount": 1 }));
    ana.expect("notifications:list", page);
}

#[test]
fn only_own_notifications_can_be_read() {
    let app = Harness::<Notifications>::new();
    let (ana, ben) = (app.connect("/", user("ana")), app.connect("/", user("ben")));
    notify(&app, "ana", "hers");
    let id = ana.expect_any("notification")["id"].clone();
    let read = |id: &Value| json!({ "notificationId": id });
    ben.emit("notifications:read", read(&id)).expect_refusal("not_found", "Notification not found");
    ben.emit("notifications:read", json!({})).expect_refusal("invalid", "notificationId: missing");
    for _ in 0..2 {
        ana.emit("notifications:read", read(&id)).expect_ok();
    }
    let page = app.connect("/", user("ana")).emit("notifications:list", json!({})).ack();
    assert_eq!((&page["notifications"][0]["read"], &page["unreadCount"]), (&json!(true), &json!(0)));
    let unread = ana.emit("notifications:list", json!({ "unreadOnly": true }));
    unread.expect_reply(json!({ "notifications": [], "unreadCount": 0 }));
}

#[test]
fn a_visitors_events_are_refused() {
    let app = Harness::<Notifications>::new();
    let someone = app.connect("/", visitor());
    for event in ["notifications:subscribe", "notifications:unsubscribe"] {
        let outcome = someone.emit(event, json!({ "channelId": "c1" }));
        outcome.expect_refusal("unauthenticated", "Authentication error");
    }
    let read = someone.emit("notifications:read", json!({ "notificationId": "n1" }));
    read.expect_refusal("unauthenticated", "Authentication error");
    someone.emit_bare("notifications:list").expect_refusal("unauthenticated", "Authentication error");
    assert!(someone.rooms().is_empty());
}

#[test]
fn a_repeated_message_is_one_notification() {
    let app = Harness::<Notifications>::new();
    let again = app.inside(|| {
        let content = || crate::log::Content { kind: "k".into(), title: "t".into(), message: "m".into(), link: None };
        let log = crate::log::Log::of_user(None, "ana");
        let first = log.append("n1", 0, content()).expect("the store answers");
        (first.is_some(), log.append("n1", 0, content()).expect("the store answers").is_some())
    });
    assert_eq!(again, (true, false));
}

#[test]
fn equal_ids_of_two_tenants_have_two_inboxes_and_subscriptions() {
    let app = Harness::<Notifications>::new();
    let [acme, other] = ["acme", "other"].map(|tenant| app.connect("/", user("ana").tenant(tenant)));
    let bare = app.connect("/", user("ana"));
    app.publish_for("acme", "notification.created", json!({ "userId": "ana", "title": "for acme" }));
    app.publish_for("acme", "channel.notification", json!({ "userId": "ana", "title": "also" }));
    assert_eq!(acme.received("notification").len(), 2);
    acme.emit("notifications:subscribe", json!({ "channelId": "c1" })).expect_ok();
    app.publish("channel.notification", json!({ "channelId": "c1", "title": "the channel is shared" }));
    assert_eq!(acme.received("notification").len(), 1);
    for client in [&other, &bare] {
        assert_eq!(client.emit("notifications:list", json!({})).ack(), json!({ "notifications": [], "unreadCount": 0 }));
        assert!(client.received("notification").is_empty() && client.rooms().is_empty());
    }
    assert_eq!(acme.emit("notifications:list", json!({})).ack()["unreadCount"], json!(3));
}

#[test]
fn a_companys_notification_is_stored_once_for_both_namespaces() {
    let app = Harness::<Notifications>::new();
    let ana = || user("ana").claim("userId", "ana").claim("companyId", "acme");
    let (desk, crm) = (app.connect("/", ana()), app.connect("/notifications", ana()));
    app.publish("notification.created", json!({ "userId": "ana", "companyId": "acme", "title": "t" }));
    let id = crm.expect_any("notification:new")["id"].clone();
    assert_eq!(desk.expect_any("notification:new")["id"], id);
    crm.emit("notification:read", id).expect_ok();
    assert_eq!(desk.emit("notifications:list", json!({})).ack()["unreadCount"], json!(0));
}
