//! Messages about a take that are repeated, or arrive out of order.

use hubbub_sdk::harness::{Client, Harness, user};
use serde_json::{Value, json};

use crate::Queue;

fn desk() -> (Harness<Queue>, Client<Queue>) {
    let app = Harness::<Queue>::new();
    let ana = app.connect("/hub", user("ana").role("ATTENDANT"));
    ana.put_in("presence:attendants");
    (app, ana)
}

fn new(app: &Harness<Queue>) {
    app.publish("queue.new", json!({ "itemId": "q1", "threadId": "t1", "customer": { "id": "c1", "name": "Caio" } }));
}

fn taken(by: &str) -> Value {
    json!({ "itemId": "q1", "attendantId": by })
}

fn take(ana: &Client<Queue>) -> bool {
    ana.emit("queue:take", json!({ "itemId": "q1" })).ack()["taken"] == true
}

#[test]
fn a_repeated_take_of_the_backend_is_not_sent_again() {
    let (app, ana) = desk();
    new(&app);
    assert!(take(&ana));
    app.publish("queue.taken", taken("ana"));
    assert_eq!(ana.received("queue:taken"), [taken("ana")]);
    app.publish("queue.taken", taken("ben"));
    app.publish("queue.taken", taken("ben"));
    assert_eq!(ana.received("queue:taken"), [taken("ben")], "a take by another attendant is sent once");
}

#[test]
fn a_second_take_by_the_same_attendant_is_sent_again() {
    let (app, ana) = desk();
    for _ in 0..2 {
        new(&app);
        app.publish("queue.taken", taken("ben"));
        assert_eq!((ana.received("queue:new").len(), ana.received("queue:taken").len()), (1, 1));
        app.advance(std::time::Duration::from_millis(1));
    }
}

#[test]
fn an_item_taken_before_its_announcement_is_not_announced() {
    let (app, ana) = desk();
    app.publish("queue.taken", taken("ben"));
    ana.expect("queue:taken", taken("ben"));
    new(&app);
    ana.expect_nothing();
    assert!(!take(&ana));
    ana.forget();
    app.advance(std::time::Duration::from_millis(1));
    new(&app);
    ana.expect_any("queue:new");
    assert!(take(&ana));
}

#[test]
fn the_taker_of_an_item_is_deleted_after_ten_minutes() {
    let (app, ana) = desk();
    new(&app);
    assert!(take(&ana));
    assert_eq!(app.keys("taken/").len(), 1);
    app.advance(super::REMEMBERED);
    assert!(app.keys("").is_empty(), "{:?}", app.keys(""));
}
