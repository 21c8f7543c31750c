//! Tokens that expire on a live socket. Must never wait for longer than the few seconds that such a token lives.

use serde_json::json;
use tests::client::End;
use tests::server::Builder;
use tests::{Server, token};

/// Seconds that a token of these tests lives.
const LIFE: i64 = 2;

fn server() -> Builder {
    Server::dev().env("HUBBUB_AUTH__LEEWAY", "0s").env("HUBBUB_GATEWAY__EXPIRY_GRACE", "1s")
}

#[tokio::test]
async fn an_expired_socket_is_told_and_then_ended() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let mut bia = server.connect("/chat", token("bia")).await;
    assert_eq!(ana.next("auth:expired").await, json!({"disconnectInMs": 1000}));
    assert_eq!(ana.ended().await, End::Disconnected);
    bia.expect_none("auth:expired").await;
}

#[tokio::test]
async fn a_new_token_in_time_keeps_the_socket() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let mut late = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    ana.next("auth:expired").await;
    let fresh = json!({"token": token("ana").sign()});
    assert_eq!(ana.ask("auth:refresh", fresh.clone()).await, json!({}));
    // One that did not refresh marks the end of the grace.
    assert_eq!(late.ended().await, End::Disconnected);
    assert_eq!(ana.ask("auth:refresh", fresh).await, json!({}), "again, and before it is due");
    ana.expect_none("auth:expired").await;
}

#[tokio::test]
async fn a_refresh_takes_no_bad_token_and_nobody_elses() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let bad = [
        json!({"token": token("bia").sign()}),
        json!({"token": token("ana").expires_in(-10).sign()}),
        json!({"token": "nonsense"}),
        json!({"token": null}),
        json!({}),
        json!(null),
    ];
    for payload in bad {
        let (code, sentence) = ana.refused("auth:refresh", payload.clone()).await;
        assert_eq!((code.as_str(), sentence.as_str()), ("unauthenticated", "Invalid token"), "{payload}");
    }
    ana.emit("auth:refresh", json!({"token": "nonsense"})).await;
    let error = json!({"code": "unauthenticated", "message": "Invalid token", "event": "auth:refresh"});
    assert_eq!(ana.next("error").await, error);
    assert_eq!(ana.ended().await, End::Disconnected, "none of them kept it");
}

#[tokio::test]
async fn an_expired_token_opens_no_second_namespace_on_a_live_connection() {
    let server = server().start().await;
    let short = token("ana").expires_in(LIFE);
    let mut ana = server.connect("/chat", &short).await;
    ana.next("auth:expired").await;
    assert_eq!(server.turned_away("/chat", &short).await, "Invalid token");
}
