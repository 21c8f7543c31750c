//! The fields of an announcement, and the clients that get it.

use hubbub_sdk::harness::{Harness, user, visitor};
use serde_json::json;

use crate::Lessons;

/// A course with one user.
fn course() -> Harness<Lessons> {
    let app = Harness::<Lessons>::new();
    app.publish("course.enrolled", json!({ "courseId": "c1", "userId": "ana" }));
    app
}

#[test]
fn an_announcement_reaches_both_namespaces() {
    let app = course();
    let (everywhere, inside) = (app.connect("/", user("ana")), app.connect("/course/c1", user("ana")));
    let instructor = json!({ "name": "Maria", "image": "maria.png" });
    let data = json!({ "courseId": "c1", "instructor": instructor, "title": "News", "content": "Five lessons" });
    app.publish("announcement.created", data);
    let announcement = everywhere.expect_any("announcement:new");
    assert_eq!(
        announcement,
        json!({
            "id": announcement["id"], "courseId": "c1", "instructor": instructor,
            "title": "News", "content": "Five lessons", "createdAt": "2025-01-01T00:00:00.000Z",
        })
    );
    assert_eq!(announcement["id"].as_str().map(str::len), Some(26));
    inside.expect("announcement:new", announcement);
    everywhere.expect_nothing();
    inside.expect_nothing();
}

#[test]
fn a_user_that_is_not_enrolled_gets_no_announcement() {
    let app = course();
    app.publish("course.enrolled", json!({ "courseId": "c2", "userId": "ben" }));
    let others = [app.connect("/", user("ben")), app.connect("/course/c2", user("ben")), app.connect("/", visitor())];
    let gone = app.connect("/course/c1", user("ana"));
    app.publish("course.unenrolled", json!({ "courseId": "c1", "userId": "ana" }));
    let data = json!({ "courseId": "c1", "instructor": { "name": "Maria" }, "title": "News", "content": "" });
    app.publish("announcement.created", data);
    for client in others.iter().chain([&gone]) {
        client.expect_nothing();
    }
}

#[test]
fn a_missing_image_is_null_and_further_fields_are_not_sent() {
    let app = course();
    let ana = app.connect("/", user("ana"));
    let instructor = json!({ "name": "Maria", "email": "maria@example.com" });
    let data = json!({ "courseId": "c1", "instructor": instructor, "title": "News", "content": "", "draft": false });
    app.publish("announcement.created", data);
    let announcement = ana.expect_any("announcement:new");
    assert_eq!(announcement["instructor"], json!({ "name": "Maria", "image": null }));
    assert!(announcement.get("draft").is_none());
}

#[test]
fn a_course_without_a_namespace_announces_in_the_shared_one() {
    let app = Harness::<Lessons>::new();
    app.publish("course.enrolled", json!({ "courseId": "a/b", "userId": "ana" }));
    let ana = app.connect("/", user("ana"));
    let data = json!({ "courseId": "a/b", "instructor": { "name": "Maria" }, "title": "News", "content": "" });
    app.publish("announcement.created", data);
    assert_eq!(ana.expect_any("announcement:new")["courseId"], "a/b");
}
