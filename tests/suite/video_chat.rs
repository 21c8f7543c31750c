//! The live chat of the videos: each row of the catalogue. Must never use another product's events.

use serde_json::json;
use tests::{Client, Server};

use crate::helpers::{keys, user};

async fn watch(server: &Server, client: impl Into<tests::Auth>) -> Client {
    let mut client = server.connect("/", client).await;
    assert_eq!(client.ask("chat:join", json!({"videoId": "v1"})).await, json!({}));
    client
}

#[tokio::test]
async fn a_user_sends_messages_and_a_visitor_only_receives() {
    let server = Server::dev().start().await;
    let mut visitor = watch(&server, ()).await;
    let mut ana = watch(&server, user("ana")).await;
    let ack = ana.ask("chat:message", json!({"videoId": "v1", "message": "olá & <b>oi</b>"})).await;
    assert_eq!(ack, json!({}));
    let message = visitor.next("chat:message").await;
    assert_eq!(keys(&message), ["id", "message", "timestamp", "userId", "videoId"]);
    assert_eq!((&message["videoId"], &message["userId"]), (&json!("v1"), &json!("ana")));
    assert_eq!(message["message"], "olá & <b>oi</b>", "unchanged plain text");
    assert!(message["timestamp"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "milliseconds: {message}");
    assert_eq!(ana.next("chat:message").await, message);

    for event in ["chat:message", "chat:typing"] {
        let (code, sentence) = visitor.refused(event, json!({"videoId": "v1", "message": "me too", "isTyping": true})).await;
        assert_eq!((code.as_str(), sentence.as_str()), ("unauthenticated", "Authentication required"));
    }
    visitor.emit("chat:message", json!({"videoId": "v1", "message": "me too"})).await;
    let error = json!({"code": "unauthenticated", "message": "Authentication required", "event": "chat:message"});
    assert_eq!(visitor.next("error").await, error);
    ana.expect_none("chat:message").await;
}

#[tokio::test]
async fn viewers_are_counted_as_they_join_and_leave() {
    let server = Server::dev().start().await;
    let mut first = watch(&server, ()).await;
    count_is(&mut first, 1).await;
    let mut ana = watch(&server, user("ana")).await;
    count_is(&mut first, 2).await;
    count_is(&mut ana, 2).await;
    let gone = watch(&server, ()).await;
    count_is(&mut ana, 3).await;
    gone.leave().await;
    count_is(&mut ana, 2).await;
    assert_eq!(first.ask("chat:leave", json!({"videoId": "v1"})).await, json!({}));
    count_is(&mut ana, 1).await;
}

/// Counts are sent at most twice a second, so an intermediate count may be skipped; the last one is always sent.
async fn count_is(client: &mut Client, count: u64) {
    loop {
        let seen = client.next("chat:user-count").await;
        assert_eq!(keys(&seen), ["count", "videoId"]);
        if seen["count"] == count {
            return;
        }
    }
}

#[tokio::test]
async fn typing_is_sent_to_others_and_messages_are_limited() {
    let server = Server::dev().start().await;
    let mut ana = watch(&server, user("ana")).await;
    let mut bia = watch(&server, user("bia")).await;
    assert_eq!(ana.ask("chat:typing", json!({"videoId": "v1", "isTyping": true})).await, json!({}));
    assert_eq!(bia.next("chat:typing").await, json!({"videoId": "v1", "userId": "ana", "isTyping": true}));
    ana.expect_none("chat:typing").await;

    let message = json!({"videoId": "v1", "message": "again"});
    for _ in 0..10 {
        assert_eq!(ana.ask("chat:message", message.clone()).await, json!({}));
    }
    let error = ana.ask("chat:message", message).await["error"].clone();
    assert_eq!((&error["code"], &error["message"]), (&json!("rate_limited"), &json!("Rate limit exceeded")));
    assert!(error["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0), "{error}");
}

#[tokio::test]
async fn viewers_of_another_video_receive_no_messages() {
    let server = Server::dev().start().await;
    let mut ana = watch(&server, user("ana")).await;
    let mut other = server.connect("/", user("eva")).await;
    other.ask("chat:join", json!({"videoId": "v10"})).await;
    ana.ask("chat:message", json!({"videoId": "v1", "message": "here"})).await;
    other.expect_none("chat:message").await;
    ana.ask("chat:leave", json!({"videoId": "v1"})).await;
    let mut bia = watch(&server, user("bia")).await;
    bia.ask("chat:message", json!({"videoId": "v1", "message": "left?"})).await;
    assert_eq!(ana.next("chat:message").await["message"], "here");
    ana.expect_none("chat:message").await;
}
