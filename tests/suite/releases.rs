//! Releases on a live server: canaries, rollbacks, restarts and rejections. Must never disturb connected clients.

use reqwest::Method;
use serde_json::{Value, json};
use tests::server::{ADMIN_TOKEN, Builder, run};
use tests::{Client, Postgres, Server, fixture, token, wait};

/// Two versions of one plugin; the version number chooses what the second one does.
async fn server() -> Builder {
    Server::dev().only(&["chat"]).plugin("versioned", &fixture::versioned("1.0.0").await)
}

async fn post(server: &Server, path: &str, body: Vec<u8>) -> (u16, Value) {
    server.admin(Method::POST, &format!("/admin/plugins/versioned/{path}"), body).await
}

async fn component(version: &str) -> Vec<u8> {
    std::fs::read(fixture::versioned(version).await).expect("the component was built")
}

/// The version that answers a client.
async fn version(client: &mut Client) -> String {
    client.ask("version", Value::Null).await.as_str().expect("a version").to_owned()
}

/// The state of a version in the admin API.
async fn state(server: &Server, version: &str) -> String {
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    let plugins = listed["plugins"].as_array().expect("a list");
    let plugin = plugins.iter().find(|plugin| plugin["name"] == "versioned").expect("the plugin");
    let releases = plugin["releases"].as_array().expect("its releases");
    let found = releases.iter().find(|release| release["version"] == version);
    found.map_or(String::new(), |release| release["state"].as_str().expect("a state").to_owned())
}

#[tokio::test]
async fn a_deployment_is_live_for_the_next_event_and_after_a_restart() {
    let mut server = server().await.start().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    assert_eq!(version(&mut client).await, "1.0.0");
    let (status, answer) = post(&server, "deploy", component("2.0.0").await).await;
    assert_eq!((status, &answer["state"], &answer["version"]), (200, &json!("active"), &json!("2.0.0")));
    assert_eq!(version(&mut client).await, "2.0.0", "on the same socket");

    server.kill9();
    server.start_again().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    assert_eq!(version(&mut client).await, "2.0.0", "the active release, not the configured file");
    assert_eq!(post(&server, "rollback", Vec::new()).await.0, 200);
    assert_eq!(version(&mut client).await, "1.0.0");
    assert_eq!(state(&server, "2.0.0").await, "rolled-back");
    assert_eq!(post(&server, "rollback", Vec::new()).await.0, 409, "no earlier release exists");
}

#[tokio::test]
async fn a_canary_serves_its_share_of_users_consistently() {
    let server = server().await.start().await;
    let (status, answer) = post(&server, "deploy?canary=50", component("2.0.0").await).await;
    assert_eq!((status, &answer["canary"]["percent"]), (200, &json!(50)), "{answer}");
    let mut clients = Vec::new();
    for n in 0..40 {
        clients.push(server.connect("/versioned", token(&format!("u{n}"))).await);
    }
    let mut on_trial = 0;
    for client in &mut clients {
        let first = version(client).await;
        assert_eq!(version(client).await, first, "the same for the same user");
        on_trial += usize::from(first == "2.0.0");
    }
    assert!((8..=32).contains(&on_trial), "{on_trial} of 40 at 50 %");
    assert_eq!(post(&server, "promote", Vec::new()).await.0, 200);
    for client in &mut clients {
        assert_eq!(version(client).await, "2.0.0");
    }
    assert_eq!(post(&server, "promote", Vec::new()).await.0, 409);
}

#[tokio::test]
async fn a_canary_continues_after_a_restart() {
    let mut server = server().await.start().await;
    assert_eq!(post(&server, "deploy?canary=100", component("2.0.0").await).await.0, 200);
    server.restart().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    assert_eq!((version(&mut client).await, state(&server, "2.0.0").await), ("2.0.0".into(), "canary".into()));
    assert_eq!(post(&server, "rollback", Vec::new()).await.0, 200);
    assert_eq!((version(&mut client).await, state(&server, "2.0.0").await), ("1.0.0".into(), "rolled-back".into()));
}

#[tokio::test]
async fn a_canary_ends_when_another_release_goes_live() {
    let mut server = server().await.start().await;
    assert_eq!(post(&server, "deploy?canary=100", component("2.0.0").await).await.0, 200);
    assert_eq!(post(&server, "deploy", component("2.0.1").await).await.0, 200);
    for start in ["first", "second"] {
        let mut client = server.connect("/versioned", token("ana")).await;
        assert_eq!(version(&mut client).await, "2.0.1", "at the {start} start");
        assert_eq!(state(&server, "2.0.0").await, "retired", "at the {start} start");
        server.restart().await;
    }
}

#[tokio::test]
async fn a_canarys_share_is_changed_by_deploying_it_again() {
    let server = server().await.start().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    for (percent, served) in [("100", "2.0.0"), ("1", "1.0.0"), ("100", "2.0.0")] {
        let (status, answer) = post(&server, &format!("deploy?canary={percent}"), component("2.0.0").await).await;
        assert_eq!((status, answer["canary"]["percent"].to_string().as_str()), (200, percent), "{answer}");
        assert_eq!(version(&mut client).await, served, "at {percent} %");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_stored_does_not_take_effect() {
    let mut database = Postgres::start().await;
    let server = server().await.database(&database.empty().await).start().await;
    assert_eq!(post(&server, "deploy?canary=1", component("2.0.0").await).await.0, 200);
    let mut client = server.connect("/versioned", token("ana")).await;
    let killed = database.kill9();
    for change in ["promote", "disable", "rollback"] {
        assert_eq!(post(&server, change, Vec::new()).await.0, 503, "{change}");
        assert_eq!(version(&mut client).await, "1.0.0", "after {change}");
    }
    database.start_again(killed).await;
    wait::eventually("the server to be ready again", async || server.readiness().await.0 == 200).await;
    assert_eq!(post(&server, "deploy", component("2.0.0").await).await.0, 200);
    assert_eq!(version(&mut client).await, "2.0.0");
}

#[tokio::test]
async fn a_failing_canary_is_rolled_back_automatically() {
    let server = server().await.env("HUBBUB_CANARY__CALLS", "20").env("HUBBUB_CANARY__TIME", "1s").start().await;
    let (status, _) = post(&server, "deploy?canary=50", component("2.0.1").await).await;
    assert_eq!(status, 200);
    let mut clients = Vec::new();
    for n in 0..10 {
        clients.push(server.connect("/versioned", token(&format!("u{n}"))).await);
    }
    wait::eventually("the canary to be rolled back", async || {
        for client in &mut clients {
            client.ask("work", Value::Null).await;
        }
        state(&server, "2.0.1").await == "rolled-back"
    })
    .await;
    for client in &mut clients {
        assert_eq!(version(client).await, "1.0.0");
    }
}

#[tokio::test]
async fn a_failing_release_is_quarantined() {
    let tight = [("BREAKER__FAILURES", "5"), ("BREAKER__WAIT", "50ms"), ("BREAKER__QUARANTINE", "2")];
    let builder = tight.iter().fold(server().await, |builder, (key, value)| builder.env(&format!("HUBBUB_{key}"), value));
    let server = builder.start().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    assert_eq!(post(&server, "deploy", component("2.0.2").await).await.0, 200);
    for _ in 0..20 {
        client.ask("work", Value::Null).await;
    }
    assert_eq!(state(&server, "2.0.2").await, "active", "one user alone cannot quarantine a release");
    let mut others = [server.connect("/versioned", token("bia")).await, server.connect("/versioned", token("caio")).await];
    wait::eventually("the previous version to serve again", async || {
        for client in others.iter_mut().chain([&mut client]) {
            client.ask("work", Value::Null).await;
        }
        // The history is stored before the release is swapped.
        state(&server, "2.0.2").await == "quarantined" && client.ask("version", Value::Null).await == "1.0.0"
    })
    .await;
    assert_eq!(client.ask("work", Value::Null).await, json!({}));
}

#[tokio::test]
async fn a_rejected_deployment_is_explained_and_changes_nothing() {
    let server = server().await.start().await;
    let mut client = server.connect("/versioned", token("ana")).await;
    let chat = std::fs::read(&fixture::plugins().await["chat"]).expect("the component was built");
    let whole = component("2.0.0").await;
    let cases = [
        ("a truncated file", whole[..whole.len() / 2].to_vec(), "compile"),
        ("no component", b"text".to_vec(), "magic bytes"),
        ("another plugin", chat, "describes itself as chat"),
        ("other data", component("3.0.0").await, "data version"),
    ];
    for (what, bytes, why) in cases {
        let (status, problem) = post(&server, "deploy", bytes).await;
        assert!((400..500).contains(&status), "{what}: {status}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{what}: {problem}");
        assert_eq!(version(&mut client).await, "1.0.0", "{what}");
    }
    assert_eq!(post(&server, "deploy?canary=0", whole.clone()).await.0, 400);
    let (_, problem) = server.admin(Method::POST, "/admin/plugins/egress-kafka/deploy", whole).await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("the server's own")), "{problem}");
    assert_eq!(server.admin(Method::POST, "/admin/plugins/nobody/rollback", Vec::new()).await.0, 404);
}

#[tokio::test]
async fn only_signed_components_are_deployed_if_required() {
    let scratch = tests::server::Scratch::new();
    let (key, file) = (scratch.path().join("key.pem"), scratch.path().join("versioned.wasm"));
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    std::fs::write(&key, pem).expect("a scratch file");
    std::fs::write(&file, component("2.0.0").await).expect("a scratch file");
    let (key, path) = (key.display().to_string(), file.display().to_string());
    let signed = run(&["plugin", "sign", &path, "--key", &key], &[]);
    let public = String::from_utf8_lossy(&signed.stdout).trim().to_owned();
    assert!(signed.status.success() && !public.is_empty(), "{}", String::from_utf8_lossy(&signed.stderr));

    let builder = Server::dev().only(&[]).plugin("versioned", &file).env("HUBBUB_SIGNATURE__KEYS", &format!("[{public:?}]"));
    let server = builder.start().await;
    let (status, problem) = post(&server, "deploy", component("1.0.0").await).await;
    assert_eq!((status, problem["detail"].as_str().is_some_and(|why| why.contains("not signed"))), (403, true), "{problem}");
    let deploy = ["deploy", "versioned", &path, "--url", &server.admin_url(""), "--token", ADMIN_TOKEN];
    assert!(run(&deploy, &[]).status.success(), "with its signature beside it");
}

#[tokio::test]
async fn diff_reports_changes_between_two_components() {
    let (old, new) = (fixture::versioned("1.0.0").await, fixture::versioned("3.0.0").await);
    let output = run(&["plugin", "diff", &old.display().to_string(), &new.display().to_string()], &[]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("versioned 1.0.0 -> versioned 3.0.0") && report.contains("data version 1 -> 2"), "{report}");
    assert!(report.contains("It may not replace it"), "{report}");
}
