//! Starting the server, and what it refuses to start with. A server that refuses must never have bound a port.

use std::path::PathBuf;

use serde_json::json;
use tests::server::{Builder, Scratch, run};
use tests::{Server, fixture, token};

const SECRET: &str = "a test secret, of just forty characters.";

/// Writes a configuration file with the chat plugin and `more`.
async fn configuration(scratch: &Scratch, more: &str) -> PathBuf {
    let file = scratch.path().join("hubbub.toml");
    let chat = &fixture::plugins().await["chat"];
    std::fs::write(&file, format!("{more}\n[plugins.chat]\nfile = {:?}\n", chat.display().to_string())).expect("a scratch file");
    file
}

async fn serve(scratch: &Scratch, more: &str) -> Builder {
    Server::serve(&configuration(scratch, more).await).env("JWT_SECRET", SECRET)
}

#[tokio::test]
async fn serve_starts_with_configured_keys_and_accepts_no_dev_secrets() {
    let scratch = Scratch::new();
    let server = serve(&scratch, "[api]\nkeys = [\"another key, of a test\"]").await.start().await;
    server.connect("/chat", token("ana").secret(SECRET)).await;
    assert_eq!(server.connect_refused("/chat", token("ana")).await, "Invalid token", "signed with the dev secret");
    assert_eq!(server.api("/api/publish", &json!({"topic": "chat.upserted", "data": {}})).await.0, 401, "the dev API key");
    let (status, _) = server.admin(reqwest::Method::GET, "/admin/plugins", Vec::new()).await;
    assert_eq!(status, 401, "the dev admin token");
    let demo = server.http().post(server.url("/demo/enter")).json(&json!({"name": "Ana"})).send().await.expect("an answer");
    assert!(!demo.status().is_success(), "the demo page must not give out tokens");
}

#[tokio::test]
async fn serve_refuses_unsafe_or_unknown_settings_with_a_reason() {
    let scratch = Scratch::new();
    let cases = [
        (serve(&scratch, "").await.env("JWT_SECRET", ""), "JWT_SECRET"),
        (serve(&scratch, "").await.env("JWT_SECRET", "dev-secret"), "dev-secret"),
        (serve(&scratch, "").await.env("JWT_SECRET", "7-bytes"), "JWT_SECRET has a secret of 7 bytes"),
        (serve(&scratch, "").await.env("HUBBUB_ADMIN__TOKEN", "fifteen-bytes-x"), "admin.token has less than 16 bytes"),
        (
            serve(&scratch, "").await.env("HUBBUB_ADMIN__TOKEN", "dev-admin-token"),
            "admin.token is the public default of `hubbub dev`",
        ),
        (serve(&scratch, "").await.env("HUBBUB_API__KEYS", "fifteen-bytes-x"), "api.keys.0 has less than 16 bytes"),
        (serve(&scratch, "").await.env("HUBBUB_API__KEYS", "dev-api-key"), "api.keys.0 is the public default of `hubbub dev`"),
        (serve(&scratch, "").await.env("HUBBUB_GATEWAY__MAX_PAYLAOD", "1"), "max_paylaod"),
        (serve(&scratch, "").await.env("HUBBUB_GATEWAY__MAX_PAYLOAD", "many"), "max_payload"),
        (serve(&scratch, "").await.env("HUBBUB_SHUTDOWN__SPREAD", "1m"), "shutdown.deadline"),
        (serve(&scratch, "").await.env("HUBBUB_ADMISSION__TRUSTED_PROXIES", "[\"10.0.0.0/33\"]"), "10.0.0.0/33"),
        (serve(&scratch, "").await.env("REDIS_URL", "redis://127.0.0.1:1"), "REDIS_URL"),
        (serve(&scratch, "").await.bridged(), "redis.url"),
        (
            serve(&scratch, "").await.database(&format!("postgres://u:{SECRET}@127.0.0.1:1/d")),
            "d at 127.0.0.1:1 cannot be reached",
        ),
        (serve(&scratch, "").await.database(&format!("mysql://u:{SECRET}@h/d")), "DATABASE_URL"),
        (serve(&scratch, "").await.env("HUBBUB_CORS__ORIGINS", "[\"no origin\"]"), "no origin"),
        (serve(&scratch, "").await.plugin_config("chat", "messages_per_minuet", "3"), "messages_per_minuet"),
        (serve(&scratch, "").await.plugin("absent", &scratch.path().join("absent.wasm")), "absent"),
    ];
    for (server, why) in cases {
        let printed = server.start_failure().await;
        assert!(printed.contains(why), "expected {why}: {printed}");
        assert!(!printed.contains(SECRET), "a secret is in {printed}");
    }
    for (more, why) in [("[gatway]\n", "gatway"), ("[gateway]\nmax_paylaod = 1", "max_paylaod"), ("[gateway\n", "hubbub.toml")] {
        let printed = Server::serve(&configuration(&scratch, more).await).env("JWT_SECRET", SECRET).start_failure().await;
        assert!(printed.contains(why), "expected {why}: {printed}");
    }
    let printed = Server::serve(&scratch.path().join("nowhere.toml")).env("JWT_SECRET", SECRET).start_failure().await;
    assert!(printed.contains("nowhere.toml"), "{printed}");
}

#[tokio::test]
async fn serve_refuses_a_file_that_is_not_a_plugin() {
    let scratch = Scratch::new();
    let bad: [(&str, &[u8]); 4] =
        [("empty", b""), ("text", b"not a component"), ("module", b"\0asm\x01\0\0\0"), ("component", b"\0asm\x0d\0\x01\0")];
    for (name, bytes) in bad {
        let file = scratch.path().join(format!("{name}.wasm"));
        std::fs::write(&file, bytes).expect("a scratch file");
        let printed = serve(&scratch, "").await.plugin(name, &file).start_failure().await;
        assert!(printed.contains(name), "{name}: {printed}");
    }
    let hostile = fixture::hostile().await;
    let printed = serve(&scratch, "")
        .await
        .plugin("hostile", &hostile)
        .plugin_config("hostile", "evil", "init-refuse")
        .start_failure()
        .await;
    assert!(printed.contains("I will not start"), "{printed}");
}

#[tokio::test]
async fn check_reports_what_serve_would_and_exits() {
    let scratch = Scratch::new();
    let file = configuration(&scratch, "").await.display().to_string();
    let data = scratch.path().join("data").display().to_string();
    let good = run(&["check", "--config", &file, "--data", &data], &[("JWT_SECRET", SECRET)]);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let bad = run(&["check", "--config", &file, "--data", &data], &[("JWT_SECRET", "dev-secret")]);
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("dev-secret"));
}

#[tokio::test]
async fn a_printed_token_is_accepted_by_the_dev_server() {
    let server = Server::dev().start().await;
    let print = |args: &[&str]| {
        let output = run(&[&["token"], args].concat(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a token is text").trim().to_owned()
    };
    let all = print(&["--sub", "u1", "--name", "Ana", "--role", "ADMIN", "--tenant", "t1", "--claim", "plan=pro", "--ttl", "1h"]);
    server.connect("/chat", all.as_str()).await;
    server.connect("/chat", print(&["--sub", "u1"]).as_str()).await;
    let other = run(&["token", "--sub", "u1"], &[("JWT_SECRET", SECRET)]);
    let other = String::from_utf8(other.stdout).expect("a token is text");
    assert_eq!(server.connect_refused("/chat", other.trim()).await, "Invalid token", "signed with JWT_SECRET");
    assert!(!run(&["token"], &[]).status.success(), "a token without a subject");
}

#[tokio::test]
async fn a_public_key_is_never_used_as_an_hmac_secret() {
    let keys = tests::package_dir().join("fixtures/keys");
    let public = keys.join("rsa-public.pem");
    let configured = format!("[{{ public_key_file = {:?}, alg = \"RS256\" }}]", public.display().to_string());
    let server = Server::dev().env("HUBBUB_AUTH__KEYS", &configured).start().await;
    let genuine = std::fs::read_to_string(keys.join("rsa-token.txt")).expect("a token signed with the private key");
    server.connect("/chat", genuine.trim()).await;
    let pem = std::fs::read_to_string(&public).expect("the public key");
    for secret in [pem.as_str(), pem.trim()] {
        for alg in ["HS256", "RS256"] {
            let forged = token("ana").secret(secret).header("alg", alg).sign();
            assert_eq!(server.connect_refused("/chat", forged.as_str()).await, "Invalid token", "{alg}");
        }
    }
    assert_eq!(server.connect_refused("/chat", token("ana")).await, "Invalid token", "the dev secret is not accepted any more");
}

#[tokio::test]
async fn sigterm_ends_the_server_with_success() {
    let mut server = Server::dev().start().await;
    let mut ana = server.connect("/", ()).await;
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!(ana.ended().await, tests::client::End::Closed, "without a disconnect packet, so that clients reconnect");
}
