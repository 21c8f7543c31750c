//! Recording calls, replaying them, and running a shadow on them. Clients must never notice it.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tests::recording::Recording;
use tests::server::{ADMIN_TOKEN, Builder, run};
use tests::{Client, Server, fixture, token, wait};

use crate::helpers::{member, open_chat, say as say_in_chat};

async fn versioned() -> Builder {
    Server::dev().only(&[]).plugin("versioned", &fixture::versioned("1.0.0").await)
}

/// Sends a message, receives it, and returns its number.
async fn say(client: &mut Client, text: &str) -> Value {
    let number = client.ask("say", json!({"content": text})).await;
    assert_eq!(client.next("said").await, json!({"content": text}));
    number
}

/// Replays a file and returns the exit code and the report.
fn replay(file: &str, with: &Path, more: &[&str]) -> (i32, Value) {
    let with = with.display().to_string();
    let args = [&["replay", file, "--with", &with, "--json"], more].concat();
    let output = run(&args, &[]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {printed}"));
    (output.status.code().expect("it exits"), report)
}

/// Records one client that sends three messages to version 1.0.0.
async fn record_three_messages(server: &Server) -> Recording {
    let mut recording = Recording::begin(server, "versioned", "for=60s").await;
    let mut ana = server.connect("/versioned", token("ana")).await;
    for text in ["one", "two", "three"] {
        say(&mut ana, text).await;
    }
    recording.until("the third call", |line| line["outcome"]["ok"] == "3").await;
    recording
}

async fn deploy(server: &Server, how: &str, version: &str) -> (u16, Value) {
    let component = std::fs::read(fixture::versioned(version).await).expect("the component was built");
    server.admin(Method::POST, &format!("/admin/plugins/versioned/deploy{how}"), component).await
}

async fn plugin(server: &Server) -> Value {
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    listed["plugins"][0].clone()
}

/// The shadow's counters once it has run this many calls.
async fn shadow_after(server: &Server, calls: u64) -> Value {
    wait::until("the shadow to run", wait::DEADLINE, async || {
        let counters = plugin(server).await["shadow"]["counters"].take();
        (counters["calls"].as_u64()? >= calls).then_some(counters)
    })
    .await
}

#[tokio::test]
async fn a_chat_recording_hides_texts_and_replays_the_same() {
    let server = Server::dev().only(&["chat"]).start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut recording = Recording::begin(&server, "chat", "for=60s&sample=100").await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    say_in_chat(&mut ana, "c1", "meet me behind the old mill").await;
    assert_eq!(bia.next("chat:message").await["content"], "meet me behind the old mill");
    recording.until("the message", |line| line["event"]["name"] == "chat:message").await;

    for hidden in ["behind", "the old mill", "ana@", "eyJ"] {
        assert!(!recording.text().contains(hidden), "{hidden}: {}", recording.text());
    }
    let chat = &fixture::plugins().await["chat"];
    let (code, report) = replay(&recording.file(), chat, &["--against", &chat.display().to_string()]);
    assert_eq!((code, &report["same"], &report["found"]), (0, &json!(true), &json!([])), "{report}");
    assert!(report["all"]["calls"].as_u64().is_some_and(|calls| calls >= 3), "{report}");
    let (code, report) = replay(&recording.file(), chat, &[]);
    assert_eq!((code, &report["same"], &report["found"]), (0, &json!(true), &json!([])), "compared with the recording: {report}");
}

/// Records a session of each product without texts; replaying it on the same build gives the same results.
#[tokio::test]
async fn every_plugin_replays_its_own_recording_identically() {
    let server = Server::dev().without_message_limit().start().await;
    let plugins = ["chat", "notifications", "lessons", "presence", "video"];
    let mut recordings = Vec::new();
    for plugin in plugins {
        recordings.push(Recording::begin(&server, plugin, "for=60s").await);
    }
    open_chat(&server, "c1", &["ana.silva@mill.example", "bia"]).await;
    let who =
        |id: &str| token(id).name(&crate::helpers::name(id)).claim("image", "https://mill.example/a.png").claim("plan", "gold");
    let mut ana = server.connect("/chat", who("ana.silva@mill.example")).await;
    crate::helpers::join(&mut ana, "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    say_in_chat(&mut ana, "c1", "Meet me behind the <b>old mill</b> at 9, call 06 12 34 56 78 <script>evil()</script> & é").await;
    let id = bia.next("chat:message").await["id"].clone();
    assert!(id.is_string());
    bia.ask("chat:read", json!({"chatId": "c1"})).await;
    bia.ask("chat:typing", json!({"chatId": "c1"})).await;
    bia.ask("chat:history", json!({"chatId": "c1", "limit": 10})).await;
    bia.ask("chat:leave", json!({"chatId": "c1"})).await;
    let mut home = server.connect("/", who("ana.silva@mill.example")).await;
    let data = json!({"userId": "ana.silva@mill.example", "type": "COURSE_UPDATE", "title": "Secretive title", "message": "Hush hush",
        "link": "/courses/c1"});
    server.publish("notification.created", data).await;
    let new = home.next("notification:new").await;
    home.ask("notifications:list", json!({})).await;
    assert!(new["id"].is_string());
    home.ask("lesson:progress", json!({"lessonId": "l1", "watchedDuration": 30, "totalDuration": 100})).await;
    home.ask("lesson:progress", json!({"lessonId": "l1", "watchedDuration": 60, "totalDuration": 100})).await;
    home.ask("chat:join", json!({"videoId": "v1"})).await;
    home.ask("chat:message", json!({"videoId": "v1", "message": "Unspeakable words of mine"})).await;
    let marks = [("chat", "chat:leave"), ("notifications", "notifications:list"), ("lessons", "lesson:progress")];
    for ((plugin, recording), _) in plugins.iter().zip(&mut recordings).zip(0..) {
        if let Some((_, event)) = marks.iter().find(|(of, _)| of == plugin) {
            recording.until(event, |line| line["event"]["name"] == *event).await;
        }
    }
    let mut found = Vec::new();
    for (plugin, recording) in plugins.iter().zip(&recordings) {
        let text = recording.text().to_lowercase();
        for hidden in ["ana.silva", "mill", "behind", "06 12", "gold", "secretive", "hush", "unspeakable"] {
            assert!(!text.contains(hidden), "{hidden} in the recording of {plugin}: {text}");
        }
        if !text.contains("\"imports\"") {
            continue;
        }
        let (code, report) = replay(&recording.file(), &fixture::plugins().await[*plugin], &[]);
        if code != 0 {
            found.push(format!("{plugin}: {report}"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_clear_recording_keeps_texts() {
    let server = versioned().await.start().await;
    let mut recording = Recording::begin(&server, "versioned", "for=60s&clear=true").await;
    let mut ana = server.connect("/versioned", token("ana").name("Ana Maria")).await;
    say(&mut ana, "behind the old mill").await;
    recording.until("the call", |line| line["event"]["name"] == "say").await;
    assert!(recording.text().contains("behind the old mill") && recording.text().contains("Ana Maria"), "{}", recording.text());
    assert_eq!(recording.lines()[0]["clear"], true);
    let (code, report) = replay(&recording.file(), &fixture::versioned("1.0.0").await, &[]);
    assert_eq!(code, 0, "{report}");
}

#[tokio::test]
async fn replaying_on_another_build_reports_its_exact_differences() {
    let server = versioned().await.start().await;
    let recording = record_three_messages(&server).await;
    let file = recording.file();
    let same = replay(&file, &fixture::versioned("2.0.0").await, &[]);
    assert_eq!((same.0, &same.1["kinds"]), (0, &json!({})), "{}", same.1);
    let cases = [("2.1.0", json!({"effect-changed": 3})), ("2.1.3", json!({"asked-more": 3}))];
    for (version, kinds) in cases {
        let (code, report) = replay(&file, &fixture::versioned(version).await, &[]);
        assert_eq!((code, &report["kinds"], &report["all"]["differing"]), (1, &kinds, &json!(3)), "{version}: {report}");
    }
    let (code, report) = replay(&file, &fixture::versioned("2.1.0").await, &[]);
    let changed = &report["found"][0]["differences"][0];
    assert_eq!((code, &changed["was"]["args"][0], &changed["is"]["args"][0]), (1, &json!("said"), &json!("told")), "{report}");
    let (code, report) = replay(&file, &fixture::versioned("2.1.1").await, &[]);
    assert_eq!((code, &report["all"]["traps"], &report["kinds"]["trap"]), (1, &json!(3), &json!(3)), "{report}");
}

#[tokio::test]
async fn a_slower_build_is_reported_and_fails_with_max_cpu() {
    let server = versioned().await.start().await;
    let file = record_three_messages(&server).await;
    let (file, old) = (file.file(), fixture::versioned("1.0.0").await.display().to_string());
    let slow = fixture::versioned("2.1.2").await;
    let (code, report) = replay(&file, &slow, &["--against", &old]);
    assert_eq!((code, &report["cpuAgainst"]), (0, &json!("build")), "{report}");
    assert!(report["all"]["cpu"]["ratio"].as_f64().is_some_and(|ratio| ratio > 5.0), "{report}");
    let (code, report) = replay(&file, &slow, &["--against", &old, "--max-cpu", "5"]);
    assert_eq!((code, &report["tooSlow"]), (1, &json!(true)), "{report}");
    let printed = run(&["replay", "/dev/null", "--with", &old], &[]);
    assert_eq!(printed.status.code(), Some(2), "an error is neither equal nor different");
}

#[tokio::test]
async fn a_recording_is_bounded_and_runs_one_at_a_time() {
    let server = versioned().await.env("HUBBUB_RECORD__CALLS", "2").env("HUBBUB_RECORD__CALL_BYTES", "400").start().await;
    let mut recording = Recording::begin(&server, "versioned", "for=60s").await;
    let path = |how: &str| format!("/admin/plugins/versioned/record?{how}");
    assert_eq!(server.admin(Method::POST, &path("for=60s"), Vec::new()).await.0, 409, "one at a time");
    assert_eq!(server.admin(Method::POST, &path("for=1h"), Vec::new()).await.0, 400, "longer than record.time");
    assert_eq!(server.admin(Method::POST, &path("for=1s&sample=0"), Vec::new()).await.0, 400, "no calls");
    let without_token = server.http().post(server.admin_url(&path("for=1s"))).send().await.expect("the admin port answers");
    assert_eq!(without_token.status(), 401);

    let mut ana = server.connect("/versioned", token("ana")).await;
    say(&mut ana, &"long".repeat(200)).await;
    ana.ask("version", Value::Null).await;
    ana.ask("version", Value::Null).await;
    let end = recording.until("the end", |line| line.get("end").is_some()).await;
    assert_eq!(end["end"], json!({"because": "calls", "calls": 2, "dropped": 1}));
    let dropped = server.metrics().await.get("hubbub_record_calls_dropped_total", &[("plugin", "versioned")]);
    assert_eq!(dropped, Some(1.0));
}

#[tokio::test]
async fn replay_reads_the_file_that_record_writes() {
    let server = versioned().await.env("HUBBUB_RECORD__CALLS", "3").start().await;
    let folder = tests::server::Scratch::new();
    let (out, url) = (folder.path().join("calls").display().to_string(), server.admin_url(""));
    let command = {
        let out = out.clone();
        let args = move || run(&["record", "--plugin", "versioned", "--out", &out, "--url", &url, "--token", ADMIN_TOKEN], &[]);
        tokio::task::spawn_blocking(args)
    };
    let mut ana = server.connect("/versioned", token("ana")).await;
    while !command.is_finished() {
        say(&mut ana, "again").await;
    }
    let ended = command.await.expect("the command runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let table = run(&["replay", &out, "--with", &fixture::versioned("2.1.0").await.display().to_string()], &[]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("on-event say") && table.contains("effect-changed 3") && table.contains("It differs."), "{table}");
}

#[tokio::test]
async fn a_shadow_is_invisible_to_clients_and_reported_to_the_operator() {
    let server = versioned().await.start().await;
    let mut ana = server.connect("/versioned", token("ana")).await;
    let (status, answer) = deploy(&server, "?shadow=100", "2.1.0").await;
    assert_eq!((status, &answer["version"], &answer["shadow"]["version"]), (200, &json!("1.0.0"), &json!("2.1.0")), "{answer}");
    for number in 1..=3 {
        assert_eq!(say(&mut ana, "behind the old mill").await, json!(number), "counted once");
    }
    let seen = shadow_after(&server, 3).await;
    assert_eq!((&seen["calls"], &seen["differing"], &seen["traps"]), (&json!(3), &json!(3), &json!(0)), "{seen}");
    let difference = &seen["lastDiffering"][0]["differences"][0];
    assert_eq!((&difference["what"], &difference["is"]["args"][0]), (&json!("effect-changed"), &json!("told")), "{seen}");
    assert!(!seen.to_string().contains("the old mill") && seen["cpuRatio"].is_number(), "{seen}");
    ana.expect_none("told").await;

    let (status, _) = server.admin(Method::POST, "/admin/plugins/versioned/promote", Vec::new()).await;
    assert_eq!(status, 200);
    assert_eq!(ana.ask("say", json!("now")).await, json!(4), "it continues with the clients' data");
    assert_eq!(ana.next("told").await, json!("now"));
    assert!(plugin(&server).await.get("shadow").is_none(), "the shadow has ended");
}

#[tokio::test]
async fn a_trapping_shadow_does_not_affect_the_active_release() {
    let server = versioned().await.start().await;
    let mut ana = server.connect("/versioned", token("ana")).await;
    assert_eq!(deploy(&server, "?shadow=100", "2.1.1").await.0, 200);
    for number in 1..=20 {
        assert_eq!(say(&mut ana, "hello").await, json!(number));
    }
    let seen = shadow_after(&server, 20).await;
    assert_eq!((&seen["traps"], &seen["differing"]), (&json!(20), &json!(20)), "{seen}");
    let (_, answer) = server.admin(Method::POST, "/admin/plugins/versioned/rollback", Vec::new()).await;
    assert_eq!(
        (&answer["version"], &answer["counters"]["faults"], answer.get("shadow")),
        (&json!("1.0.0"), &json!(0), None),
        "{answer}"
    );
}

#[tokio::test]
async fn a_slow_shadow_delays_no_client_and_drops_calls() {
    let server = versioned().await.env("HUBBUB_RECORD__QUEUE", "1").start().await;
    let mut ana = server.connect("/versioned", token("ana")).await;
    assert_eq!(deploy(&server, "?shadow=100", "2.1.2").await.0, 200);
    for number in 1..=300 {
        assert_eq!(say(&mut ana, "hello").await, json!(number));
    }
    // If the acks had waited for the shadow, it would have run all calls.
    let seen = shadow_after(&server, 1).await;
    assert!(seen["dropped"].as_u64().is_some_and(|dropped| dropped > 0), "{seen}");
    assert_eq!(seen["differing"], 0, "{seen}");
    let counted = server.metrics().await.get("hubbub_shadow_calls_dropped_total", &[("plugin", "versioned")]);
    assert!(counted.is_some_and(|counted| counted > 0.0));
}

#[tokio::test]
async fn a_shadow_needs_an_active_release() {
    let server = Server::dev().only(&["chat"]).start().await;
    let (status, problem) = deploy(&server, "?shadow=10", "1.0.0").await;
    assert_eq!(
        (status, problem["detail"].as_str().is_some_and(|why| why.contains("has no active release"))),
        (409, true),
        "{problem}"
    );
    assert_eq!(deploy(&server, "?shadow=10&canary=10", "1.0.0").await.0, 400);
    assert_eq!(server.admin(Method::POST, "/admin/plugins/nobody/record?for=1s", Vec::new()).await.0, 404);
}
