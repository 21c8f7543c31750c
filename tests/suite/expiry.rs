//! Tokens that expire on open sockets. Must never wait longer than the few seconds for which such a token is valid.

use serde_json::json;
use tests::client::End;
use tests::server::Builder;
use tests::stock::Transports;
use tests::{Server, Stock, token};

/// Validity of these tests' tokens in seconds.
const LIFE: i64 = 2;

fn server() -> Builder {
    Server::dev().env("HUBBUB_AUTH__LEEWAY", "0s").env("HUBBUB_GATEWAY__EXPIRY_GRACE", "1s")
}

#[tokio::test]
async fn an_expired_socket_receives_auth_expired_and_is_closed() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let mut bia = server.connect("/chat", token("bia")).await;
    let expired = ana.next("auth:expired").await;
    let at = expired["at"].as_str().expect("a time").to_owned();
    assert_eq!(expired, json!({"at": at}));
    assert!(at.len() == 24 && at.ends_with("Z"), "{at}");
    assert_eq!(ana.ended().await, End::Closed, "without a disconnect packet, so that the client reconnects");
    assert_eq!(server.metrics().await.get("hubbub_connections_expired_total", &[]), Some(1.0));
    bia.expect_none("auth:expired").await;
}

#[tokio::test]
async fn refreshing_the_token_in_time_keeps_the_socket() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let mut late = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    ana.next("auth:expired").await;
    let fresh = json!({"token": format!("bearer {}", token("ana").sign())});
    assert_eq!(ana.ask("auth:refresh", fresh.clone()).await, json!({}));
    // A socket that is not refreshed marks the end of the grace period.
    assert_eq!(late.ended().await, End::Closed);
    assert_eq!(ana.ask("auth:refresh", fresh).await, json!({}), "a second refresh, before it is due");
    ana.expect_none("auth:expired").await;
}

#[tokio::test]
async fn a_refresh_refuses_invalid_tokens_and_tokens_of_others() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let bad = [
        json!({"token": format!("Bearer {}", token("bia").sign())}),
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
    assert_eq!(ana.ended().await, End::Closed, "none of these tokens kept the socket open");
}

#[tokio::test]
async fn an_expired_token_opens_no_namespace() {
    let server = server().start().await;
    let short = token("ana").expires_in(LIFE);
    let mut ana = server.connect("/chat", &short).await;
    ana.next("auth:expired").await;
    assert_eq!(server.connect_refused("/chat", &short).await, "Invalid token");
}

#[tokio::test]
async fn stock_clients_reconnect_with_a_new_token() {
    let server = server().start().await;
    for stock in Stock::ALL {
        for transports in [Transports::Websocket, Transports::Polling] {
            let connected = stock.connect(&server, "/chat", token("ana").expires_in(3), transports).await;
            let mut ana = connected.expect("accepted");
            ana.set_auth(token("ana")).await;
            ana.next("auth:expired").await;
            let reason = ana.disconnected().await;
            assert!(reason.contains("transport"), "{stock:?} over {transports:?}: {reason}");
            ana.reconnected().await;
            assert_eq!(ana.ask("no:such", json!({})).await["error"]["code"], "not_found", "{stock:?} over {transports:?}");
        }
    }
}

#[tokio::test]
async fn a_stock_client_with_an_expired_token_is_refused_once() {
    let server = server().start().await;
    let connected = Stock::Node.connect(&server, "/chat", token("ana").expires_in(3), Transports::Websocket).await;
    let mut ana = connected.expect("accepted");
    ana.disconnected().await;
    assert_eq!(ana.refused().await, "Invalid token");
    // A later connect marks a time by which a second attempt would have arrived.
    server.connect("/chat", token("bia")).await;
    let refused = server.metrics().await.get("hubbub_socket_connects_refused_total", &[("reason", "expired")]);
    assert_eq!(refused, Some(1.0));
}

#[tokio::test]
async fn an_expired_token_closes_the_whole_connection() {
    let server = server().start().await;
    let mut ana = server.connect("/chat", token("ana").expires_in(LIFE)).await;
    let auth = json!({"token": token("ana").sign()});
    ana.send_raw(&tests::packet::connect("/", Some(&auth))).await;
    ana.next("auth:expired").await;
    assert_eq!(ana.ended().await, End::Closed, "the connection with all its namespaces");
}
