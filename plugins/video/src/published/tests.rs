//! The backend's messages: the events for the room, and the counters.

use std::time::Duration;

use hubbub_sdk::{
    harness::{Client, Harness, visitor},
    store,
};
use serde_json::json;

use crate::Video;

/// The harness's first time.
const START: u64 = 1_735_689_600_000;

/// Two visitors that watch two videos.
fn two() -> (Harness<Video>, Client<Video>, Client<Video>) {
    let app = Harness::<Video>::new();
    let [guest, other] = ["v1", "v2"].map(|video| {
        let client = app.connect("/", visitor());
        client.emit("video:join", json!({ "videoId": video })).expect_ok();
        client
    });
    guest.forget();
    other.forget();
    (app, guest, other)
}

fn count(app: &Harness<Video>, key: &str) -> Option<i64> {
    app.inside(|| store::counter(key).ok())
}

#[test]
fn a_view_is_counted_and_sent_to_the_room() {
    let (app, guest, other) = two();
    app.publish("video.view", json!({ "videoId": "v1" }));
    guest.expect("video:view", json!({ "videoId": "v1", "timestamp": START }));
    guest.expect_nothing();
    other.expect_nothing();
    assert_eq!((count(&app, "views/v1"), count(&app, "views/v2")), (Some(1), Some(0)));
}

#[test]
fn many_views_are_counted_and_two_a_second_are_sent() {
    let (app, guest, _other) = two();
    for n in 0..1999 {
        app.publish("video.view", json!({ "videoId": "v1", "timestamp": n }));
        app.advance(Duration::from_millis(1));
    }
    assert_eq!(guest.received("video:view").len(), 4);
    app.advance(Duration::from_millis(500));
    assert_eq!(guest.received("video:view"), [json!({ "videoId": "v1", "timestamp": 1998 })]);
    app.advance(Duration::from_secs(5));
    guest.expect_nothing();
    assert_eq!(count(&app, "views/v1"), Some(1999));
}

#[test]
fn the_first_view_after_a_burst_is_sent_at_once() {
    let (app, guest, _other) = two();
    for timestamp in [1, 2] {
        app.publish("video.view", json!({ "videoId": "v1", "timestamp": timestamp }));
    }
    app.advance(Duration::from_millis(510));
    app.publish("video.view", json!({ "videoId": "v1", "timestamp": 3 }));
    assert_eq!(guest.received("video:view").len(), 2);
    app.advance(Duration::from_millis(490));
    guest.expect("video:view", json!({ "videoId": "v1", "timestamp": 3 }));
}

#[test]
fn views_of_one_video_do_not_delay_anothers() {
    let (app, guest, other) = two();
    for video in ["v1", "v1", "v2"] {
        app.publish("video.view", json!({ "videoId": video }));
    }
    assert_eq!((guest.received("video:view").len(), other.received("video:view").len()), (1, 1));
}

#[test]
fn each_like_and_dislike_is_sent_and_counted() {
    let (app, guest, other) = two();
    for _ in 0..3 {
        app.publish("video.like", json!({ "videoId": "v1", "userId": "ana" }));
        guest.expect("video:like", json!({ "videoId": "v1", "type": "video.like", "timestamp": START }));
    }
    app.publish("video.dislike", json!({ "videoId": "v1", "timestamp": 7 }));
    guest.expect("video:like", json!({ "videoId": "v1", "type": "video.dislike", "timestamp": 7 }));
    guest.expect_nothing();
    other.expect_nothing();
    assert_eq!((count(&app, "likes/v1"), count(&app, "dislikes/v1")), (Some(3), Some(1)));
}

#[test]
fn each_comment_is_sent() {
    let (app, guest, other) = two();
    for comment in ["k1", "k2"] {
        app.publish("video.comment", json!({ "videoId": "v1", "commentId": comment }));
        guest.expect("video:comment", json!({ "videoId": "v1", "commentId": comment, "timestamp": START }));
    }
    other.expect_nothing();
}

#[test]
fn number_ids_are_sent_as_published_and_a_wrong_time_is_ignored() {
    let (app, guest, _other) = two();
    let client = app.connect("/", visitor());
    client.emit("video:join", json!({ "videoId": "123" })).expect_ok();
    client.forget();
    app.publish("video.comment", json!({ "videoId": 123, "commentId": 456, "timestamp": 1_234_567_890u64, "text": "hi" }));
    client.expect("video:comment", json!({ "videoId": 123, "commentId": 456, "timestamp": 1_234_567_890u64 }));
    for (sent, told) in [(json!(1234.5), 1234), (json!("noon"), START), (json!(null), START), (json!(-1), START)] {
        app.publish("video.like", json!({ "videoId": "v1", "timestamp": sent }));
        guest.expect("video:like", json!({ "videoId": "v1", "type": "video.like", "timestamp": told }));
    }
    for timestamp in [1, 2] {
        app.publish("video.view", json!({ "videoId": 123, "timestamp": timestamp }));
        client.expect("video:view", json!({ "videoId": 123, "timestamp": timestamp }));
        app.advance(Duration::from_millis(500));
    }
    client.emit("video:join", json!({ "videoId": 123 })).expect_refusal("invalid", "videoId: must be a string");
}

#[test]
fn a_message_without_a_video_fails() {
    let (app, _, _) = two();
    assert_eq!(app.try_publish("video.view", json!({})), Err("invalid data: videoId: missing".to_owned()));
}
