//! Quotas and grants of one plugin. Must never need load: quotas are set low, and a few calls reach each.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Server, fixture, wait};

/// A server with only the hostile plugin, under one quota.
async fn with(key: &str, value: &str) -> Server {
    let server = Server::dev().only(&[]).plugin("hostile", &fixture::hostile().await);
    server.env(&format!("HUBBUB_PLUGINS__HOSTILE__QUOTA__{key}"), value).start().await
}

async fn passed(server: &Server, quota: &str) -> f64 {
    let labels = [("plugin", "hostile"), ("quota", quota)];
    server.metrics().await.get("hubbub_plugin_quota_passed_total", &labels).unwrap_or_default()
}

/// The usage of one quota as the operator sees it.
async fn usage(server: &Server, quota: &str) -> Value {
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", vec![]).await;
    listed["plugins"][0]["quota"][quota].clone()
}

async fn hostile(server: &Server) -> Client {
    server.connect("/hostile", ()).await
}

#[tokio::test]
async fn an_import_without_a_grant_fails_staging_and_names_the_key() {
    let component = fixture::hostile().await;
    let granted = |grants: &str| {
        let server = Server::dev().only(&[]).plugin("hostile", &component);
        server.env("HUBBUB_PLUGINS__HOSTILE__GRANTS", grants)
    };
    let all_but_store = r#"["rooms","emitter","budget","timers","bus","log","metrics","clock","random","config"]"#;
    for answer in [granted(all_but_store).start_failure().await, check(&component, all_but_store)] {
        assert!(answer.contains("hubbub:plugin/store, which is not granted"), "{answer}");
        assert!(answer.contains(r#"add "store" to plugins.hostile.grants"#), "{answer}");
    }
    let answer = granted(r#"["everything"]"#).start_failure().await;
    assert!(answer.contains("plugins.hostile.grants.0") && answer.contains("must be one of"), "{answer}");
    let server = granted(&all_but_store.replace(']', r#","store"]"#)).start().await;
    hostile(&server).await.ask("fine", Value::Null).await;
}

/// The error output of `hubbub check`.
fn check(component: &std::path::Path, grants: &str) -> String {
    let scratch = tests::server::Scratch::new();
    let data = scratch.path().display().to_string();
    let file = component.display().to_string();
    let env = [
        ("JWT_SECRET", "a secret of this test alone, long enough"),
        ("HUBBUB_PLUGINS__HOSTILE__FILE", file.as_str()),
        ("HUBBUB_PLUGINS__HOSTILE__GRANTS", grants),
    ];
    let checked = tests::server::run(&["check", "--data", &data], &env);
    assert!(!checked.status.success());
    String::from_utf8_lossy(&checked.stderr).into_owned()
}

#[tokio::test]
async fn calls_over_the_cpu_quota_wait_or_get_a_retry_time() {
    let server = with("CPU", "0.1").await;
    let mut clients = join_all((0..10).map(|_| hostile(&server))).await;
    // Ten loops of 20 ms use two seconds' worth of a tenth of a core. The next ten calls wait, and later ones would wait too
    // long.
    let refused = wait::until("a call to be refused", wait::DEADLINE, async || {
        let loops = clients.iter_mut().map(async |client| client.ask("loop", Value::Null).await["error"].clone());
        join_all(loops).await.into_iter().find(|error| error["code"] == "rate_limited")
    })
    .await;
    assert!(refused["retryAfterMs"].as_u64().is_some_and(|wait| wait > 1000), "longer than a call waits: {refused}");
    assert!(passed(&server, "cpu").await > 0.0);
    assert!(usage(&server, "cpu").await["used"].as_f64().unwrap() > 0.1, "more than its quota");
    server.logged("the plugin uses more than its quota allows").await;
    wait::eventually("the CPU quota to be available again", async || clients[0].ask("fine", Value::Null).await["calls"].is_u64())
        .await;
}

#[tokio::test]
async fn an_instances_memory_is_limited_by_the_plugins_quota() {
    let server = with("MEMORY", "16777216").await;
    let mut client = hostile(&server).await;
    assert_eq!(client.refused("hide", Value::Null).await.0, "internal");
    assert_eq!(passed(&server, "memory").await, 1.0, "20 MiB are too much");
    server.logged("(quota.memory)").await;
    client.ask("fine", Value::Null).await;
    assert_eq!(usage(&server, "memory").await["quota"], 16_777_216);
}

#[tokio::test]
async fn a_plugin_with_one_instance_serves_one_call_at_a_time() {
    let server = with("INSTANCES", "1").await;
    let mut clients = join_all((0..5).map(|_| hostile(&server))).await;
    wait::eventually("a call to wait for the one instance", async || {
        join_all(clients.iter_mut().map(|client| client.refused("loop", Value::Null))).await;
        passed(&server, "instances").await > 0.0
    })
    .await;
    clients[0].ask("fine", Value::Null).await;
    assert_eq!(usage(&server, "instances").await, json!({"used": 1, "quota": 1}));
}

#[tokio::test]
async fn a_calls_effects_are_limited_by_the_plugins_quota() {
    let server = with("EFFECTS", "9").await;
    let mut client = hostile(&server).await;
    assert_eq!(client.refused("store-more", Value::Null).await.0, "internal", "ten effects are one too many");
    assert_eq!(passed(&server, "effects").await, 1.0);
    server.logged("(quota.effects)").await;
    client.ask("effects", Value::Null).await;
    assert_eq!(usage(&server, "effects").await, json!({"used": 6, "quota": 9}));
}

#[tokio::test]
async fn an_event_over_the_fan_out_quota_is_refused() {
    // 256 emits of 3 KB to two clients are 1.5 MB.
    let server = with("FANOUT_BYTES", "2000000").await;
    let (mut ana, mut bia) = (hostile(&server).await, hostile(&server).await);
    ana.ask("emit-all", Value::Null).await;
    let refused = ana.ask("emit-all", Value::Null).await["error"].clone();
    assert_eq!(refused["code"], "rate_limited");
    assert!((1..=1000).contains(&refused["retryAfterMs"].as_u64().unwrap()), "{refused}");
    for _ in 0..256 {
        bia.next("all").await;
    }
    bia.expect_none("all").await;
    let _third = hostile(&server).await;
    let (code, _) = ana.refused("emit-all", Value::Null).await;
    assert_eq!(code, "too_large", "to three clients it exceeds a whole second's quota");
    assert_eq!(passed(&server, "fanout_bytes").await, 2.0);
}

#[tokio::test]
async fn log_lines_over_the_quota_are_dropped_counted_and_reported() {
    let server = with("LOG_LINES", "5").await;
    let mut client = hostile(&server).await;
    client.refused("flood-log", Value::Null).await;
    assert!(passed(&server, "log_lines").await > 100.0);
    server.logged("the plugin uses more than its quota allows").await;
    let lines = server.log().matches("flood").count();
    assert!((5..=40).contains(&lines), "{lines} lines within a few seconds");
}

#[tokio::test]
async fn a_full_store_refuses_writes_until_something_is_deleted() {
    // Each call appends ten values of 10 KB.
    let mut server = with("STORE_BYTES", "250000").await;
    let mut client = hostile(&server).await;
    for full in [false, false, true] {
        let answer = client.ask("store-more", Value::Null).await["said"].to_string();
        assert_eq!(answer.contains("ValueTooLarge"), full, "{answer}");
    }
    let used = usage(&server, "storeBytes").await["used"].as_u64().unwrap();
    assert!((200_000..=250_000).contains(&used), "{used}");
    server.restart().await;
    let mut client = hostile(&server).await;
    assert!(client.ask("store-more", Value::Null).await["said"].to_string().contains("ValueTooLarge"), "also after a restart");
    assert_eq!(client.ask("store-clear", Value::Null).await["said"], "Ok(())");
    wait::eventually("the store to be measured again", async || client.ask("store-more", Value::Null).await["said"] == "Ok(())")
        .await;
    assert!(passed(&server, "store_bytes").await > 0.0);
}
