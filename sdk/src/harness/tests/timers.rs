//! Timers and schedules on the test's clock.

use std::time::Duration;

use serde_json::json;

use crate::{
    Result, Timer, User, emitter,
    harness::{Client, Harness, user},
    plugin, store,
    timers::{self, Durability},
};

#[derive(Default)]
struct Throttle;

#[plugin(name = "throttle", version = "1.0.0")]
#[door("/", token = "required")]
impl Throttle {
    #[on("progress")]
    fn progress(user: &User, seconds: u32) -> Result<()> {
        timers::after(&format!("write:{}", user.id), Duration::from_secs(30), &seconds, Durability::Durable)
    }

    #[on("stop")]
    fn stop(user: &User) -> Result<()> {
        timers::cancel(&format!("write:{}", user.id))
    }

    #[on_timer("write:{user}")]
    fn write(timer: &Timer, seconds: u32) -> Result<()> {
        store::put(&store::key(["progress", timer.param()]), &seconds)?;
        emitter::to_user("/", timer.param(), "saved", &seconds)
    }

    #[schedule("tick", every_ms = 1000, scope = "once")]
    fn tick(timer: &Timer) -> Result<()> {
        store::put("tick", &timer.due)
    }
}

fn app() -> (Harness<Throttle>, Client<Throttle>) {
    let app = Harness::<Throttle>::new();
    let ana = app.connect("/", user("ana"));
    (app, ana)
}

#[test]
fn a_second_start_replaces_the_payload_and_keeps_the_time() {
    let (app, ana) = app();
    ana.emit("progress", json!(10)).expect_ok();
    app.advance(Duration::from_secs(20));
    ana.emit("progress", json!(25)).expect_ok();
    app.advance(Duration::from_millis(9999));
    ana.expect_nothing();
    app.advance(Duration::from_millis(1));
    ana.expect("saved", json!(25));
    assert_eq!(app.stored::<u32>("progress/ana"), Some(25));
    app.advance(Duration::from_secs(60));
    ana.expect_nothing();
}

#[test]
fn a_cancelled_timer_never_runs() {
    let (app, ana) = app();
    ana.emit("progress", json!(10)).expect_ok();
    ana.emit_bare("stop").expect_ok();
    app.advance(Duration::from_secs(60));
    ana.expect_nothing();
}

#[test]
fn a_schedule_runs_at_its_interval() {
    let (app, _) = app();
    let start = app.now();
    app.advance(Duration::from_millis(3500));
    assert_eq!(app.stored::<u64>("tick"), Some(start + 3000));
}
