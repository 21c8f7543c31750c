//! The attendants' presence: each event, over devices, silence and reconnects.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Presence;

const START: &str = "2025-01-01T00:00:00.000Z";

/// A connected attendant, without its first events.
fn watch(app: &Harness<Presence>) -> Client<Presence> {
    let watcher = app.connect("/hub", user("eve").name("Eve"));
    watcher.forget();
    watcher
}

fn attendant(id: &str, name: &str, status: &str, at: &str) -> Value {
    json!({ "userId": id, "name": name, "status": status, "at": at })
}

/// Moves the clock, with heartbeats of the clients.
fn wait(app: &Harness<Presence>, clients: &[&Client<Presence>], seconds: u64) {
    for _ in 0..seconds / 30 {
        app.advance(Duration::from_secs(30));
        clients.iter().for_each(|client| client.emit_bare("heartbeat").expect_ok());
    }
}

#[test]
fn a_connected_attendant_is_online_and_in_the_room() {
    let app = Harness::<Presence>::new();
    let eve = watch(&app);
    let ana = app.connect("/hub", user("ana").name("Ana"));
    assert_eq!(ana.rooms(), ["presence:attendants"]);
    eve.expect("attendant:online", attendant("ana", "Ana", "online", START));
    eve.expect_nothing();
}

#[test]
fn an_attendant_is_away_until_presence_online() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (watch(&app), app.connect("/hub", user("ana")));
    eve.forget();
    ana.emit_bare("presence:away").expect_ok();
    eve.expect("attendant:away", attendant("ana", "ana", "away", START));
    ana.emit_bare("heartbeat").expect_ok();
    ana.emit_bare("presence:away").expect_ok();
    eve.expect_nothing();
    ana.emit_bare("presence:online").expect_ok();
    eve.expect("attendant:online", attendant("ana", "ana", "online", START));
}

#[test]
fn an_attendant_without_heartbeats_is_away_after_90_seconds() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (watch(&app), app.connect("/hub", user("ana")));
    eve.forget();
    wait(&app, &[&eve], 90);
    eve.expect("attendant:away", attendant("ana", "ana", "away", "2025-01-01T00:01:30.000Z"));
    ana.emit_bare("heartbeat").expect_ok();
    eve.expect("attendant:online", attendant("ana", "ana", "online", "2025-01-01T00:01:30.000Z"));
    wait(&app, &[&eve, &ana], 300);
    eve.expect_nothing();
}

#[test]
fn a_reconnect_within_a_minute_sends_nothing() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (watch(&app), app.connect("/hub", user("ana")));
    eve.forget();
    ana.break_connection();
    wait(&app, &[&eve], 30);
    let ana = app.connect("/hub", user("ana"));
    wait(&app, &[&eve, &ana], 120);
    eve.expect_nothing();
    ana.break_connection();
    wait(&app, &[&eve], 60);
    eve.expect("attendant:offline", attendant("ana", "ana", "offline", "2025-01-01T00:03:30.000Z"));
}

#[test]
fn a_clean_disconnect_is_offline_at_once() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (watch(&app), app.connect("/hub", user("ana")));
    let phone = app.connect("/hub", user("ana"));
    eve.forget();
    ana.disconnect();
    eve.expect_nothing();
    phone.disconnect();
    eve.expect("attendant:offline", attendant("ana", "ana", "offline", START));
}

#[test]
fn an_away_attendant_stays_away_after_a_reconnect() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (watch(&app), app.connect("/hub", user("ana")));
    let _neighbours = ["an", "amz", "ana0", "anb"].map(|id| app.connect("/hub", user(id)));
    ana.emit_bare("presence:away").expect_ok();
    eve.forget();
    ana.break_connection();
    let ana = app.connect("/hub", user("ana"));
    let phone = app.connect("/hub", user("ana"));
    eve.expect_nothing();
    phone.emit_bare("presence:online").expect_ok();
    eve.expect("attendant:online", attendant("ana", "ana", "online", START));
    ana.emit_bare("presence:away").expect_ok();
    phone.disconnect();
    eve.expect("attendant:away", attendant("ana", "ana", "away", START));
    ana.disconnect();
    let _ana = app.connect("/hub", user("ana"));
    eve.expect_any("attendant:offline");
    assert_eq!(eve.expect_any("attendant:online")["userId"], "ana", "away ends with the presence");
}

#[test]
fn an_attendant_is_online_while_any_device_is() {
    let app = Harness::<Presence>::new();
    let (eve, ana) = (watch(&app), app.connect("/hub", user("ana")));
    let phone = app.connect("/hub", user("ana"));
    assert_eq!(eve.received("attendant:online").len(), 1);
    phone.emit_bare("presence:away").expect_ok();
    ana.disconnect();
    eve.expect("attendant:away", attendant("ana", "ana", "away", START));
    eve.expect_nothing();
    phone.disconnect();
    eve.expect_any("attendant:offline");
    eve.expect_nothing();
}

#[test]
fn the_list_has_the_status_and_time_of_each_attendant() {
    let app = Harness::<Presence>::new();
    let ana = app.connect("/hub", user("ana").name("Ana"));
    app.advance(Duration::from_secs(10));
    let ben = app.connect("/hub", user("ben").name("Ben"));
    app.advance(Duration::from_secs(10));
    ben.emit_bare("presence:away").expect_ok();
    ana.emit_bare("presence:list").expect_reply(json!({ "attendants": [
        { "userId": "ana", "name": "Ana", "status": "online", "since": START },
        { "userId": "ben", "name": "Ben", "status": "away", "since": "2025-01-01T00:00:20.000Z" },
    ] }));
}

#[test]
fn the_list_is_read_in_pages() {
    let app = Harness::<Presence>::new();
    let clients: Vec<_> = (0..super::PAGE + 1).map(|n| app.connect("/hub", user(&format!("u{n:04}")))).collect();
    let list = clients[0].emit_bare("presence:list").ack();
    let ids: Vec<&str> = list["attendants"].as_array().into_iter().flatten().filter_map(|one| one["userId"].as_str()).collect();
    assert_eq!((ids.len(), ids[0], ids[500]), (501, "u0000", "u0500"));
}

#[test]
fn a_long_name_is_cut() {
    let app = Harness::<Presence>::new();
    let eve = watch(&app);
    let _ana = app.connect("/hub", user("ana").name(&"é".repeat(5000)));
    assert_eq!(eve.expect_any("attendant:online")["name"], json!("é".repeat(100)));
}

#[test]
fn nothing_is_stored_or_published() {
    let app = Harness::<Presence>::new();
    let ana = watch(&app);
    ana.emit_bare("presence:away").expect_ok();
    ana.emit_bare("heartbeat").expect_ok();
    assert!(app.keys("").is_empty() && app.published("presence.changed").is_empty());
}

#[test]
fn attendants_of_two_tenants_never_meet() {
    let app = Harness::<Presence>::new();
    let [acme, other] = ["acme", "other"].map(|tenant| app.connect("/hub", user("ana").tenant(tenant)));
    for client in [&acme, &other] {
        assert_eq!(client.received("attendant:online").len(), 1);
    }
    acme.emit_bare("presence:away").expect_ok();
    assert_eq!((acme.received("attendant:away").len(), other.received("attendant:away").len()), (1, 0));
    let status = |client: &Client<Presence>| client.emit_bare("presence:list").ack()["attendants"][0]["status"].clone();
    assert_eq!([status(&acme), status(&other)], [json!("away"), json!("online")]);
}
