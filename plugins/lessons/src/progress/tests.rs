//! The replies to a player, and the number of writes.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, user, visitor};
use serde_json::{Value, json};

use crate::Lessons;

const KEY: &str = "progress/ana/l1";

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn report(client: &Client<Lessons>, watched: u64) -> Value {
    let payload = json!({ "lessonId": "l1", "watchedDuration": watched, "totalDuration": 100 });
    client.emit("lesson:progress", payload).ack()
}

/// The stored progress, and the second of its write.
fn stored(app: &Harness<Lessons>) -> Option<(Value, u64)> {
    let saved: Value = app.stored(KEY)?;
    Some((saved["progress"].clone(), (saved["savedAt"].as_u64()? - 1_735_689_600_000) / 1000))
}

#[test]
fn the_first_report_is_saved_at_once_and_acknowledged() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    let payload = json!({ "lessonId": "l1", "watchedDuration": 450, "totalDuration": 600 });
    let reply = json!({ "lessonId": "l1", "progress": 75, "saved": true });
    ana.emit("lesson:progress", payload).expect_reply(reply);
    let at = 1_735_689_600_000u64;
    let saved = json!({ "watchedDuration": 450.0, "totalDuration": 600.0, "progress": 75, "reportedAt": at, "savedAt": at });
    assert_eq!(app.stored::<Value>(KEY), Some(saved));
}

#[test]
fn later_reports_wait_and_the_last_is_saved_when_the_window_ends() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    assert_eq!(report(&ana, 1)["saved"], true);
    for watched in [10, 20, 29] {
        app.advance(second(9));
        assert_eq!(report(&ana, watched), json!({ "lessonId": "l1", "progress": watched, "saved": false }));
    }
    assert_eq!(stored(&app), Some((json!(1), 0)));
    app.advance(second(3));
    assert_eq!(stored(&app), Some((json!(29), 30)));
}

#[test]
fn a_write_at_the_end_of_a_window_opens_the_next() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    let mut writes = vec![];
    for watched in 0..100 {
        let _ = report(&ana, watched);
        writes.extend(stored(&app).filter(|one| writes.last() != Some(one)));
        app.advance(second(1));
    }
    let at: Vec<u64> = writes.iter().map(|(_, at)| *at).collect();
    assert_eq!(at, [0, 30, 60, 90]);
}

#[test]
fn after_a_quiet_window_a_report_is_saved_at_once() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    let _ = report(&ana, 1);
    app.advance(second(30));
    assert_eq!(report(&ana, 30)["saved"], true);
    app.advance(second(60));
    assert_eq!(stored(&app), Some((json!(30), 30)));
}

#[test]
fn a_users_devices_and_namespaces_share_one_window() {
    let app = Harness::<Lessons>::new();
    for who in ["ana", "ben"] {
        app.publish("course.enrolled", json!({ "courseId": "c1", "userId": who }));
    }
    let (laptop, phone) = (app.connect("/", user("ana")), app.connect("/course/c1", user("ana")));
    assert_eq!(report(&laptop, 1)["saved"], true);
    assert_eq!(report(&phone, 2)["saved"], false);
    assert_eq!(report(&app.connect("/course/c1", user("ben")), 3)["saved"], true);
    let other = json!({ "lessonId": "l2", "watchedDuration": 1, "totalDuration": 100 });
    assert_eq!(laptop.emit("lesson:progress", other).ack()["saved"], true);
    app.advance(second(30));
    assert_eq!(stored(&app), Some((json!(2), 30)));
}

#[test]
fn a_clock_step_delays_and_loses_no_report() {
    const HOUR: u64 = 3_600_000;
    for back in [HOUR, 20_000] {
        let app = Harness::<Lessons>::new();
        let ana = app.connect("/", user("ana"));
        assert_eq!(report(&ana, 1)["saved"], true);
        app.set_clock(app.now() - back);
        let _ = report(&ana, 2);
        app.advance(second(1));
        let _ = report(&ana, 3);
        app.advance(second(30));
        assert_eq!(stored_progress(&app), 3, "set back by {back} ms");
        app.set_clock(app.now() + HOUR);
        let _ = report(&ana, 4);
        app.advance(second(31));
        assert_eq!(stored_progress(&app), 4, "set ahead");
    }
}

fn stored_progress(app: &Harness<Lessons>) -> Value {
    app.stored::<Value>(KEY).expect("a report is stored")["progress"].clone()
}

#[test]
fn a_waiting_report_is_saved_after_a_disconnect() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    let _ = (report(&ana, 1), report(&ana, 2));
    ana.disconnect();
    app.advance(second(30));
    assert_eq!(stored(&app), Some((json!(2), 30)));
}

#[test]
fn a_waiting_report_is_saved_when_the_server_stops() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    let _ = report(&ana, 1);
    app.advance(second(1));
    let waiting = |progress, reported_at| super::Report {
        tenant: None,
        user_id: "ana".to_owned(),
        lesson_id: serde_json::from_value(json!("l1")).unwrap(),
        position: super::Position { watched_duration: 2.0, total_duration: 100.0, progress, reported_at },
    };
    let (now, window) = (app.now(), super::Window::of_seconds(30).unwrap());
    let saved_by_a_timer = |due, report| {
        app.inside(|| {
            super::end_window(due, &report, window).unwrap();
            hubbub_sdk::store::get::<Value>(KEY).unwrap().unwrap()["progress"].clone()
        })
    };
    assert_eq!(saved_by_a_timer(now + 29_000, waiting(2, now)), 2, "early: a stop");
    assert_eq!(saved_by_a_timer(now + 29_000, waiting(2, now - 2000)), 1, "early, and another node has a newer report");
    assert_eq!(saved_by_a_timer(now, waiting(2, now)), 1, "in time, and another node has begun a window");
}

#[test]
fn a_late_or_repeated_timer_never_replaces_a_newer_report() {
    let app = Harness::<Lessons>::new();
    let stored = super::Position { watched_duration: 50.0, total_duration: 100.0, progress: 50, reported_at: app.now() };
    assert!(!stored.is_newer_than(&stored));
    assert!(!super::Position { progress: 9, reported_at: app.now() - 1, ..stored }.is_newer_than(&stored));
    assert!(super::Position { progress: 9, ..stored }.is_newer_than(&stored));
}

#[test]
fn progress_is_whole_per_cent_of_0_to_100() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    for (watched, total, progress) in
        [(0.0, 600.0, 0), (599.9, 600.0, 99), (29.0, 100.0, 29), (601.0, 600.0, 100), (1e308, 1e-3, 100)]
    {
        let payload = json!({ "lessonId": "l1", "watchedDuration": watched, "totalDuration": total });
        assert_eq!(ana.emit("lesson:progress", payload).ack()["progress"], progress);
    }
}

#[test]
fn durations_out_of_range_are_refused() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    let send = |watched: Value, total: Value| {
        ana.emit("lesson:progress", json!({ "lessonId": "l1", "watchedDuration": watched, "totalDuration": total }))
    };
    send(json!(1), json!(0)).expect_refusal("invalid", "totalDuration: must be more than 0");
    send(json!(1), json!(-600)).expect_refusal("invalid", "totalDuration: must be more than 0");
    send(json!(-1), json!(600)).expect_refusal("invalid", "watchedDuration: must be 0 or more");
    // NaN and infinity are null in JSON.
    send(json!(null), json!(600)).expect_refusal("invalid", "watchedDuration: missing");
    send(json!(1), json!("600")).expect_refusal("invalid", "totalDuration: must be a number");
    assert!(app.keys("").is_empty());
    for (watched, total) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
        assert!(super::per_cent(watched, total).is_err());
    }
}

#[test]
fn a_visitors_progress_is_refused() {
    let app = Harness::<Lessons>::new();
    let payload = json!({ "lessonId": "l1", "watchedDuration": 1, "totalDuration": 2 });
    let outcome = app.connect("/", visitor()).emit("lesson:progress", payload);
    outcome.expect_refusal("unauthenticated", "Authentication error");
}

#[test]
fn progress_in_a_course_is_refused_after_the_enrolment_ends() {
    let app = Harness::<Lessons>::new();
    app.publish("course.enrolled", json!({ "courseId": "c1", "userId": "ana" }));
    let ana = app.connect("/course/c1", user("ana"));
    app.publish("course.unenrolled", json!({ "courseId": "c1", "userId": "ana" }));
    let payload = json!({ "lessonId": "l1", "watchedDuration": 1, "totalDuration": 2 });
    ana.emit("lesson:progress", payload).expect_refusal("forbidden", "Not enrolled");
}

#[test]
fn the_window_is_configuration() {
    let app = Harness::<Lessons>::new().config(json!({ "save_every_seconds": 1 }));
    let ana = app.connect("/", user("ana"));
    let _ = (report(&ana, 1), report(&ana, 2));
    app.advance(second(1));
    assert_eq!(stored(&app), Some((json!(2), 1)));
    let app = Harness::<Lessons>::new().config(json!({ "save_every_seconds": 0 }));
    let ana = app.connect("/", user("ana"));
    assert_eq!((report(&ana, 1)["saved"].clone(), report(&ana, 2)["saved"].clone()), (json!(true), json!(true)));
    let app = Harness::<Lessons>::new().config(json!({ "save_every_seconds": 3601 }));
    assert_eq!(app.init(), Err("configuration key save_every_seconds: must be at most 3600".to_owned()));
}

#[test]
fn progress_is_refused_while_storage_fails() {
    let app = Harness::<Lessons>::new();
    let ana = app.connect("/", user("ana"));
    app.storage_answers(false);
    let payload = json!({ "lessonId": "l1", "watchedDuration": 1, "totalDuration": 2 });
    ana.emit("lesson:progress", payload).expect_refusal("unavailable", "Service unavailable");
}

#[test]
fn equal_ids_of_two_tenants_have_a_window_each() {
    let app = Harness::<Lessons>::new();
    let [acme, other] = ["acme", "other"].map(|tenant| app.connect("/", user("ana").tenant(tenant)));
    assert_eq!(report(&acme, 10)["saved"], json!(true));
    assert_eq!(report(&other, 20)["saved"], json!(true));
    assert_eq!(report(&acme, 30)["saved"], json!(false));
    assert_eq!(report(&other, 40)["saved"], json!(false));
    app.advance(second(30));
    let progress =
        |tenant: &str| app.stored::<Value>(&format!("%t/{tenant}/progress/ana/l1")).map(|saved| saved["progress"].clone());
    assert_eq!([progress("acme"), progress("other")], [Some(json!(30)), Some(json!(40))]);
}
