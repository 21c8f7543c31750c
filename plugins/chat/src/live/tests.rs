//! A video's live chat: each event, and each refusal's sentence.

use std::time::Duration;

use hubbub_sdk::harness::{Client, Harness, Identity, user, visitor};
use serde_json::{Value, json};

use crate::Chat;

fn watch(app: &Harness<Chat>, who: Identity) -> Client<Chat> {
    let client = app.connect("/", who);
    client.emit("chat:join", json!({ "videoId": "v1" })).expect_ok();
    client
}

#[test]
fn a_join_gets_the_count_at_once_and_the_room_twice_a_second() {
    let app = Harness::<Chat>::new();
    let ana = watch(&app, user("ana"));
    assert_eq!(ana.received("chat:user-count"), [json!({ "videoId": "v1", "count": 1 }), json!({ "videoId": "v1", "count": 1 })]);
    let _phone = watch(&app, user("ana"));
    let guest = watch(&app, visitor());
    guest.expect("chat:user-count", json!({ "videoId": "v1", "count": 2 }));
    ana.expect_nothing();
    app.advance(Duration::from_millis(500));
    ana.expect("chat:user-count", json!({ "videoId": "v1", "count": 2 }));
    guest.emit("chat:leave", json!({ "videoId": "v1" })).expect_ok();
    app.advance(Duration::from_millis(500));
    ana.expect("chat:user-count", json!({ "videoId": "v1", "count": 1 }));
    ana.expect_nothing();
}

#[test]
fn a_message_is_sent_to_the_room_as_text_and_stored() {
    let app = Harness::<Chat>::new();
    let (ana, guest) = (watch(&app, user("ana")), watch(&app, visitor()));
    app.advance(Duration::from_secs(1));
    ana.forget();
    ana.emit("chat:message", json!({ "videoId": "v1", "message": "1 < 2" })).expect_ok();
    let message = guest.expect_any("chat:message");
    assert_eq!(
        message,
        json!({
            "id": message["id"], "videoId": "v1", "userId": "ana", "message": "1 < 2", "timestamp": 1_735_689_601_000u64,
        })
    );
    ana.expect("chat:message", message.clone());
    assert_eq!(app.stored::<Value>(&app.keys("live/v1/")[0]), Some(message));
    assert_eq!(app.keys("").len(), 1);
}

#[test]
fn a_message_has_1_to_2000_characters() {
    let app = Harness::<Chat>::new();
    let ana = watch(&app, user("ana"));
    for message in [json!(""), json!("  "), json!("x".repeat(2001)), json!({})] {
        ana.emit("chat:message", json!({ "videoId": "v1", "message": message })).expect_refusal("invalid", "Invalid message");
    }
}

#[test]
fn the_eleventh_message_of_a_minute_is_refused() {
    let app = Harness::<Chat>::new();
    let ana = watch(&app, user("ana"));
    for _ in 0..10 {
        ana.emit("chat:message", json!({ "videoId": "v1", "message": "hi" })).expect_ok();
    }
    let refusal = ana.emit("chat:message", json!({ "videoId": "v1", "message": "hi" })).refusal();
    assert_eq!((refusal.message.as_str(), refusal.retry_after_ms), ("Rate limit exceeded", Some(6000)));
}

#[test]
fn a_visitor_reads_and_may_not_write() {
    let app = Harness::<Chat>::new();
    let guest = watch(&app, visitor());
    let message = guest.emit("chat:message", json!({ "videoId": "v1", "message": "hi" }));
    message.expect_refusal("unauthenticated", "Authentication required");
    let typing = guest.emit("chat:typing", json!({ "videoId": "v1", "isTyping": true }));
    typing.expect_refusal("unauthenticated", "Authentication required");
}

#[test]
fn typing_reaches_the_others() {
    let app = Harness::<Chat>::new();
    let (ana, guest) = (watch(&app, user("ana")), watch(&app, visitor()));
    ana.forget();
    ana.emit("chat:typing", json!({ "videoId": "v1", "isTyping": true })).expect_ok();
    guest.expect("chat:typing", json!({ "videoId": "v1", "userId": "ana", "isTyping": true }));
    ana.expect_nothing();
    let wrong = ana.emit("chat:typing", json!({ "videoId": "v1" }));
    wrong.expect_refusal("invalid", "isTyping: missing");
}

#[test]
fn a_disconnected_client_is_not_counted() {
    let app = Harness::<Chat>::new();
    let (ana, ben) = (watch(&app, user("ana")), watch(&app, user("ben")));
    app.advance(Duration::from_secs(1));
    ana.forget();
    ben.disconnect();
    ana.expect("chat:user-count", json!({ "videoId": "v1", "count": 1 }));
}

#[test]
fn a_message_that_is_sent_again_with_its_client_id_is_sent_once() {
    let app = Harness::<Chat>::new();
    let ana = watch(&app, user("ana"));
    for _ in 0..2 {
        ana.emit("chat:message", json!({ "videoId": "v1", "message": "hi", "clientId": "m1" })).expect_ok();
    }
    ana.emit("chat:message", json!({ "videoId": "v1", "message": "hi" })).expect_ok();
    let ids: Vec<_> = ana.received("chat:message").iter().map(|message| message.get("clientId").cloned()).collect();
    assert_eq!(ids, [Some(json!("m1")), None]);
}
