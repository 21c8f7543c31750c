//! The count of viewers, and a user's position on other devices.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, Identity, user, visitor};
use serde_json::json;

use crate::Video;

fn watch(app: &Harness<Video>, who: impl Into<Identity>) -> Client<Video> {
    let client = app.connect("/", who);
    client.emit("video:join", json!({ "videoId": "v1" })).expect_ok();
    client
}

#[test]
fn a_join_gets_the_count_at_once_and_the_room_twice_a_second() {
    let app = Harness::<Video>::new();
    let ana = watch(&app, user("ana"));
    assert_eq!(ana.rooms(), ["video:v1"]);
    assert_eq!(ana.received("video:viewers"), [json!({ "videoId": "v1", "count": 1 }), json!({ "videoId": "v1", "count": 1 })]);
    let _phone = watch(&app, user("ana"));
    let guest = watch(&app, visitor());
    guest.expect("video:viewers", json!({ "videoId": "v1", "count": 2 }));
    ana.expect_nothing();
    app.advance(Duration::from_millis(500));
    ana.expect("video:viewers", json!({ "videoId": "v1", "count": 2 }));
    guest.emit("video:leave", json!({ "videoId": "v1" })).expect_ok();
    app.advance(Duration::from_millis(500));
    ana.expect("video:viewers", json!({ "videoId": "v1", "count": 1 }));
    ana.expect_nothing();
}

#[test]
fn a_disconnected_client_is_not_counted() {
    let app = Harness::<Video>::new();
    let (ana, ben) = (watch(&app, user("ana")), watch(&app, user("ben")));
    app.advance(Duration::from_secs(1));
    ana.forget();
    ben.disconnect();
    ana.expect("video:viewers", json!({ "videoId": "v1", "count": 1 }));
}

#[test]
fn progress_reaches_the_users_other_devices_unchanged() {
    let app = Harness::<Video>::new();
    let [laptop, phone] = [(); 2].map(|()| app.connect("/", user("ana")));
    let (ben, guest) = (app.connect("/", user("ben")), app.connect("/", visitor()));
    for timestamp in [json!(45), json!(45.5)] {
        laptop.emit("video:progress", json!({ "videoId": "v1", "timestamp": timestamp })).expect_ok();
        phone.expect("video:sync", json!({ "videoId": "v1", "timestamp": timestamp }));
    }
    for client in [&laptop, &ben, &guest] {
        client.expect_nothing();
    }
    assert!(app.keys("").is_empty());
}

#[test]
fn a_visitors_progress_is_not_sent() {
    let app = Harness::<Video>::new();
    let [guest, other] = [(); 2].map(|()| app.connect("/", visitor()));
    guest.emit("video:progress", json!({ "videoId": "v1", "timestamp": 1 })).expect_ok();
    other.expect_nothing();
}

#[test]
fn a_wrong_payload_is_refused_with_its_field() {
    let app = Harness::<Video>::new();
    let ana = app.connect("/", user("ana"));
    ana.emit("video:join", json!({})).expect_refusal("invalid", "videoId: missing");
    ana.emit("video:leave", json!({ "videoId": "" })).expect_refusal("invalid", "videoId: must be an id of 1 to 128 bytes");
    ana.emit("video:progress", json!({ "videoId": "v1" })).expect_refusal("invalid", "timestamp: missing");
}

#[test]
fn equal_ids_of_two_tenants_are_two_viewers() {
    let app = Harness::<Video>::new();
    let [acme, phone, other] = ["acme", "acme", "other"].map(|tenant| watch(&app, user("ana").tenant(tenant)));
    app.advance(Duration::from_secs(1));
    assert_eq!(other.received("video:viewers").pop(), Some(json!({ "videoId": "v1", "count": 2 })));
    acme.emit("video:progress", json!({ "videoId": "v1", "timestamp": 7 })).expect_ok();
    assert_eq!(phone.received("video:sync"), [json!({ "videoId": "v1", "timestamp": 7 })]);
    assert!(other.received("video:sync").is_empty());
}
