//! Access to a course's namespace and rooms, and its end.

use hubbub_sdk::harness::{Harness, Identity, user, visitor};
use serde_json::json;

use super::MAX_ROOMS;
use crate::Lessons;

fn enrol(app: &Harness<Lessons>, user: &str, course: &str) {
    app.publish("course.enrolled", json!({ "courseId": course, "userId": user }));
}

fn unenrol(app: &Harness<Lessons>, user: &str, course: &str) {
    app.publish("course.unenrolled", json!({ "courseId": course, "userId": user }));
}

fn refused(app: &Harness<Lessons>, namespace: &str, who: Identity) -> String {
    app.try_connect(namespace, who).err().unwrap_or_default()
}

#[test]
fn an_enrolled_user_connects_and_joins_the_courses_room() {
    let app = Harness::<Lessons>::new();
    enrol(&app, "ana", "c1");
    assert_eq!(app.connect("/course/c1", user("ana")).rooms(), ["course:c1"]);
}

#[test]
fn a_user_that_is_not_enrolled_is_refused() {
    let app = Harness::<Lessons>::new();
    enrol(&app, "ana", "c1");
    assert_eq!(refused(&app, "/course/c1", visitor()), "Authentication error");
    assert_eq!(refused(&app, "/course/c1", user("eve")), "Not enrolled");
    assert_eq!(refused(&app, "/course/c2", user("ana")), "Not enrolled");
    assert_eq!(refused(&app, &format!("/course/{}", "c".repeat(600)), user("ana")), "Not enrolled");
    unenrol(&app, "ana", "c1");
    assert_eq!(refused(&app, "/course/c1", user("ana")), "Not enrolled");
}

#[test]
fn ids_with_a_separator_never_match_other_enrolments() {
    let app = Harness::<Lessons>::new();
    enrol(&app, "ana/c1", "c2");
    assert_eq!(refused(&app, "/course/c2", user("ana")), "Not enrolled");
    enrol(&app, "ana", "c/1%");
    assert_eq!(app.connect("/", user("ana")).rooms(), ["course:c/1%"]);
}

#[test]
fn a_user_joins_all_courses_rooms_and_a_visitor_none() {
    let app = Harness::<Lessons>::new();
    for (user, course) in [("ana", "c1"), ("ana", "c2"), ("ben", "c3")] {
        enrol(&app, user, course);
    }
    assert_eq!(app.connect("/", user("ana")).rooms(), ["course:c1", "course:c2"]);
    assert!(app.connect("/", visitor()).rooms().is_empty());
}

#[test]
fn enrolling_and_unenrolling_reach_every_device_at_once() {
    let app = Harness::<Lessons>::new();
    enrol(&app, "ana", "c1");
    let (laptop, phone) = (app.connect("/", user("ana")), app.connect("/", user("ana")));
    let (inside, ben) = (app.connect("/course/c1", user("ana")), app.connect("/", user("ben")));
    enrol(&app, "ana", "c2");
    assert_eq!(laptop.rooms(), ["course:c1", "course:c2"]);
    unenrol(&app, "ana", "c1");
    for client in [&laptop, &phone] {
        assert_eq!(client.rooms(), ["course:c2"]);
    }
    assert!(inside.rooms().is_empty() && ben.rooms().is_empty());
    enrol(&app, "ana", "c1");
    assert_eq!(inside.rooms(), ["course:c1"]);
}

#[test]
fn a_user_of_many_courses_joins_the_rooms_of_the_first() {
    let app = Harness::<Lessons>::new();
    let early = app.connect("/", user("ana"));
    for course in 0..MAX_ROOMS + 6 {
        enrol(&app, "ana", &format!("c{course:02}"));
    }
    let late = app.connect("/", user("ana"));
    for client in [&early, &late] {
        assert_eq!(client.rooms().len(), MAX_ROOMS as usize);
        assert_eq!(client.rooms()[0], "course:c00");
    }
    assert_eq!(app.connect("/course/c29", user("ana")).rooms(), ["course:c29"]);
}

#[test]
fn repeated_messages_further_fields_and_number_ids_are_accepted() {
    let app = Harness::<Lessons>::new();
    for _ in 0..2 {
        app.publish("course.enrolled", json!({ "courseId": 7, "userId": 42, "plan": "yearly" }));
    }
    assert_eq!(app.connect("/", user("42")).rooms(), ["course:7"]);
    for _ in 0..2 {
        app.publish("course.unenrolled", json!({ "courseId": "7", "userId": "42" }));
    }
    assert!(app.keys("enrolled/").is_empty());
}

#[test]
fn an_enrolment_conflicts_with_a_connect_that_runs_at_the_same_time() {
    let app = Harness::<Lessons>::new();
    let changes = || app.inside(|| hubbub_sdk::store::counter(&super::Student { tenant: None, id: "ana" }.changes()).ok());
    enrol(&app, "ana", "c1");
    assert_eq!(changes(), Some(1));
    unenrol(&app, "ana", "c1");
    assert_eq!(changes(), Some(2));
}

#[test]
fn equal_ids_of_two_tenants_are_two_users() {
    let app = Harness::<Lessons>::new();
    let of = |tenant: &str| user("ana").tenant(tenant);
    app.publish_for("acme", "course.enrolled", json!({ "courseId": "c1", "userId": "ana" }));
    assert_eq!(app.connect("/course/c1", of("acme")).rooms(), ["course:c1"]);
    assert_eq!(refused(&app, "/course/c1", of("other")), "Not enrolled");
    assert_eq!(refused(&app, "/course/c1", user("ana")), "Not enrolled");
    let (acme, bare) = (app.connect("/", of("acme")), app.connect("/", user("ana")));
    enrol(&app, "ana", "c2");
    assert_eq!((acme.rooms(), bare.rooms()), (vec!["course:c1".to_owned()], vec!["course:c2".to_owned()]));
    unenrol(&app, "ana", "c1");
    assert_eq!(acme.rooms(), ["course:c1"]);
}
