//! Door policies changed by configuration: roles, claims and sentences. Must never depend on a policy that another test has
//! changed.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use tests::server::{Scratch, run};
use tests::{Server, fixture, token};

use crate::helpers::user;

const SECRET: &str = "a test secret, of just forty characters.";

/// The door policy of a namespace in the AsyncAPI document.
async fn documented(server: &Server, channel: &str) -> Value {
    server.get("/asyncapi.json").await.1["channels"][channel]["x-door"].clone()
}

#[tokio::test]
async fn configured_roles_claims_and_sentences_replace_the_plugins() {
    let hub = r#"{"/hub" = {roles = [], missing = "Who are you?", invalid = "Not you"}}"#;
    let chat = r#"{"/chat" = {roles = ["TEACHER"], claims = ["school"], forbidden = "Teachers only"}}"#;
    let server = Server::dev().env("HUBBUB_PLUGINS__THREADS__DOORS", hub).env("HUBBUB_PLUGINS__CHAT__DOORS", chat).start().await;
    for of_any_role in [user("ana"), user("ana").role("CUSTOMER"), user("ana").role("ATTENDANT")] {
        server.connect("/hub", of_any_role).await;
    }
    assert_eq!(server.connect_refused("/hub", ()).await, "Who are you?");
    assert_eq!(server.connect_refused("/hub", "nonsense").await, "Not you");

    let teacher = || user("bia").role("TEACHER");
    server.connect("/chat", teacher().claim("school", "north")).await;
    assert_eq!(server.connect_refused("/chat", teacher()).await, "Invalid token", "without the claim");
    assert_eq!(server.connect_refused("/chat", user("ana").role("STUDENT").claim("school", "north")).await, "Teachers only");
    assert_eq!(server.connect_refused("/chat", ()).await, "Authentication error", "the plugin's own sentence");
    // Other door policies are unchanged.
    assert_eq!(server.connect_refused("/portal", ()).await, "Token invalido");

    let door = documented(&server, "Hub").await;
    assert_eq!(
        (&door["roles"], &door["missing"], &door["forbidden"]),
        (&json!([]), &json!("Who are you?"), &json!("Token invalido"))
    );
    let door = documented(&server, "Chat").await;
    assert_eq!((&door["roles"], &door["claims"]), (&json!(["TEACHER"]), &json!(["school"])));
    let page = server.http().get(server.url("/docs")).send().await.expect("an answer").text().await.expect("a page");
    assert!(page.contains("Who are you?") && page.contains("One of the roles TEACHER is needed"), "{page}");
}

#[tokio::test]
async fn settings_apply_to_plugins_that_took_over_data_with_a_warning() {
    let doors = r#"{"/hub" = {roles = []}, "/portal" = {missing = "Who are you?"}, "/chat" = {missing = "No token"}}"#;
    let all = Server::dev().only(&["chat", "threads", "crm", "conversations"]);
    let with = |plugin: &str, key: &str, value: &str| all.clone().env(&format!("HUBBUB_PLUGINS__{plugin}__{key}"), value);
    let server = with("CHAT", "DOORS", doors).env("HUBBUB_PLUGINS__CHAT__QUOTA", "{log_lines = 7}").start().await;
    server.connect("/hub", user("ana")).await;
    assert_eq!(
        (server.connect_refused("/portal", ()).await, server.connect_refused("/chat", ()).await),
        ("Who are you?".into(), "No token".into())
    );
    server.logged(r#"plugins.chat.doors."/hub" applies to the plugin threads"#).await;
    server.logged(r#"write it as [plugins.threads.doors."/hub"]"#).await;
    server.logged("write what crm may use as [plugins.crm.quota]").await;
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    for plugin in listed["plugins"].as_array().expect("a list") {
        assert_eq!(plugin["quota"]["logLines"]["quota"], 7, "{plugin}");
    }
    // A plugin's own door setting takes precedence; then the same door under the other plugin is an error.
    let own = with("THREADS", "DOORS", r#"{"/hub" = {roles = ["X"]}}"#);
    let own = own.env("HUBBUB_PLUGINS__CHAT__DOORS", r#"{"/hub" = {roles = []}}"#);
    let refusal = own.start_failure().await;
    assert!(refusal.contains(r#"use plugins.threads.doors."/hub""#), "{refusal}");
    let refusal =
        with("CHAT", "GRANTS", r#"["store", "rooms", "emitter", "budget", "log", "clock", "config"]"#).start_failure().await;
    assert!(refusal.contains("hubbub:plugin/bus") && refusal.contains("plugins.chat.grants"), "{refusal}");
}

#[tokio::test]
async fn a_configured_door_survives_deployments_and_restarts() {
    let door = r#"{"/versioned" = {roles = ["TESTER"], forbidden = "Testers only"}}"#;
    let builder = Server::dev().only(&["chat"]).plugin("versioned", &fixture::versioned("1.0.0").await);
    let mut server = builder.env("HUBBUB_PLUGINS__VERSIONED__DOORS", door).start().await;
    let holds = async |server: &Server, version: &str| {
        let mut client = server.connect("/versioned", token("ana").role("TESTER")).await;
        assert_eq!(client.ask("version", Value::Null).await, version);
        assert_eq!(server.connect_refused("/versioned", token("ana")).await, "Testers only");
        assert_eq!(documented(server, "Versioned").await["roles"], json!(["TESTER"]));
    };
    let component = std::fs::read(fixture::versioned("2.0.0").await).expect("the component was built");
    holds(&server, "1.0.0").await;
    let (status, answer) = server.admin(Method::POST, "/admin/plugins/versioned/deploy", component).await;
    assert_eq!(status, 200, "{answer}");
    holds(&server, "2.0.0").await;
    server.restart().await;
    holds(&server, "2.0.0").await;
    let (status, answer) = server.admin(Method::POST, "/admin/plugins/versioned/rollback", Vec::new()).await;
    assert_eq!(status, 200, "{answer}");
    holds(&server, "1.0.0").await;
}

/// A configuration with plugins that share namespaces and with a door setting.
async fn configuration(scratch: &Scratch, door: &str) -> PathBuf {
    let (file, plugins) = (scratch.path().join("hubbub.toml"), fixture::plugins().await);
    let plugin = |name: &str| format!("[plugins.{name}]\nfile = {:?}\n", plugins[name].display().to_string());
    let all = ["chat", "crm", "presence", "threads"].map(plugin).concat() + door + "\n";
    std::fs::write(&file, all).expect("a scratch file");
    file
}

#[tokio::test]
async fn check_and_serve_refuse_an_unknown_door_by_name() {
    let scratch = Scratch::new();
    let data = scratch.path().join("data").display().to_string();
    let door = |plugin: &str, namespace: &str, key: &str| format!("[plugins.{plugin}.doors.{namespace:?}]\n{key}");
    let cases = [
        (door("threads", "/hubb", "roles = []"), [r#"plugins.threads.doors."/hubb""#, r#""/hub""#]),
        (door("presence", "/hub", "roles = []"), [r#"plugins.presence.doors."/hub""#, "plugins.threads.doors"]),
        (door("threads", "/hub", "role = []"), ["role", "roles"]),
        (door("threads", "/hub", "token = \"optional\""), ["token", "forbidden"]),
        (door("threads", "/hub", "roles = \"ADMIN\""), [r#"doors."/hub".roles"#, "list"]),
        (door("threads", "/hub", "roles = [\"\"]"), [r#"plugins.threads.doors."/hub""#, "is empty"]),
        (door("threads", "/hub", &format!("missing = {:?}", "x".repeat(1025))), [r#"plugins.threads.doors."/hub""#, "1 KiB"]),
    ];
    for (door, output) in &cases {
        let file = configuration(&scratch, door).await;
        let checked = run(&["check", "--config", &file.display().to_string(), "--data", &data], &[("JWT_SECRET", SECRET)]);
        let error = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && output.iter().all(|output| error.contains(output)), "expected {output:?}: {error}");
    }
    for (door, output) in &cases[..2] {
        let refusal = Server::serve(&configuration(&scratch, door).await).env("JWT_SECRET", SECRET).start_failure().await;
        assert!(output.iter().all(|output| refusal.contains(output)), "expected {output:?}: {refusal}");
    }
    let good = configuration(&scratch, &door("threads", "/hub", "roles = []\nclaims = [\"team\"]")).await;
    let checked = run(&["check", "--config", &good.display().to_string(), "--data", &data], &[("JWT_SECRET", SECRET)]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn a_release_without_a_configured_namespace_is_not_deployed() {
    let builder = Server::dev().only(&["chat"]).plugin("versioned", &fixture::versioned("1.0.0").await);
    let refusal = builder.clone().env("HUBBUB_PLUGINS__VERSIONED__DOORS", r#"{"/chat" = {roles = []}}"#).start_failure().await;
    assert!(refusal.contains("plugins.chat.doors"), "{refusal}");
    let refusal = builder.clone().env("HUBBUB_PLUGINS__NOBODY__DOORS", r#"{"/chat" = {roles = []}}"#).start_failure().await;
    assert!(refusal.contains("no plugin nobody is deployed"), "{refusal}");
    let owners = Server::dev().only(&["chat", "crm", "threads"]);
    let server = owners.env("HUBBUB_PLUGINS__THREADS__DOORS", r#"{"/hub" = {roles = []}}"#).start().await;
    let component = std::fs::read(fixture::plugins().await["presence"].clone()).expect("the component was built");
    let (status, answer) = server.admin(Method::POST, "/admin/plugins/presence/deploy", component).await;
    assert_eq!(status, 200, "a plugin that shares the namespace is accepted: {answer}");
    server.connect("/hub", user("ana")).await;
}
