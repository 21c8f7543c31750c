//! Hundreds of releases that clients must not notice, concurrent deployments, and kills at any moment of a deployment. Must never
//! accept an average as the result.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tests::compiler::StoppedCompiler;
use tests::server::{Builder, Scratch};
use tests::{Load, Server, fixture, machine, token, wait};
use tokio::time::timeout;

async fn component(version: &str) -> Vec<u8> {
    std::fs::read(fixture::versioned(version).await).expect("the component was built")
}

async fn server() -> Builder {
    Server::dev().only(&[]).plugin("versioned", &fixture::versioned("1.0.0").await)
}

async fn post(server: &Server, plugin: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    server.admin(Method::POST, &format!("/admin/plugins/{plugin}/{path}"), body).await
}

async fn load(server: &Server, event: &'static str, per_second: u32) -> Load {
    let connecting = (0..10).map(async |n| server.connect("/versioned", token(&format!("u{n}"))).await);
    Load { clients: join_all(connecting).await, event, per_second }
}

async fn version(server: &Server) -> String {
    let mut client = server.connect("/versioned", token("ana")).await;
    client.ask("version", Value::Null).await.as_str().expect("a version").to_owned()
}

fn is_a_version(ack: &Value) {
    assert!(ack == "1.0.0" || ack == "2.0.0", "{ack}");
}

/// Deploys the two builds alternately.
async fn reload(server: &Server, builds: &[Vec<u8>; 2], times: usize) {
    for n in 0..times {
        let (status, answer) = post(server, "versioned", "deploy", builds[n % 2].clone()).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// Lower bound of the quiet p99: shorter latencies vary with the scheduler alone.
const JITTER: Duration = Duration::from_millis(2);

#[tokio::test]
async fn clients_do_not_notice_a_thousand_reloads() {
    const ROUNDS: usize = 4;
    /// The memory that a thousand releases may leave: a leak of 8 KiB each would exceed it.
    const MEMORY: u64 = 8 << 20;
    machine::exclusive();
    let builds = [component("2.0.0").await, component("1.0.0").await];
    let server = server().await.start().await;
    let mut load = load(&server, "version", 500).await;
    load.during(is_a_version, reload(&server, &builds, 50)).await;
    let (memory, files) = (server.resident_bytes(), server.open_files());

    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let ((), quiet) = load.during(is_a_version, tokio::time::sleep(Duration::from_secs(1))).await;
        let ((), reloading) = load.during(is_a_version, reload(&server, &builds, 1000 / ROUNDS)).await;
        ratios.push(reloading.p99().as_secs_f64() / quiet.p99().max(JITTER).as_secs_f64());
    }
    load.expect_no_extra_acks().await;
    assert!(ratios.iter().any(|ratio| *ratio <= 2.0), "p99 during reloads divided by p99 without: {ratios:?}");
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < MEMORY, "{grown} bytes of memory were not freed");
    assert!(server.open_files() <= files + 4, "{} file descriptors, {files} before", server.open_files());
}

#[tokio::test]
async fn different_plugins_are_deployed_concurrently() {
    let server = server().await.start().await;
    let components = [
        ("versioned", fixture::versioned("2.0.0").await),
        ("course", fixture::course().await),
        ("timed", fixture::timed().await),
    ];
    let deploying = components.iter().map(async |(name, file)| {
        let (status, answer) = post(&server, name, "deploy", std::fs::read(file).expect("it was built")).await;
        assert_eq!((status, &answer["state"]), (200, &json!("active")), "{answer}");
    });
    join_all(deploying).await;
    assert_eq!(version(&server).await, "2.0.0");
    server.connect("/timed", token("ana")).await;
}

#[tokio::test]
async fn of_two_concurrent_deployments_of_a_plugin_one_is_refused() {
    let mut server = server().await.start().await;
    // Both are uncached, so the first is still compiling when the second arrives.
    let rivals = [fixture::uncached(&component("2.0.0").await, 1), fixture::uncached(&component("2.0.0").await, 2)];
    let [first, second] = rivals.map(|rival| post(&server, "versioned", "deploy", rival));
    let (first, second) = join(first, second).await;
    let (won, refused) = if first.0 == 200 { (first, second) } else { (second, first) };
    assert_eq!((won.0, refused.0, &refused.1["title"]), (200, 409, &json!("Another deployment is under way")), "{refused:?}");
    server.restart().await;
    assert_eq!(server.store().deployment_history("versioned")["active"], won.1["digest"]);
}

#[tokio::test]
async fn a_rollback_does_not_wait_for_the_compiler() {
    let server = server().await.start().await;
    assert_eq!(post(&server, "versioned", "deploy", component("2.0.0").await).await.0, 200);
    let new = fixture::uncached(&std::fs::read(&fixture::plugins().await["chat"]).expect("it was built"), std::process::id());
    let deploying = post(&server, "chat", "deploy", new);
    let going_back = async {
        let compiler = StoppedCompiler::of(&server).await;
        assert_eq!(post(&server, "versioned", "rollback", Vec::new()).await.1["version"], "1.0.0");
        assert_eq!(version(&server).await, "1.0.0");
        assert!(compiler.is_stopped(), "the compiler ended or ran on, so the test proves nothing");
        compiler.resume();
    };
    let ((status, deployed), ()) = join(deploying, going_back).await;
    assert_eq!((status, &deployed["state"]), (200, &json!("active")), "{deployed}");
}

#[tokio::test]
async fn a_rollback_during_running_calls_loses_none() {
    let server = server().await.start().await;
    let mut load = load(&server, "slow", 200).await;
    let back_and_forth = async {
        for _ in 0..20 {
            assert_eq!(post(&server, "versioned", "deploy", component("2.0.0").await).await.0, 200);
            assert_eq!(post(&server, "versioned", "rollback", Vec::new()).await.0, 200);
        }
    };
    load.during(is_a_version, back_and_forth).await;
    load.expect_no_extra_acks().await;
    assert_eq!(version(&server).await, "1.0.0");
}

/// Asserts that the active and previous releases in the history are stored and that each release is listed once.
fn assert_consistent(server: &Server) {
    let (history, stored) = (server.store().deployment_history("versioned"), server.store().components());
    for needed in ["active", "previous"].map(|which| &history[which]).into_iter().filter(|digest| !digest.is_null()) {
        assert!(stored.iter().any(|digest| needed == digest), "{needed} is not stored: {history}");
    }
    let digests: Vec<_> = history["releases"].as_array().expect("a list").iter().map(|release| &release["digest"]).collect();
    let once: BTreeSet<_> = digests.iter().map(|digest| digest.to_string()).collect();
    assert_eq!(digests.len(), once.len(), "a release is listed twice: {history}");
}

/// Runs one operator's step. Returns the active digest if the answer arrived before `end`.
async fn step(server: &Server, number: u32, end: Duration) -> Option<Value> {
    let new = fixture::uncached(&component(if number.is_multiple_of(2) { "2.0.0" } else { "1.0.0" }).await, number);
    let working = async {
        match number % 4 {
            0 | 1 => post(server, "versioned", "deploy", new).await,
            2 => {
                post(server, "versioned", "deploy?canary=10", new).await;
                post(server, "versioned", "promote", Vec::new()).await
            }
            _ => post(server, "versioned", "rollback", Vec::new()).await,
        }
    };
    timeout(end, working).await.ok().map(|(_, answer)| answer["digest"].clone())
}

#[tokio::test]
async fn a_kill_at_any_moment_keeps_the_active_release() {
    const ROUNDS: u32 = 24;
    let cache = Scratch::new();
    let builder = server().await.env("HUBBUB_SANDBOX__CACHE", &cache.path().display().to_string());
    let mut server = builder.start().await;
    // The duration of the steps, over which the kills are spread.
    let began = Instant::now();
    assert!(step(&server, 0, Duration::from_secs(60)).await.is_some());
    let longest = began.elapsed().as_micros() as u32;
    for round in 1..=ROUNDS {
        // A different moment in each round, which together cover the whole duration.
        let moment = Duration::from_micros(u64::from(longest * (round * 7 % ROUNDS) / ROUNDS) * 5 / 4);
        let answered = step(&server, round, moment).await;
        server.kill9();
        server.start_again().await;
        assert_consistent(&server);
        let active = server.store().deployment_history("versioned")["active"].clone();
        if let Some(digest) = answered.filter(Value::is_string) {
            assert_eq!(active, digest, "round {round}: the deployment was acknowledged");
        }
        let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
        assert_eq!(listed["plugins"][0]["digest"], active, "round {round}: the stored active release serves");
        is_a_version(&json!(version(&server).await));
    }
}

#[tokio::test]
async fn an_aborted_deploy_request_leaves_a_consistent_state() {
    let server = server().await.start().await;
    for round in 0..12 {
        let _hung_up = step(&server, 4 * round, Duration::from_millis(u64::from(round) * 3)).await;
        wait::eventually("the serving release to be the stored one", async || {
            let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
            listed["plugins"][0]["digest"] == server.store().deployment_history("versioned")["active"]
        })
        .await;
    }
    let last = component("2.0.0").await;
    let deploy = async || post(&server, "versioned", "deploy", last.clone()).await.0 == 200;
    wait::eventually("no deployment to be in progress", deploy).await;
    assert_eq!(version(&server).await, "2.0.0");
}
