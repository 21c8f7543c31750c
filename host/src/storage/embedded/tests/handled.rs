//! How long the ids of handled messages are stored, also when clocks are set.

use super::super::super::suite::{no_effects, plugin};
use super::*;

#[tokio::test]
async fn handled_ids_are_deleted_after_their_time() {
    let dir = Dir::new();
    let clock = Clock::manual(1_000_000);
    let day = Config::default().handled_for.as_millis() as u64;
    let storage = Embedded::open(&dir.0, &Config::default(), clock.clone()).unwrap();
    let handle = |id: &str| {
        let handled = vec![HandledId { plugin: plugin("chat"), id: id.to_owned() }];
        storage.commit(WriteSet { handled, ..WriteSet::new(plugin("chat")) }, no_effects())
    };
    handle("m1").await.unwrap();
    clock.advance(day);
    handle("m2").await.unwrap();
    assert!(matches!(handle("m1").await, Err(CommitError::AlreadyHandled)));
    clock.advance(1);
    handle("m3").await.unwrap();
    handle("m1").await.unwrap();
    assert!(matches!(handle("m2").await, Err(CommitError::AlreadyHandled)));
}

#[tokio::test]
async fn setting_the_clock_deletes_no_handled_id() {
    let dir = Dir::new();
    let (now, day) = (10_000_000_000, Config::default().handled_for.as_millis() as u64);
    let clock = Clock::manual(now);
    let storage = Embedded::open(&dir.0, &Config::default(), clock.clone()).unwrap();
    let handle = |id: &str| {
        let handled = vec![HandledId { plugin: plugin("chat"), id: id.to_owned() }];
        storage.commit(WriteSet { handled, ..WriteSet::new(plugin("chat")) }, no_effects())
    };
    for (id, set) in [("right", now), ("ahead", now + 30 * day), ("back", now - 30 * day), ("right again", now)] {
        clock.set(set);
        handle(id).await.unwrap();
    }
    for id in ["right", "ahead", "back", "right again"] {
        assert!(matches!(handle(id).await, Err(CommitError::AlreadyHandled)), "{id}");
    }
}
