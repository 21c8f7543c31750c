//! Presence moved by hand: devices, grace, heartbeats.
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
        let track = Track { socket, plugin, tenant: None, group: "g".into(), key: "ana".into(), status, meta: "{}".into() };
        assert!(self.presences.track(track, self.now));
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds * 1000;
        self.wall += seconds * 1000;
        self
    }

    fn moment(&self) -> Moment {
        Moment { wall_ms: self.wall, steady_ms: self.now }
    }

    /// What changed, as `from>to`.
    fn changes(&mut self) -> Vec<String> {
        let name = |status: Option<&'static str>| status.unwrap_or("offline");
        let changes = self.presences.changes(self.moment(), 100, true);
        changes.into_iter().map(|change| format!("{}>{}", name(change.from), name(change.to))).collect()
    }
}

#[test]
fn two_devices_are_one_presence() {
    let mut world = World::new();
    world.track(1, Status::Online);
    assert_eq!(world.changes(), ["offline>online"]);
    world.track(2, Status::Online);
    assert!(world.changes().is_empty());
    world.presences.gone(1, world.now);
    assert!(world.wait(70).changes().is_empty());
    world.presences.gone(2, world.now);
    assert!(world.wait(59).changes().is_empty());
    assert_eq!(world.wait(1).changes(), ["online>offline"]);
    assert!(world.wait(1000).changes().is_empty());
}

#[test]
fn a_reconnect_within_the_grace_period_tells_nothing() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    world.presences.gone(1, world.now);
    world.wait(59);
    world.track(2, Status::Online);
    assert!(world.wait(60).changes().is_empty());
}

#[test]
fn without_a_heartbeat_a_key_is_away_until_the_next() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    assert!(world.wait(89).changes().is_empty());
    assert_eq!(world.wait(1).changes(), ["online>away"]);
    world.presences.heartbeat(1, world.now);
    assert_eq!(world.changes(), ["away>online"]);
}

#[test]
fn an_away_that_was_asked_for_outlives_a_heartbeat() {
    let mut world = World::new();
    world.track(1, Status::Away);
    assert_eq!(world.changes(), ["offline>away"]);
    world.presences.heartbeat(1, world.now);
    assert!(world.changes().is_empty());
}

#[test]
fn untracking_needs_no_grace() {
    let mut world = World::new();
    world.track(1, Status::Online);
    world.changes();
    let plugin = PluginName::parse("p").unwrap();
    world.presences.untrack(1, &plugin, None, "g", "ana", world.now);
    assert_eq!(world.changes(), ["online>offline"]);
}

#[test]
fn changes_past_the_limit_wait_for_the_next_call() {
    let world = World::new();
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
        };
        world.presences.track(track, world.now);
    }
    assert_eq!(world.presences.changes(world.moment(), 2, false).len(), 2);
    assert_eq!(world.presences.changes(world.moment(), 2, false).len(), 1);
}

#[test]
fn a_wall_clock_that_is_set_makes_nobody_away_or_offline_and_keeps_nobody() {
    const HOUR: u64 = 3_600_000;
    for set in [HOUR, 9 * HOUR] {
        let mut world = World::new();
        world.wall = 5 * HOUR;
        world.track(1, Status::Online);
        world.changes();
        world.wall = set;
        assert!(world.wait(89).changes().is_empty());
        assert_eq!(world.wait(1).changes(), ["online>away"]);
        world.presences.gone(1, world.now);
        world.wall = 5 * HOUR;
        assert!(world.wait(59).changes().is_empty());
        assert_eq!(world.wait(1).changes(), ["away>offline"]);
    }
}
