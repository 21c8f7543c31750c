//! The metrics for administrators, and the door policy of `/admin`.

use hubbub_sdk::harness::{Harness, user, visitor};
use serde_json::json;

use crate::Analytics;

#[test]
fn metrics_reach_the_dashboards_with_exactly_these_keys() {
    let app = Harness::<Analytics>::new();
    let ana = app.connect("/admin", user("ana").role("ADMIN"));
    assert_eq!(ana.rooms(), ["admin:dashboard"]);
    let plugin = json!({ "name": "chat", "version": "0.1.0", "events": 12, "errors": 1, "p99Ms": 0.5 });
    let figures = json!({
        "connections": 3, "rooms": 2, "eventsPerSecond": 1.5, "plugins": [plugin], "at": "2025-01-01T00:00:00.000Z",
    });
    let mut published = figures.clone();
    published["more"] = json!(1);
    app.publish("host.figures", published);
    ana.expect("metrics", figures);
    ana.expect_nothing();
}

#[test]
fn metrics_without_a_dashboard_are_not_sent() {
    let app = Harness::<Analytics>::new();
    app.publish(
        "host.figures",
        json!({ "connections": 0, "rooms": 0, "eventsPerSecond": 0, "plugins": [], "at": "2025-01-01T00:00:00.000Z" }),
    );
    assert!(app.keys("").is_empty());
}

#[test]
fn only_administrators_connect() {
    let app = Harness::<Analytics>::new();
    let refusal = |who| app.try_connect("/admin", who).err();
    assert_eq!(refusal(visitor()).as_deref(), Some("Authentication error"));
    assert_eq!(refusal(user("ana")).as_deref(), Some("Admins only"));
    assert_eq!(refusal(user("ana").role("ATTENDANT")).as_deref(), Some("Admins only"));
    let doors = app.description().namespaces.into_iter().filter(|place| place.path == "/admin").filter_map(|place| place.door);
    assert_eq!(doors.map(|door| door.invalid).collect::<Vec<_>>(), ["Invalid token"]);
}
