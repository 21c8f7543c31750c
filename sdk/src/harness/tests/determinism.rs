//! Handlers that differ from run to run are found: those with state, or with a clock of their own.
#![expect(clippy::disallowed_methods, reason = "the harness must find these calls")]

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::json;

use crate::{
    Caller, Result,
    budget::Budget,
    clock,
    collections::{HashMap, HashSet},
    harness::{Harness, user},
    plugin, random, store,
};

static CALLS: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Shaky {
    calls: Cell<u64>,
}

#[plugin(name = "shaky", version = "1.0.0")]
#[door("/", token = "required")]
impl Shaky {
    #[on("global")]
    fn global() -> Result<()> {
        store::put("calls", &CALLS.fetch_add(1, Ordering::Relaxed))
    }

    #[on("field")]
    fn field(&self) -> Result<u64> {
        self.calls.set(self.calls.get() + 1);
        Ok(self.calls.get())
    }

    #[on("random")]
    fn random() -> Result<u64> {
        let number = random::number();
        store::put(&format!("drawn/{number}"), &())?;
        Ok(number)
    }

    #[on("wall-clock")]
    fn wall_clock() -> Result<()> {
        let _ = std::time::SystemTime::now();
        Ok(())
    }

    #[on("stopwatch")]
    fn stopwatch() -> Result<()> {
        let _ = std::time::Instant::now();
        Ok(())
    }

    #[on("our-clock")]
    fn our_clock() -> Result<u64> {
        // A standard map takes its seeds from the system, which is allowed.
        let seen: std::collections::HashMap<u64, u64> = [(1, clock::now())].into();
        Ok(seen[&1])
    }

    #[on("map")]
    fn map() -> Result<Vec<u32>> {
        let mut map = HashMap::default();
        map.extend((0..50).map(|n| (n, n)));
        let set: HashSet<u32> = map.into_keys().collect();
        Ok(set.into_iter().collect())
    }

    #[on("spend")]
    fn spend(caller: &Caller, points: u32) -> Result<()> {
        let budget = Budget::new("points", 10, Duration::from_secs(10));
        budget.take_points(&caller.user()?.id, points)?.or_refuse("Slow down")
    }
}

#[test]
#[should_panic = "global does something else when it runs again"]
fn state_outside_the_plugin_fails_the_test() {
    let _ = Harness::<Shaky>::new().connect("/", user("ana")).emit_bare("global");
}

#[test]
fn each_call_gets_a_fresh_instance() {
    let ana = Harness::<Shaky>::new().connect("/", user("ana"));
    ana.emit_bare("field").expect_ack(json!(1));
    ana.emit_bare("field").expect_ack(json!(1));
}

#[test]
fn random_numbers_repeat_on_a_second_run_and_differ_in_the_next_call() {
    let app = Harness::<Shaky>::new();
    let ana = app.connect("/", user("ana"));
    let (first, second) = (ana.emit_bare("random").ack(), ana.emit_bare("random").ack());
    assert_ne!(first, second);
    assert_eq!(app.keys("drawn/").len(), 2);
}

#[test]
fn the_order_of_a_map_repeats_on_a_second_run_only() {
    let ana = Harness::<Shaky>::new().connect("/", user("ana"));
    assert_ne!(ana.emit_bare("map").ack(), ana.emit_bare("map").ack());
}

#[test]
fn a_budget_is_taken_once_a_call_and_refills_evenly() {
    let app = Harness::<Shaky>::new();
    let (ana, ben) = (app.connect("/", user("ana")), app.connect("/", user("ben")));
    ana.emit("spend", json!(8)).expect_ok();
    let refusal = ana.emit("spend", json!(4)).refusal();
    assert_eq!((refusal.message.as_str(), refusal.retry_after_ms), ("Slow down", Some(2000)));
    ben.emit("spend", json!(10)).expect_ok();
    app.advance(Duration::from_secs(2));
    ana.emit("spend", json!(4)).expect_ok();
}

#[test]
#[should_panic = "wall-clock asks for the system's time"]
fn a_handler_that_asks_for_the_systems_time_fails_the_test() {
    let _ = Harness::<Shaky>::new().connect("/", user("ana")).emit_bare("wall-clock");
}

#[test]
#[should_panic = "hubbub_sdk::clock::now"]
fn a_handler_that_measures_with_an_instant_fails_the_test() {
    let _ = Harness::<Shaky>::new().connect("/", user("ana")).emit_bare("stopwatch");
}

#[test]
fn the_sdks_clock_and_the_tests_own_clock_are_allowed() {
    let before = std::time::SystemTime::now();
    let ana = Harness::<Shaky>::new().connect("/", user("ana"));
    ana.emit_bare("our-clock").expect_ack(json!(1_735_689_600_000_u64));
    assert!(before.elapsed().is_ok());
}
