//! A company's notifications: each event, each refusal's sentence, and that companies stay apart.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, Identity, user, visitor};
use serde_json::{Value, json};

use crate::Notifications;

fn member(company: &str, id: &str) -> Identity {
    user(id).claim("userId", id).claim("companyId", company)
}

fn connect(app: &Harness<Notifications>, company: &str, id: &str) -> Client<Notifications> {
    app.connect("/notifications", member(company, id))
}

fn notify(app: &Harness<Notifications>, company: &str, id: &str, title: &str) {
    let texts = json!({ "companyId": company, "userId": id, "type": "LEAD", "title": title, "message": "m", "link": "/l" });
    app.publish("notification.created", texts);
}

/// A member with this many notifications, and their ids from the oldest.
fn with(count: usize) -> (Harness<Notifications>, Client<Notifications>, Vec<Value>) {
    let app = Harness::<Notifications>::new();
    let ana = connect(&app, "acme", "ana");
    (1..=count).for_each(|n| notify(&app, "acme", "ana", &n.to_string()));
    let ids = ana.received("notification:new").into_iter().map(|new| new["id"].clone()).collect();
    (app, ana, ids)
}

fn list(client: &Client<Notifications>, asked: Value) -> (Vec<Value>, Value) {
    let page = client.emit("notification:list", asked).ack();
    assert_eq!(page.as_object().map(|page| page.len()), Some(2));
    let titles = page["notifications"].as_array().expect("a page").iter().map(|one| one["title"].clone()).collect();
    (titles, page["unreadCount"].clone())
}

#[test]
fn a_token_without_a_user_or_a_company_is_refused() {
    let app = Harness::<Notifications>::new();
    let refused = |who: Identity| app.try_connect("/notifications", who).map(drop);
    assert_eq!(refused(visitor()), Err("Authentication required".into()));
    assert_eq!(refused(user("ana").claim("userId", "ana")), Err("Invalid or expired token".into()));
    assert_eq!(refused(user("ana").claim("companyId", "acme")), Err("Invalid or expired token".into()));
    assert_eq!(connect(&app, "acme", "ana").rooms(), ["company:acme"]);
}

#[test]
fn a_notification_reaches_every_device_of_the_member() {
    let app = Harness::<Notifications>::new();
    let (desk, phone, ben) = (connect(&app, "acme", "ana"), connect(&app, "acme", "ana"), connect(&app, "acme", "ben"));
    notify(&app, "acme", "ana", "A lead");
    let new = desk.expect_any("notification:new");
    let expected = json!({
        "id": new["id"], "type": "LEAD", "title": "A lead", "message": "m", "link": "/l",
        "createdAt": "2025-01-01T00:00:00.000Z",
    });
    assert_eq!(new, expected);
    phone.expect("notification:new", new);
    ben.expect_nothing();
}

#[test]
fn equal_ids_of_two_companies_have_two_inboxes() {
    let app = Harness::<Notifications>::new();
    let (ours, theirs) = (connect(&app, "acme", "7"), connect(&app, "bolt", "7"));
    let everyone = app.connect("/", user("7"));
    app.publish("notification.created", json!({ "companyId": "acme", "userId": 7, "title": "ours" }));
    let id = ours.expect_any("notification:new")["id"].clone();
    theirs.emit("notification:read", id.clone()).expect_refusal("not_found", "Notification not found");
    theirs.emit("notification:list", json!({ "before": id })).expect_refusal("not_found", "Notification not found");
    theirs.emit_bare("notification:all_read").expect_ok();
    theirs.expect("notification:all_read", json!({}));
    assert_eq!(list(&theirs, json!({})), (vec![], json!(0)));
    assert_eq!(list(&ours, json!({})).1, 1);
    ours.forget();
    ours.expect_nothing();
    everyone.emit("notifications:list", json!({})).expect_reply(json!({ "notifications": [], "unreadCount": 0 }));
    everyone.expect_nothing();
}

#[test]
fn ids_with_a_separator_never_name_another_inbox() {
    let app = Harness::<Notifications>::new();
    let (one, other) = (connect(&app, "a/b", "c"), connect(&app, "a", "b/c"));
    notify(&app, "a", "b/c", "hers");
    one.expect_nothing();
    other.expect_any("notification:new");
    assert_eq!(list(&one, json!({})), (vec![], json!(0)));
}

#[test]
fn a_message_of_a_tenant_belongs_to_its_company() {
    let app = Harness::<Notifications>::new();
    let (ana, everyone) = (connect(&app, "acme", "ana"), app.connect("/", user("ana")));
    app.publish_for("acme", "notification.created", json!({ "userId": "ana", "title": "t" }));
    let new = ana.expect_any("notification:new");
    assert_eq!((&new["type"], &new["title"], &new["message"], new.get("link")), (&json!(""), &json!("t"), &json!(""), None));
    everyone.expect_nothing();
}

#[test]
fn reading_is_stored_with_its_time_and_sent_to_every_device() {
    let (app, ana, ids) = with(2);
    let phone = connect(&app, "acme", "ana");
    app.advance(Duration::from_secs(5));
    ana.emit("notification:read", ids[0].clone()).expect_ok();
    for client in [&ana, &phone] {
        client.expect("notification:read", json!({ "id": ids[0] }));
        client.expect_nothing();
    }
    app.advance(Duration::from_secs(5));
    ana.emit("notification:read", ids[0].clone()).expect_ok();
    phone.expect("notification:read", json!({ "id": ids[0] }));
    let page = phone.emit("notification:list", json!({})).ack();
    let expected = json!({
        "id": ids[0], "type": "LEAD", "title": "1", "message": "m", "link": "/l", "createdAt": "2025-01-01T00:00:00.000Z",
        "read": true, "readAt": "2025-01-01T00:00:05.000Z",
    });
    assert_eq!((&page["notifications"][1], &page["unreadCount"]), (&expected, &json!(1)));
    assert_eq!((&page["notifications"][0]["read"], page["notifications"][0].get("readAt")), (&json!(false), None));
}

#[test]
fn an_array_confirms_each_own_id() {
    let (app, ana, ids) = with(3);
    let ben = connect(&app, "acme", "ben");
    notify(&app, "acme", "ben", "his");
    let his = ben.expect_any("notification:new")["id"].clone();
    ana.emit("notification:read", json!([ids[1], his, "unknown", ids[0], ids[1]])).expect_ok();
    assert_eq!(ana.received("notification:read"), [json!({ "id": ids[1] }), json!({ "id": ids[0] })]);
    for foreign in [his.clone(), json!([his, "unknown"]), json!("x/../y"), json!("/".repeat(128))] {
        ana.emit("notification:read", foreign).expect_refusal("not_found", "Notification not found");
    }
    ana.emit("notification:read", json!([])).expect_ok();
    ana.expect_nothing();
    ben.expect_nothing();
    assert_eq!((list(&ana, json!({})).1, list(&ben, json!({})).1), (json!(1), json!(1)));
}

#[test]
fn a_wrong_id_is_refused_with_the_events_sentence() {
    let (_, ana, _) = with(0);
    for wrong in [json!({ "id": "n1" }), json!(true), json!(["n1", {}])] {
        ana.emit("notification:read", wrong).expect_refusal("invalid", "Invalid notification id");
    }
    ana.emit_bare("notification:read").expect_refusal("invalid", "Invalid notification id");
    ana.emit("notification:read", json!(vec!["n"; 1001])).expect_refusal("too_large", "Too many notifications");
}

#[test]
fn one_event_reads_a_whole_inbox() {
    let (_, ana, ids) = with(450);
    ana.emit("notification:read", json!(ids)).expect_ok();
    let confirmed: Vec<Value> = ana.received("notification:read").into_iter().map(|read| read["id"].clone()).collect();
    assert_eq!(confirmed, ids);
    assert_eq!(list(&ana, json!({ "unreadOnly": true })), (vec![], json!(0)));
}

#[test]
fn all_read_is_sent_to_every_device_and_later_ones_are_unread() {
    let (app, ana, ids) = with(3);
    let phone = connect(&app, "acme", "ana");
    ana.emit("notification:read", ids[1].clone()).expect_ok();
    app.advance(Duration::from_secs(1));
    phone.emit_bare("notification:all_read").expect_ok();
    ana.expect("notification:all_read", json!({}));
    phone.expect("notification:all_read", json!({}));
    notify(&app, "acme", "ana", "4");
    app.advance(Duration::from_secs(1));
    phone.emit_bare("notification:all_read").expect_ok();
    notify(&app, "acme", "ana", "5");
    assert_eq!(list(&ana, json!({ "unreadOnly": true })), (vec![json!("5")], json!(1)));
    let page = ana.emit("notification:list", json!({})).ack();
    let times = page["notifications"].as_array().expect("a page").iter().map(|one| one["readAt"].clone());
    let at = |second: u8| json!(format!("2025-01-01T00:00:0{second}.000Z"));
    assert_eq!(times.collect::<Vec<_>>(), [Value::Null, at(2), at(1), at(0), at(1)]);
}

#[test]
fn pages_run_from_the_newest_notification_to_the_first() {
    let (_, ana, ids) = with(7);
    let titles = |titles: &[&str]| titles.iter().map(|title| json!(title)).collect::<Vec<_>>();
    assert_eq!(list(&ana, json!({ "limit": 3 })), (titles(&["7", "6", "5"]), json!(7)));
    assert_eq!(list(&ana, json!({ "limit": 3, "before": ids[4] })), (titles(&["4", "3", "2"]), json!(7)));
    assert_eq!(list(&ana, json!({ "limit": 3, "before": ids[1] })), (titles(&["1"]), json!(7)));
    ana.emit("notification:read", json!([ids[1], ids[5]])).expect_ok();
    let unread = json!({ "unreadOnly": true, "limit": 3, "before": ids[6] });
    assert_eq!(list(&ana, unread), (titles(&["5", "4", "3"]), json!(5)));
    assert_eq!(ana.emit_bare("notification:list").ack()["unreadCount"], 5);
    ana.emit("notification:list", json!({ "before": "unknown" })).expect_refusal("not_found", "Notification not found");
}

#[test]
fn a_page_has_at_most_100_and_50_by_default() {
    let (_, ana, _) = with(102);
    let count = |asked: Value| list(&ana, asked).0.len();
    assert_eq!((count(json!({})), count(json!({ "limit": 1000 })), count(json!({ "limit": 0 }))), (50, 100, 1));
}

#[test]
fn an_inbox_holds_the_newest_1000() {
    let (app, ana, ids) = with(1000);
    ana.emit("notification:read", json!([ids[0], ids[1], ids[999]])).expect_ok();
    assert_eq!(list(&ana, json!({})).1, 997);
    notify(&app, "acme", "ana", "1001");
    assert_eq!(list(&ana, json!({})).1, 998);
    (1002..=1004).for_each(|n| notify(&app, "acme", "ana", &n.to_string()));
    assert_eq!(list(&ana, json!({})).1, 999);
    assert_eq!((app.keys("items/").len(), app.keys("places/").len()), (1000, 1000));
    ana.emit("notification:read", ids[0].clone()).expect_refusal("not_found", "Notification not found");
}

#[test]
fn each_event_has_its_own_sentence_while_storage_fails() {
    let (app, ana, ids) = with(1);
    app.storage_answers(false);
    ana.emit("notification:read", ids[0].clone()).expect_refusal("unavailable", "Failed to mark as read");
    ana.emit_bare("notification:all_read").expect_refusal("unavailable", "Failed");
    ana.expect_nothing();
    app.storage_answers(true);
    assert_eq!(list(&ana, json!({})).1, 1);
}

#[test]
fn a_notification_over_4_kib_fails_its_message() {
    let (app, ana, _) = with(0);
    let long = json!({ "companyId": "acme", "userId": "ana", "message": "é".repeat(2100) });
    assert_eq!(app.try_publish("notification.created", long), Err("A notification has at most 4096 bytes".into()));
    ana.expect_nothing();
}
