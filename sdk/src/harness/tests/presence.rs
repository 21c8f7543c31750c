//! Presence on the test's clock: away, grace, several devices.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    DisconnectReason, Result, User,
    emitter::Emits,
    harness::{Client, Harness, user},
    plugin,
    presence::{self, Changed, Member, Status},
    rooms::Room,
};

const EVERYONE: Room = Room::new("/hub", "everyone");

#[derive(Default)]
struct Desk;

#[derive(Serialize, schemars::JsonSchema)]
struct Seen {
    user: String,
    from: String,
    to: String,
}

const SEEN: Emits<Seen> = Emits::new("/hub", "seen");

#[plugin(name = "desk", version = "1.0.0")]
#[door("/hub", token = "required")]
#[rooms(EVERYONE)]
#[emits(SEEN)]
impl Desk {
    #[on_connect]
    fn enter(user: &User) -> Result<()> {
        EVERYONE.join()?;
        presence::track("staff", &user.id, Status::Online, &user.name)
    }

    #[on("heartbeat")]
    fn heartbeat() -> Result<()> {
        presence::heartbeat()
    }

    #[on("away")]
    fn away(user: &User) -> Result<()> {
        presence::track("staff", &user.id, Status::Away, &"away")
    }

    #[on("bye")]
    fn bye(user: &User) -> Result<u64> {
        presence::untrack("staff", &user.id)?;
        presence::count("staff")
    }

    #[on("list")]
    fn list(after: Option<String>) -> Result<Vec<(String, Value)>> {
        let members = presence::list::<Value>("staff", &after.unwrap_or_default(), 10)?;
        Ok(members.into_iter().map(|Member { key, meta, .. }| (key, meta)).collect())
    }

    #[on_message("presence.changed")]
    fn changed(change: Changed<Value>) -> Result<()> {
        let word =
            |status| serde_json::to_value(status).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        let seen = Seen { user: change.key, from: word(change.from), to: word(change.to) };
        SEEN.to_room(&EVERYONE, &seen)
    }
}

/// The changes of status that a client has received, as `user: from → to`.
fn seen(client: &Client<Desk>) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let line = |change: Value| format!("{}: {} → {}", text(&change, "user"), text(&change, "from"), text(&change, "to"));
    client.received("seen").into_iter().map(line).collect()
}

/// Two connected clients, Ana and Ben.
fn two() -> (Harness<Desk>, Client<Desk>, Client<Desk>) {
    let app = Harness::<Desk>::new();
    let ana = app.connect("/hub", user("ana").name("Ana"));
    let ben = app.connect("/hub", user("ben").name("Ben"));
    assert_eq!(seen(&ana), ["ana: offline → online", "ben: offline → online"]);
    (app, ana, ben)
}

/// Moves the clock, with heartbeats of Ana.
fn pass(app: &Harness<Desk>, ana: &Client<Desk>, secs: u64) {
    for _ in 0..secs / 10 {
        app.advance(Duration::from_secs(10));
        ana.emit_bare("heartbeat").expect_ok();
    }
}

#[test]
fn a_client_without_heartbeats_for_90_seconds_is_away_until_the_next() {
    let (app, ana, ben) = two();
    pass(&app, &ana, 80);
    assert!(seen(&ana).is_empty());
    pass(&app, &ana, 10);
    assert_eq!(seen(&ana), ["ben: online → away"]);
    ben.emit_bare("heartbeat").expect_ok();
    assert_eq!(seen(&ana), ["ben: away → online"]);
}

#[test]
fn a_heartbeat_does_not_end_an_away_that_was_tracked() {
    let (_, ana, ben) = two();
    ben.emit_bare("away").expect_ok();
    ben.emit_bare("heartbeat").expect_ok();
    assert_eq!(seen(&ana), ["ben: online → away"]);
    ana.emit_bare("list").expect_ack(json!([["ana", "Ana"], ["ben", "away"]]));
    ana.emit("list", json!("ana")).expect_ack(json!([["ben", "away"]]));
}

#[test]
fn a_reconnect_within_60_seconds_is_no_change() {
    let (app, ana, ben) = two();
    ben.break_connection();
    pass(&app, &ana, 50);
    let ben = app.connect("/hub", user("ben").name("Ben"));
    pass(&app, &ana, 60);
    assert!(seen(&ana).is_empty());
    ben.disconnect_because(DisconnectReason::Server);
    pass(&app, &ana, 50);
    assert!(seen(&ana).is_empty());
    pass(&app, &ana, 10);
    assert_eq!(seen(&ana), ["ben: online → offline"]);
}

#[test]
fn a_clean_disconnect_of_the_last_device_is_offline_at_once() {
    let (app, ana, ben) = two();
    let phone = app.connect("/hub", user("ben"));
    ben.disconnect();
    assert!(seen(&ana).is_empty());
    phone.break_connection();
    // The reconnect ends the grace period of the phone.
    let phone = app.connect("/hub", user("ben"));
    phone.disconnect();
    assert_eq!(seen(&ana), ["ben: online → offline"]);
}

#[test]
fn a_clean_disconnect_does_not_end_the_grace_of_another_device() {
    let (app, ana, ben) = two();
    let phone = app.connect("/hub", user("ben"));
    phone.break_connection();
    pass(&app, &ana, 20);
    ben.disconnect();
    pass(&app, &ana, 30);
    assert!(seen(&ana).is_empty());
    pass(&app, &ana, 10);
    assert_eq!(seen(&ana), ["ben: online → offline"]);
}

#[test]
fn a_user_is_online_while_one_device_is_and_offline_without_any() {
    let (app, ana, ben) = two();
    let phone = app.connect("/hub", user("ben"));
    phone.emit_bare("away").expect_ok();
    assert!(seen(&ana).is_empty());
    ben.emit_bare("away").expect_ok();
    assert_eq!(seen(&ana), ["ben: online → away"]);
    ben.emit_bare("bye").expect_ack(json!(2));
    phone.emit_bare("bye").expect_ack(json!(1));
    assert_eq!(seen(&ana), ["ben: away → offline"]);
}
