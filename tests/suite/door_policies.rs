//! Door policies: which clients each namespace accepts, and the sentence of a refusal. Must never send an event, because only the
//! policy is tested.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName};
use serde_json::json;
use tests::client::ConnectFailure;
use tests::{Auth, Client, Server, fixture, token};

#[tokio::test]
async fn each_namespace_has_its_own_door_and_sentences() {
    let server = Server::dev().start().await;
    assert_eq!(server.connect_refused("/chat", ()).await, "Authentication error");
    assert_eq!(server.connect_refused("/chat", "nonsense").await, "Invalid token");
    assert_eq!(server.connect_refused("/", "nonsense").await, "Invalid token");
    server.connect("/", ()).await;
    server.connect("/", token("ana")).await;
    server.connect("/chat", token("ana")).await;
    // One token is one user in every namespace: only the namespace's policy decides.
    let sentence = server.connect_refused("/nobody-owns-this", token("ana")).await;
    assert_eq!(sentence, "Invalid namespace", "the sentence of stock servers");
}

#[tokio::test]
async fn an_empty_token_is_missing_and_a_non_string_is_invalid() {
    let server = Server::dev().start().await;
    for none in [json!({}), json!({"token": ""}), json!({"token": null}), json!({"other": 1})] {
        assert_eq!(server.connect_refused("/chat", none.clone()).await, "Authentication error", "{none}");
    }
    for bad in [json!({"token": 7}), json!({"token": {"a": 1}}), json!({"token": ["x"]}), json!({"token": true})] {
        assert_eq!(server.connect_refused("/chat", bad.clone()).await, "Invalid token", "{bad}");
    }
}

#[tokio::test]
async fn a_bearer_header_is_accepted_and_the_auth_object_takes_precedence() {
    let server = Server::dev().start().await;
    server.connect("/chat", Auth::bearer(&token("ana"))).await;
    let bad_header = |auth: Auth| auth.header(AUTHORIZATION, "Bearer nonsense");
    assert_eq!(server.connect_refused("/chat", bad_header(().into())).await, "Invalid token");
    server.connect("/chat", bad_header(token("ana").into())).await;
}

#[tokio::test]
async fn namespace_names_must_match_exactly() {
    let server = Server::dev().start().await;
    for odd in ["/chat/", "/Chat", "/chat//", "/chat%00", "/..", "/chat/../chat"] {
        match Client::connect(server.address(), odd, token("ana")).await {
            Err(ConnectFailure::Refused(_) | ConnectFailure::Closed) => {}
            other => panic!("{odd}: {:?}", other.map(|_| "accepted")),
        }
    }
    let long = format!("/{}", "x".repeat(20_000));
    assert!(Client::connect(server.address(), &long, token("ana")).await.is_err());
    server.connect("/chat", token("ana")).await;
}

#[tokio::test]
async fn only_configured_origins_are_accepted() {
    let server = Server::dev().start().await;
    let from = |origin: &str| Auth::from(()).header(HeaderName::from_static("origin"), origin);
    server.connect("/", ()).await;
    server.connect("/", from("http://localhost:3000")).await;
    for foreign in ["https://evil.example", "http://localhost.evil.example", "null", "http://localhost:3000.evil.example"] {
        match Client::connect(server.address(), "/", from(foreign)).await {
            Err(ConnectFailure::Http(403)) => {}
            other => panic!("{foreign}: {:?}", other.map(|_| "accepted")),
        }
    }

    let polling = server.url("/socket.io/?EIO=4&transport=polling");
    let asked_from = async |origin: &str| server.http().get(&polling).header("origin", origin).send().await.expect("an answer");
    let good = asked_from("http://localhost:3000").await;
    assert_eq!(good.headers()["access-control-allow-origin"], "http://localhost:3000");
    assert_eq!(good.headers()["access-control-allow-credentials"], "true");
    let foreign = asked_from("https://evil.example").await;
    assert!(foreign.headers().get("access-control-allow-origin").is_none(), "{:?}", foreign.headers());
}

#[tokio::test]
async fn configured_origins_of_apps_and_desktop_shells_are_accepted() {
    let named = [
        "https://app.example",
        "capacitor://localhost",
        "ionic://localhost",
        "app://-",
        "chrome-extension://abcdef",
        "file://",
        "null",
    ];
    let list = serde_json::to_string(&named).expect("a list");
    let server = Server::dev().env("HUBBUB_CORS__ORIGINS", &list).start().await;
    let polling = server.url("/socket.io/?EIO=4&transport=polling");
    let from = |origin: &str| Auth::from(()).header(HeaderName::from_static("origin"), origin);
    for origin in named {
        let answer = server.http().get(&polling).header("origin", origin).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{origin}");
        may_read(&answer, origin);
        let preflight = server.http().request(Method::OPTIONS, &polling).header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "POST");
        let answer = preflight.header("access-control-request-headers", "content-type").send().await.expect("an answer");
        assert!(answer.status().is_success(), "{origin}: {}", answer.status());
        may_read(&answer, origin);
        let connected = Client::connect(server.address(), "/", from(origin)).await;
        assert!(connected.is_ok(), "{origin}: {:?}", connected.err());
    }
    for other in
        ["capacitor://localhost:81", "ionic://other", "app://x", "chrome-extension://other", "http://localhost", "file:///x"]
    {
        let answer = server.http().get(&polling).header("origin", other).send().await.expect("an answer");
        assert_eq!(answer.status(), 403, "{other}");
        assert!(answer.headers().get("access-control-allow-origin").is_none(), "{other}");
        assert_eq!(Client::connect(server.address(), "/", from(other)).await.err(), Some(ConnectFailure::Http(403)), "{other}");
    }
}

/// Asserts that a browser lets a page of that origin read the answer.
fn may_read(answer: &reqwest::Response, origin: &str) {
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text"));
    assert_eq!(header("access-control-allow-origin"), Some(origin), "the exact origin, not a wildcard");
    assert_eq!(header("access-control-allow-credentials"), Some("true"), "{origin}");
    assert!(header("vary").is_some_and(|vary| vary.to_lowercase().contains("origin")), "{origin}");
}

#[tokio::test]
async fn dev_accepts_every_loopback_origin() {
    let server = Server::dev().start().await;
    for origin in ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8080", "http://0.0.0.0:5173", "http://0.0.0.0"]
    {
        let auth = Auth::from(()).header(HeaderName::from_static("origin"), origin);
        let connected = Client::connect(server.address(), "/", auth).await;
        assert!(connected.is_ok(), "{origin}: {:?}", connected.err());
    }
}

#[tokio::test]
async fn check_accepts_app_origins_and_names_an_invalid_one() {
    fixture::plugins().await;
    let plugins = tests::checkout_dir().join("target/plugins").display().to_string();
    let data = std::env::temp_dir().join(format!("hubbub-origins-{}", std::process::id()));
    let check = |origins: &str| {
        let secret = "a-secret-of-more-than-32-bytes-for-this-test";
        let env = [("HUBBUB_CORS__ORIGINS", origins), ("JWT_SECRET", secret), ("HUBBUB_SERVER__PLUGINS", &plugins)];
        let out = tests::server::run(&["check", "--data", &data.to_string_lossy()], &env);
        (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let (fine, output) = check(r#"["https://app.example", "capacitor://localhost", "file://", "null", "app://-"]"#);
    assert!(fine, "{output}");
    let (fine, output) = check(r#"["capacitor://"]"#);
    assert!(!fine && output.contains("cors.origins") && output.contains("`capacitor://`"), "{output}");
    let _ = std::fs::remove_dir_all(data);
}
