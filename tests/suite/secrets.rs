//! Secrets of the configuration, and file modes. A secret must never appear in an output or in a process's arguments, and files
//! that the server writes must be accessible to its own user only.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;
use tests::recording::Recording;
use tests::server::{Builder, Scratch, binary, run};
use tests::{Postgres, Server, fixture, token, wait};

/// Part of every secret in this file.
const MARK: &str = "hunter2";

/// A secret under every key that holds one, and in every URL that may contain one.
fn settings() -> BTreeMap<&'static str, String> {
    let secret = |name: &str| format!("{MARK}-{name}-of-enough-bytes-for-any-key");
    BTreeMap::from([
        ("JWT_SECRET", secret("jwt")),
        ("HUBBUB_API__KEYS", secret("api")),
        ("HUBBUB_ADMIN__TOKEN", secret("admin")),
        (
            "HUBBUB_AUTH__KEYS",
            format!(
                r#"[{{"secret":"{}","iss":"a"}},{{"jwks_url":"http://u:{MARK}@127.0.0.1:1/jwks","iss":"b"}}]"#,
                secret("key")
            ),
        ),
        ("KAFKA_BROKERS", "127.0.0.1:1".into()),
        ("HUBBUB_KAFKA__PROPERTIES", format!(r#"{{"sasl.username":"u","sasl.password":"{MARK}"}}"#)),
        ("HUBBUB_EGRESS__KAFKA", r#"{"a.b":"c"}"#.into()),
        ("HUBBUB_INGEST__REDIS_URL", format!("redis://u:{MARK}@127.0.0.1:1")),
        ("HUBBUB_INGEST__PUBSUB__CHANNELS", "a".into()),
        ("HUBBUB_EGRESS__REDIS_URL", format!("redis://u:{MARK}@127.0.0.1:1")),
        ("HUBBUB_EGRESS__REDIS", r#"{"a.b":"c"}"#.into()),
        ("HUBBUB_TRACES__ENDPOINT", format!("http://u:{MARK}@127.0.0.1:1")),
        ("HUBBUB_TRACES__SAMPLE", "1".into()),
        ("HUBBUB_PLUGINS__VERSIONED__CONFIG__API_KEY", secret("plugin")),
        ("HUBBUB_PLUGINS__VERSIONED__CONFIG__HOOK", format!("https://u:{MARK}@example.org/")),
        ("HUBBUB_LOG__FILTER", "debug".into()),
    ])
}

fn with_secrets(builder: Builder) -> Builder {
    settings().into_iter().fold(builder, |builder, (name, value)| builder.env(name, &value))
}

/// The arguments of a process and of its child processes.
fn arguments(pid: u32) -> String {
    let of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let children = children.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children = children.flat_map(|pids| pids.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>());
    std::iter::once(pid).chain(children).map(of).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn no_secret_is_in_any_output() {
    let versioned = fixture::versioned("1.0.0").await;
    let postgres = Postgres::shared().await.empty().await;
    let serve = Server::serve_from_environment().plugin("versioned", &versioned).database(&postgres);
    // A cache of its own makes the server compile.
    let compiled = Scratch::new();
    let server = with_secrets(serve).env("HUBBUB_SANDBOX__CACHE", &compiled.path().display().to_string()).start().await;
    let mut outputs: Vec<(String, String)> = Vec::new();

    // Collect the arguments of the compilers while an uncached component is compiled.
    let (pid, done, seen) = (server.pid(), Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(String::new())));
    let looking = std::thread::spawn({
        let (done, seen) = (done.clone(), seen.clone());
        move || {
            while !done.load(Ordering::Relaxed) {
                let found = arguments(pid);
                let mut seen = seen.lock();
                if !seen.contains(&found) {
                    seen.push_str(&found);
                }
            }
        }
    });
    let mut recording = Recording::begin(&server, "versioned", "for=60s").await;
    let signed = token("ana").secret(&settings()["JWT_SECRET"]);
    let mut ana = server.connect("/versioned", signed).await;
    ana.ask("version", json!(null)).await;
    recording.until("the call", |line| line["event"]["name"] == "version").await;
    outputs.push(("the record".into(), recording.text().to_owned()));
    let uncached = fixture::uncached(&std::fs::read(&versioned).expect("it was built"), 77);
    let (status, answer) = server.admin(Method::POST, "/admin/plugins/versioned/deploy", uncached).await;
    assert_eq!(status, 200, "{answer}");
    done.store(true, Ordering::Relaxed);
    looking.join().expect("the thread does not panic");
    let seen = seen.lock().clone();
    assert!(seen.contains(" compile "), "a compiler was seen: {seen}");
    outputs.push(("arguments".into(), seen));

    // Errors of every kind.
    for wrong in ["", "wrong", &MARK[..4]] {
        for path in ["/admin/plugins", "/admin/dead"] {
            let answer = server.http().get(server.admin_url(path)).bearer_auth(wrong).send().await.expect("it answers");
            assert_eq!(answer.status(), 401);
            outputs.push((format!("{path} with {wrong:?}"), answer.text().await.expect("text")));
        }
        let refused = tests::Client::connect(server.admin_address(), "/figures", json!({"token": wrong})).await.err();
        outputs.push(("the tap's refusal".into(), format!("{refused:?}")));
    }
    outputs.push(("the refused connect".into(), server.connect_refused("/versioned", token("ana").secret("wrong")).await));
    for body in [json!({}), json!({"topic": 7}), json!({"topic": "a.b", "data": {}})] {
        outputs.push(("/api/publish".into(), format!("{:?}", server.api("/api/publish", &body).await)));
    }
    outputs
        .push(("no component".into(), server.admin(Method::POST, "/admin/plugins/x/deploy", b"x".to_vec()).await.1.to_string()));
    server.signal("HUP");
    server.logged("reloaded the keys").await;
    let pages = [
        "/metrics",
        "/ready",
        "/admin/plugins",
        "/admin/figures",
        "/admin/dead",
        "/admin/grafana.json",
        "/",
        "/dashboard/dashboard.js",
        "/dashboard/plugins.js",
        "/dashboard/tap.js",
        "/dashboard/plots.js",
    ];
    for page in pages {
        let (status, body) = server.admin(Method::GET, page, Vec::new()).await;
        assert!(status == 200 || page == "/ready", "{page}: {status}");
        outputs.push((page.into(), body.to_string()));
    }
    for page in ["/health", "/socket/health", "/docs", "/asyncapi.json"] {
        outputs.push((page.into(), server.get(page).await.1.to_string()));
    }
    let files = [("HUBBUB_PLUGINS__VERSIONED__FILE", versioned.display().to_string()), ("DATABASE_URL", postgres.clone())];
    let checking: Vec<(&str, String)> = settings().into_iter().chain(files).collect();
    let scratch = Scratch::new();
    let data = scratch.path().join("data").display().to_string();
    let checking: Vec<(&str, &str)> = checking.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let checked = run(&["check", "--data", &data], &checking);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    outputs.push(("check".into(), String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned()));
    outputs.push(("the log".into(), server.log()));
    let database = Postgres::PASSWORD.replace(' ', "%20");
    for (place, text) in outputs {
        assert!(!text.contains(MARK) && !text.contains(&database), "in {place}: {text}");
    }
}

#[tokio::test]
async fn an_empty_token_is_refused_everywhere() {
    let server = Server::serve_from_environment().plugin("versioned", &fixture::versioned("1.0.0").await);
    let server = server.env("JWT_SECRET", "a test secret, of just forty characters.").start().await;
    for auth in [json!({}), json!({"token": ""}), json!({"token": null}), json!({"token": "", "user": "ana"})] {
        for namespace in ["/figures", "/tap"] {
            assert!(tests::Client::connect(server.admin_address(), namespace, auth.clone()).await.is_err(), "{namespace} {auth}");
        }
    }
    for header in ["Bearer ", "Bearer", "", "Basic "] {
        let admin = server.http().get(server.admin_url("/admin/plugins")).header("authorization", header);
        let api = server.http().post(server.url("/api/publish")).header("authorization", header).json(&json!({}));
        for request in [admin, api] {
            assert_eq!(request.send().await.expect("it answers").status(), 401, "{header:?}");
        }
    }
}

#[tokio::test]
async fn a_command_hides_its_token_in_the_process_list() {
    let server = Server::dev().only(&[]).start().await;
    let mut top = Command::new(binary())
        .args(["top", "--token", &format!("{MARK}-wrong"), "--url", &server.admin_url("")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let wrong = top.wait().expect("it exits");
    assert!(!wrong.success());
    let mut recording = Command::new(binary())
        .args(["top", "--token", tests::server::ADMIN_TOKEN, "--url", &server.admin_url("")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let pid = recording.id();
    wait::eventually("the arguments without the token", async || {
        let shown = arguments(pid);
        shown.contains("top") && !shown.contains(tests::server::ADMIN_TOKEN) && shown.contains("--url")
    })
    .await;
    let _ = recording.kill();
    let _ = recording.wait();
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn all_in(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all_in(&path, found);
        }
        found.push(path);
    }
}

fn assert_closed(data: &Path) {
    let mut all = vec![data.to_owned()];
    all_in(data, &mut all);
    for name in ["storage.sqlite", "storage.sqlite-wal", "storage.lock", "cache.key", "cache"] {
        assert!(all.iter().any(|path| path.ends_with(name)), "{name} is in {all:?}");
    }
    for path in all {
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[tokio::test]
async fn files_are_private_to_the_server_and_open_modes_are_fixed() {
    let scratch = Scratch::new();
    let data = scratch.path().join("all");
    let chat = &fixture::plugins().await["chat"];
    let cache = data.join("cache").display().to_string();
    // A mask that closes nothing.
    let server = Server::dev().only(&[]).plugin("chat", chat).data(&data).env("HUBBUB_SANDBOX__CACHE", &cache);
    let mut server = server.through(r#"umask 0000; exec "$@""#).start().await;
    crate::helpers::open_chat(&server, "c1", &["ana"]).await;
    assert_eq!(server.readiness().await.0, 200);
    assert_closed(&data);

    server.kill9();
    let mut all = vec![data.clone()];
    all_in(&data, &mut all);
    for path in all.iter().filter(|path| !path.ends_with("cache.key")) {
        let open = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(open)).expect("they are ours");
    }
    server.start_again().await;
    assert_closed(&data);
    assert!(server.log().contains("others could use this: its mode was 0755, and is 0700 now"), "{}", server.log());
    assert!(server.log().contains("its mode was 0644, and is 0600 now"), "{}", server.log());
}

#[tokio::test]
async fn a_recording_file_is_private() {
    let server = Server::dev().only(&[]).plugin("versioned", &fixture::versioned("1.0.0").await).start().await;
    let scratch = Scratch::new();
    for (name, exists) in [("new", false), ("old", true)] {
        let file = scratch.path().join(name);
        if exists {
            std::fs::write(&file, "x").expect("a scratch file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        }
        let (out, url) = (file.display().to_string(), server.admin_url(""));
        let recording = move || run(&["record", "--plugin", "versioned", "--for", "100ms", "--out", &out, "--url", &url], &[]);
        let made = tokio::task::spawn_blocking(recording).await.expect("the command runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(mode(&file), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_changed_or_foreign_compiled_component_is_compiled_again() {
    let versioned = fixture::versioned("1.0.0").await;
    let entries = |server: &Server| {
        let mut found = Vec::new();
        all_in(&server.data().join("cache"), &mut found);
        found.retain(|path| path.extension().is_some_and(|ending| ending == "code"));
        found
    };
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let on = |scratch: &Scratch| {
        let data = scratch.path().join("all");
        let cache = data.join("cache").display().to_string();
        Server::dev().only(&[]).plugin("versioned", &versioned).data(&data).env("HUBBUB_SANDBOX__CACHE", &cache)
    };
    let (mut server, mut second) = (on(&scratch).start().await, on(&other).start().await);
    let kept = entries(&server);
    assert_eq!(kept.len(), 1, "{kept:?}");
    server.terminate().await;
    server.start_again().await;
    assert_eq!(entries(&server), kept, "the cached code is used again");
    assert!(!server.log().contains("compiled anew"), "{}", server.log());

    server.terminate().await;
    let mut code = std::fs::read(&kept[0]).expect("the file exists");
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(&kept[0], &code).expect("it is ours");
    server.start_again().await;
    assert_eq!(server.log().matches("this server has not compiled this entry, or it was changed").count(), 1, "{}", server.log());
    let mut ana = server.connect("/versioned", token("ana")).await;
    assert_eq!(ana.ask("version", json!(null)).await, "1.0.0");

    server.terminate().await;
    second.terminate().await;
    let foreign = entries(&second).remove(0);
    for path in entries(&server) {
        std::fs::remove_file(path).expect("it is ours");
    }
    let moved = server.data().join("cache").join(foreign.file_name().expect("a file"));
    std::fs::copy(&foreign, &moved).expect("the folder is ours");
    server.start_again().await;
    assert_eq!(server.log().matches("this server has not compiled this entry, or it was changed").count(), 2, "{}", server.log());
    assert!(!moved.exists());
}
