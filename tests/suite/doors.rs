//! Who is let into which namespace, and with what sentence not. Must never send an event: a door is all that is tested.

use reqwest::header::{AUTHORIZATION, HeaderName};
use serde_json::json;
use tests::client::ConnectFailure;
use tests::{Auth, Client, Server, token};

#[tokio::test]
async fn each_namespace_has_its_own_door_and_sentences() {
    let server = Server::dev().start().await;
    assert_eq!(server.turned_away("/chat", ()).await, "Authentication error");
    assert_eq!(server.turned_away("/chat", "nonsense").await, "Invalid token");
    assert_eq!(server.turned_away("/", "nonsense").await, "Invalid token");
    server.connect("/", ()).await;
    server.connect("/", token("ana")).await;
    server.connect("/chat", token("ana")).await;
    // One token is one user wherever it opens: nothing but the door decides.
    let sentence = server.turned_away("/nobody-owns-this", token("ana")).await;
    assert_eq!(sentence, "Invalid namespace", "as stock servers say it");
}

#[tokio::test]
async fn an_empty_token_is_none_and_one_of_another_type_is_bad() {
    let server = Server::dev().start().await;
    for none in [json!({}), json!({"token": ""}), json!({"token": null}), json!({"other": 1})] {
        assert_eq!(server.turned_away("/chat", none.clone()).await, "Authentication error", "{none}");
    }
    for bad in [json!({"token": 7}), json!({"token": {"a": 1}}), json!({"token": ["x"]}), json!({"token": true})] {
        assert_eq!(server.turned_away("/chat", bad.clone()).await, "Invalid token", "{bad}");
    }
}

#[tokio::test]
async fn a_bearer_header_opens_and_the_auth_object_goes_before_it() {
    let server = Server::dev().start().await;
    server.connect("/chat", Auth::bearer(&token("ana"))).await;
    let bad_header = |auth: Auth| auth.header(AUTHORIZATION, "Bearer nonsense");
    assert_eq!(server.turned_away("/chat", bad_header(().into())).await, "Invalid token");
    server.connect("/chat", bad_header(token("ana").into())).await;
}

#[tokio::test]
async fn a_namespace_is_asked_for_by_its_exact_name() {
    let server = Server::dev().start().await;
    for odd in ["/chat/", "/Chat", "/chat//", "/chat%00", "/..", "/chat/../chat"] {
        match Client::connect(server.address(), odd, token("ana")).await {
            Err(ConnectFailure::Refused(_) | ConnectFailure::Closed) => {}
            other => panic!("{odd}: {:?}", other.map(|_| "let in")),
        }
    }
    let long = format!("/{}", "x".repeat(20_000));
    assert!(Client::connect(server.address(), &long, token("ana")).await.is_err());
    server.connect("/chat", token("ana")).await;
}

#[tokio::test]
async fn only_listed_origins_are_let_in() {
    let server = Server::dev().start().await;
    let from = |origin: &str| Auth::from(()).header(HeaderName::from_static("origin"), origin);
    server.connect("/", ()).await;
    server.connect("/", from("http://localhost:3000")).await;
    for evil in ["https://evil.example", "http://localhost.evil.example", "null", "http://localhost:3000.evil.example"] {
        match Client::connect(server.address(), "/", from(evil)).await {
            Err(ConnectFailure::Http(403)) => {}
            other => panic!("{evil}: {:?}", other.map(|_| "let in")),
        }
    }

    let polling = server.url("/socket.io/?EIO=4&transport=polling");
    let asked_from = async |origin: &str| server.http().get(&polling).header("origin", origin).send().await.expect("an answer");
    let good = asked_from("http://localhost:3000").await;
    assert_eq!(good.headers()["access-control-allow-origin"], "http://localhost:3000");
    assert_eq!(good.headers()["access-control-allow-credentials"], "true");
    let evil = asked_from("https://evil.example").await;
    assert!(evil.headers().get("access-control-allow-origin").is_none(), "{:?}", evil.headers());
}
