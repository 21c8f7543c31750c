//! Presence with a manual clock: devices, grace period, heartbeats.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::Moment;
use crate::names::{PluginName, SocketId};

struct World {
    presences: Presences,
    /// By the steady clock.
    now: u64,
    wall: u64,
}

impl World {
    fn new() -> Self {
        Self { presences: Presences::new(Config::default()), now: 1_000_000, wall: 5_000_000 }
    }

    fn track(&mut self, socket: SocketId, status: Status) {
        let plugin = PluginName::parse("p").unwrap();
        let track = Track {
            socket,
            plugin,
            tenant: None,
            group: "g".into(),
            key: "ana".into(),
            status,
            meta: "{}".into(),
            user: Some("ana".into()),
        };
        assert!(self.presences.track(track, self.now));
    }

    /// Disconnects cleanly, and waits until that counts.
    fn leave(&mut self, socket: SocketId) {
        self.presences.disconnected(socket, Ended::Clean, self.now);
        self.now += SETTLE_MS;
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds * 1000;
        self.wall += seconds * 1000;
        self
    }

    fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall, steady_ms: self.now }
    }

    /// The changes, each as `from>to`.
    fn changes(&mut self) -> Vec<String> {
        let name = |status: Option<&'static str>| status.unwrap_or("offline");
        let changes = self.presences.changes(self.moment(), 100, true);
        let changed = changes.into_iter().filter(|change| change.from != change.to);
        changed.map(|change| format!("{}>{}", name(change.from), name(change.to))).collect()
    }
}

#[test]
fn two_devices_are_one_presence() {
    let mut world = World::new();
    world.track(1, Status::Online);
    assert_eq!(world.changes(), ["offline>online"]);
    world.track(2, Status::Online);
    assert!(world.changes().is_empty());
    world.presences.disconnected(1, Ended::Broken, world.now);
    assert!(world.wait(70).changes().is_empty());
    world.presences.disconnected(2, Ended::Broken, world.now);
    assert!(world.wait(59).changes().is_empty());
    assert_eq!(world.wait(1).changes(), ["online>offline"]);
    assert!(world.wait(1000).changes().is_empty());
}

#[test]
fn a_reconnect_within_the_grace_period_is_no_change() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    world.presences.disconnected(1, Ended::Broken, world.now);
    world.wait(59);
    world.track(2, Status::Online);
    assert!(world.wait(60).changes().is_empty());
}

#[test]
fn a_clean_disconnect_of_the_last_device_sets_the_user_offline_at_once() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.track(2, Status::Online);
    world.changes();
    world.leave(1);
    assert!(world.changes().is_empty());
    world.leave(2);
    assert_eq!(world.changes(), ["online>offline"]);
}

#[test]
fn connecting_one_device_while_another_disconnects_is_no_change() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    world.presences.disconnected(1, Ended::Clean, world.now);
    world.now += SETTLE_MS - 1;
    assert!(world.changes().is_empty());
    world.track(2, Status::Online);
    assert!(world.wait(1).changes().is_empty());
}

#[test]
fn a_clean_disconnect_keeps_the_grace_of_another_device() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.track(2, Status::Online);
    world.changes();
    world.presences.disconnected(1, Ended::Broken, world.now);
    world.wait(20);
    world.presences.disconnected(2, Ended::Clean, world.now);
    assert!(world.wait(39).changes().is_empty());
    assert_eq!(world.wait(1).changes(), ["online>offline"]);
}

#[test]
fn a_reconnect_ends_the_grace_of_one_broken_connection() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.track(2, Status::Online);
    world.changes();
    world.presences.disconnected(1, Ended::Broken, world.now);
    world.wait(10);
    world.presences.disconnected(2, Ended::Broken, world.now);
    world.track(3, Status::Online);
    world.presences.disconnected(3, Ended::Clean, world.now);
    assert!(world.wait(59).changes().is_empty(), "the second connection may still reconnect");
    assert_eq!(world.wait(1).changes(), ["online>offline"]);

    world.track(4, Status::Online);
    world.changes();
    world.presences.disconnected(4, Ended::Broken, world.now);
    world.track(5, Status::Online);
    world.leave(5);
    assert_eq!(world.changes(), ["online>offline"]);
}

#[test]
fn a_broken_connection_keeps_its_status_beside_an_away_device() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.track(2, Status::Away);
    world.changes();
    world.presences.disconnected(1, Ended::Broken, world.now);
    assert!(world.wait(59).changes().is_empty());
    assert_eq!(world.wait(1).changes(), ["online>away"]);
}

#[test]
fn a_wait_for_a_reconnect_is_reported_once() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    world.presences.disconnected(1, Ended::Broken, world.now);
    let waits = |world: &World| world.presences.changes(world.moment(), 100, true).iter().map(|c| c.waits).collect::<Vec<_>>();
    assert_eq!(waits(&world), [true]);
    assert!(waits(&world).is_empty());
    world.track(2, Status::Online);
    assert_eq!(waits(&world), [false]);
}

#[test]
fn a_key_without_a_heartbeat_is_away_until_the_next() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    assert!(world.wait(89).changes().is_empty());
    assert_eq!(world.wait(1).changes(), ["online>away"]);
    world.presences.heartbeat(1, world.now);
    assert_eq!(world.changes(), ["away>online"]);
}

#[test]
fn a_requested_away_status_is_kept_after_a_heartbeat() {
    let mut world = World::new();
    world.track(1, Status::Away);
    assert_eq!(world.changes(), ["offline>away"]);
    world.presences.heartbeat(1, world.now);
    assert!(world.changes().is_empty());
}

#[test]
fn untracking_has_no_grace_period() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    let plugin = PluginName::parse("p").unwrap();
    world.presences.untrack(1, &plugin, None, "g", "ana");
    assert_eq!(world.changes(), ["online>offline"]);
}

#[test]
fn changes_past_the_limit_wait_for_the_next_call() {
    let mut world = World::new();
    let plugin = PluginName::parse("p").unwrap();
    for key in ["a", "b", "c"] {
        let track = Track {
            socket: 1,
            plugin: plugin.clone(),
            tenant: None,
            group: "g".into(),
            key: key.into(),
            status: Status::Online,
            meta: "{}".into(),
            user: Some("ana".into()),
        };
        world.presences.track(track, world.now);
    }
    assert_eq!(world.presences.of("ana"), (3, 0));
    assert_eq!(world.presences.changes(world.moment(), 2, false).len(), 2);
    assert_eq!(world.presences.changes(world.moment(), 2, false).len(), 1);
    world.presences.untrack(1, &plugin, None, "g", "b");
    world.changes();
    assert_eq!(world.presences.of("ana"), (2, 0));
}

#[test]
fn setting_the_wall_clock_changes_no_status() {
    const HOUR: u64 = 3_600_000;
    for set in [HOUR, 9 * HOUR] {
        let mut world = World::new();
        world.wall = 5 * HOUR;
        world.track(1, Status::Online);
        world.changes();
        world.wall = set;
        assert!(world.wait(89).changes().is_empty());
        assert_eq!(world.wait(1).changes(), ["online>away"]);
        world.presences.disconnected(1, Ended::Broken, world.now);
        world.wall = 5 * HOUR;
        assert!(world.wait(59).changes().is_empty());
        assert_eq!(world.wait(1).changes(), ["away>offline"]);
    }
}
