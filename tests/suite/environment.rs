//! Configuration by environment variables, as compose files, charts and shells write them. No output may contain a secret.

use std::path::PathBuf;

use tests::server::{Builder, Scratch};
use tests::{Server, fixture, token};

const SECRET: &str = "hunter2, a secret of a test, of forty bytes";

/// `hubbub serve` with only the chat plugin.
async fn serve() -> Builder {
    let chat = fixture::plugins().await["chat"].clone();
    Server::serve_from_environment().plugin("chat", &chat).env("JWT_SECRET", SECRET)
}

#[tokio::test]
async fn no_configuration_error_shows_a_secret() {
    let scratch = Scratch::new();
    let cases: [(&str, String, &str); 14] = [
        ("JWT_SECRET", format!("-----BEGIN PUBLIC KEY-----{SECRET}"), "PEM"),
        ("HUBBUB_AUTH__KEYS", format!("[{{\"secret\": [\"{SECRET}\"]}}]"), "auth.keys.0.secret"),
        ("HUBBUB_AUTH__KEYS", format!("[{{\"jwks_url\": \"http://u:{SECRET}@example.com/\"}}]"), "jwks_url"),
        ("HUBBUB_API__KEYS", format!("[\"{SECRET}\""), "api.keys"),
        ("HUBBUB_API__KEYS__A", SECRET.into(), "api.keys"),
        ("HUBBUB_ADMIN__TOKEN__A", SECRET.into(), "admin.token"),
        ("HUBBUB_ADMIN__TOKENS", SECRET.into(), "HUBBUB_ADMIN__TOKEN?"),
        ("DATABASE_URL", format!("mysql://u:{SECRET}@h/d"), "DATABASE_URL"),
        ("DATABASE_URL", format!("postgres://u:a@{SECRET}@h/d"), "percent-encoded"),
        ("DATABASE_URL", format!("postgres://u:p@h/d?{SECRET}=1"), "percent-encoded"),
        ("HUBBUB_INGEST__REDIS_URL", format!("redis://u:p/{SECRET}@h"), "percent-encoded"),
        ("HUBBUB_KAFKA__PROPERTIES", format!("{{\"sasl.pasword\": \"{SECRET}\"}}"), "sasl.pasword"),
        ("HUBBUB_KAFKA__PROPERTIES", format!("{{\"security.protocol\": \"{SECRET}\"}}"), "security.protocol"),
        ("HUBBUB_PLUGINS__CHAT__CONFIG__MESSAGES_PER_MINUTE", format!("\"{SECRET}\""), "messages_per_minute"),
    ];
    for (variable, value, named) in cases {
        let mut server = serve().await.env(variable, &value);
        if variable.contains("KAFKA") {
            server = server.env("KAFKA_BROKERS", "127.0.0.1:1").env("HUBBUB_EGRESS__KAFKA", "{\"a\": \"b\"}");
        }
        if variable.contains("INGEST") {
            server = server.env("HUBBUB_INGEST__PUBSUB__CHANNELS", "a");
        }
        let printed = server.start_failure().await;
        assert!(printed.contains(named), "{variable}={value}: {printed}");
        for part in ["hunter2", "forty"] {
            assert!(!printed.contains(part), "{variable}: {part} is in {printed}");
        }
    }
    let file = scratch.path().join("hubbub.toml");
    std::fs::write(&file, format!("[admin]\ntoken = \"{SECRET}\n")).expect("a scratch file");
    let printed = Server::serve(&file).env("JWT_SECRET", SECRET).start_failure().await;
    assert!(printed.contains("hubbub.toml: line 2") && !printed.contains("hunter2"), "{printed}");
}

#[tokio::test]
async fn a_variable_that_is_not_utf8_is_named_without_its_value() {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = std::ffi::OsString::from_vec(b"hunter2\xff".to_vec());
    let printed = |name: &str| {
        let output = std::process::Command::new(tests::server::binary()).arg("check").env(name, &bytes).output();
        let output = output.expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in ["JWT_SECRET", "HUBBUB_ADMIN__TOKEN"] {
        let (success, printed) = printed(name);
        assert!(!success && printed.contains(&format!("{name}: it is not UTF-8")) && !printed.contains("hunter2"), "{printed}");
    }
    let (_, printed) = printed("SOMETHING_ELSE");
    assert!(!printed.contains("SOMETHING_ELSE") && !printed.contains("panicked"), "{printed}");
}

#[tokio::test]
async fn numeric_keys_and_single_item_lists_are_accepted() {
    let server = serve().await.env("HUBBUB_API__KEYS", "1234567890123456, 0012345678901234");
    let server = server
        .env("HUBBUB_CORS__ORIGINS", "https://app.example")
        .env("JWT_SECRET", "123456789012345678901234567890123")
        .start()
        .await;
    server.connect("/chat", token("ana").secret("123456789012345678901234567890123")).await;
    for (key, status) in [("1234567890123456", 202), ("0012345678901234", 202), ("12345678901234", 401)] {
        let body = serde_json::json!({"topic": "chat.upserted", "data": {"chatId": "c1", "participants": []}});
        let answer = server.http().post(server.url("/api/publish")).bearer_auth(key).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{key}");
    }
    let page = server.http().get(server.url("/health")).header("origin", "https://app.example").send().await.expect("an answer");
    assert_eq!(page.headers()["access-control-allow-origin"], "https://app.example");
}

#[tokio::test]
async fn misspelt_variables_are_logged_once_and_kubernetes_variables_never() {
    let near = [("HUBBUB_GATEWAY_PING_INTERVAL", "25s"), ("HUBBUB_ADMIN_TOKEN", "x")];
    let injected =
        [("HUBBUB_SERVICE_HOST", "10.0.0.1"), ("HUBBUB_PORT", "tcp://10.0.0.1:4100"), ("HUBBUB_PORT_4100_TCP_ADDR", "10.0.0.1")];
    let mut server = serve().await;
    for (name, value) in near.into_iter().chain(injected) {
        server = server.env(name, value);
    }
    let log = server.start().await.log();
    assert_eq!(log.matches("did you mean HUBBUB_GATEWAY__PING_INTERVAL?").count(), 1, "{log}");
    assert_eq!(log.matches("the server's own is HUBBUB_ADMIN__TOKEN").count(), 1, "{log}");
    assert!(injected.iter().all(|(name, _)| !log.contains(&format!("{name} configures"))), "{log}");
    let printed = serve().await.env("HUBBUB_GATWAY__PING_INTERVAL", "25s").start_failure().await;
    assert!(printed.contains("HUBBUB_GATWAY__PING_INTERVAL"), "{printed}");
}

#[tokio::test]
async fn a_plugin_whose_name_has_a_dash_is_configured_by_a_variable() {
    let folder = Scratch::new();
    let file: PathBuf = folder.path().join("live-polls.wasm");
    std::fs::copy(&fixture::plugins().await["chat"], &file).expect("a scratch file");
    let printed = serve().await.env("HUBBUB_PLUGINS__LIVE_POLLS__FILE", &file.display().to_string()).start_failure().await;
    assert!(printed.contains("plugin live-polls"), "its description names chat: {printed}");
}
