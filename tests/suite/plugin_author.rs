//! How a plugin's author works: creates a plugin, builds it, tests it and changes it under open sockets. Must never build in the
//! checkout.

use std::path::{Path, PathBuf};

use serde_json::json;
use tests::server::{ADMIN_TOKEN, Scratch, run};
use tests::{Client, Server, token, wait};

/// One target folder for all of these tests, so that the SDK is compiled once.
fn target() -> String {
    let folder = tests::checkout_dir().join("target/authors");
    // Two cargo processes that both create the folder would fail.
    std::fs::create_dir_all(folder.join("plugins-build")).expect("the target folder is ours");
    folder.display().to_string()
}

/// Creates a plugin from the template in the scratch folder.
fn new_plugin(scratch: &Scratch, name: &str) -> PathBuf {
    let folder = scratch.path().join("plugins");
    let sdk = tests::checkout_dir().join("sdk");
    succeeds(&["plugin", "new", name, "--in", &folder.display().to_string(), "--sdk", &sdk.display().to_string()]);
    folder.join(name)
}

/// Runs a command that must succeed and returns its output.
fn succeeds(args: &[&str]) -> String {
    let output = run(args, &[("CARGO_TARGET_DIR", &target())]);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Runs a command that must fail and returns its error output.
fn fails(args: &[&str]) -> String {
    let output = run(args, &[("CARGO_TARGET_DIR", &target())]);
    assert!(!output.status.success(), "{args:?} did not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_new_plugin_builds_passes_its_tests_and_runs() {
    let scratch = Scratch::new();
    let folder = new_plugin(&scratch, "greeter").display().to_string();
    succeeds(&["plugin", "test", &folder]);
    let component = succeeds(&["plugin", "build", &folder]);
    assert!(Path::new(&component).is_file(), "{component}");
    let described = succeeds(&["plugin", "inspect", &component]);
    assert!(described.contains("hubbub:plugin"), "{described}");

    let server = Server::dev().start().await;
    let admin = server.admin_url("");
    assert!(
        fails(&["deploy", "another-name", &component, "--url", &admin]).contains("greeter"),
        "the name differs from its description"
    );
    succeeds(&["deploy", "greeter", &component, "--url", &admin, "--token", ADMIN_TOKEN]);
    assert!(succeeds(&["plugins", "--url", &admin]).contains("greeter"));
    let mut client = server.connect("/greeter", ()).await;
    assert_eq!(client.ask("join", json!({"room": "hall"})).await, json!({"room": "hall", "here": 1, "said": 0}));
    assert_eq!(client.ask("say", json!({"room": "hall", "text": "hello"})).await, json!({}));
    assert_eq!(client.next("said").await, json!({"room": "hall", "text": "hello", "by": "a visitor"}));
}

#[tokio::test]
async fn the_tutorials_plugin_works_as_printed() {
    let text = std::fs::read_to_string(tests::checkout_dir().join("sdk/TUTORIAL.md")).expect("the tutorial");
    let source = text.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```")).expect("a plugin's source").0;
    let scratch = Scratch::new();
    let folder = new_plugin(&scratch, "polls");
    std::fs::write(folder.join("src/lib.rs"), source).expect("the plugin is ours");
    let folder = folder.display().to_string();
    succeeds(&["plugin", "test", &folder]);
    let component = succeeds(&["plugin", "build", &folder]);

    let server = Server::dev().only(&[]).plugin("polls", Path::new(&component)).start().await;
    let poll = json!({"pollId": "p1", "question": "Lunch?", "choices": ["soup", "bread"], "seconds": 2});
    server.publish("poll.opened", poll).await;
    let mut ana = server.connect("/polls", token("ana")).await;
    wait::eventually("the poll to be open", async || ana.ask("poll:join", json!({"pollId": "p1"})).await["error"].is_null())
        .await;
    assert_eq!(ana.ask("poll:vote", json!({"pollId": "p1", "choice": 1})).await, json!({}));
    assert_eq!(ana.refused("poll:vote", json!({"pollId": "p1", "choice": 0})).await.1, "You have voted");
    wait::until("the poll to close by itself", wait::DEADLINE, async || {
        (ana.next("poll:state").await["open"] == false).then_some(())
    })
    .await;
    assert_eq!(server.connect_refused("/polls", ()).await, "Please sign in");
}

#[tokio::test]
async fn an_authors_mistakes_are_reported_with_a_reason() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("plugins").display().to_string();
    let sdk = tests::checkout_dir().join("sdk").display().to_string();
    for name in ["Greeter", "2greet", "greet_er", "std"] {
        assert!(fails(&["plugin", "new", name, "--in", &folder, "--sdk", &sdk]).contains(name), "{name}");
    }
    let made = new_plugin(&scratch, "mistaken");
    let again = fails(&["plugin", "new", "mistaken", "--in", &folder, "--sdk", &sdk]);
    assert!(again.contains("exists already"), "{again}");
    std::fs::write(made.join("src/lib.rs"), "this is not Rust").expect("the plugin is ours");
    let broken = fails(&["plugin", "build", &made.display().to_string()]);
    assert!(broken.contains("mistaken") && broken.contains("error"), "{broken}");
    let (refused, nowhere) = (scratch.path().join("refused/plugins"), scratch.path().join("refused"));
    let no_sdk = fails(&["plugin", "new", "lonely", "--in", &refused.display().to_string()]);
    assert!(no_sdk.contains("--sdk") && !nowhere.exists(), "{no_sdk}");
    let no_plugin = scratch.path().join("text.wasm");
    std::fs::write(&no_plugin, "text").expect("a scratch file");
    fails(&["plugin", "inspect", &no_plugin.display().to_string()]);
}

#[tokio::test]
async fn a_change_goes_live_on_open_sockets_and_a_broken_one_does_not() {
    let scratch = Scratch::new();
    let source = new_plugin(&scratch, "reloaded").join("src/lib.rs");
    let mut server = Server::dev().folder(scratch.path()).watching().env("CARGO_TARGET_DIR", &target()).start().await;
    let mut client = server.connect("/reloaded", ()).await;
    client.ask("join", json!({"room": "hall"})).await;
    assert_eq!(speaker(&mut client).await, "a visitor");

    edit(&source, "a visitor", "a guest");
    let what = "the new code to answer on the old socket";
    wait::until(what, tests::server::START, async || (speaker(&mut client).await == "a guest").then_some(())).await;

    edit(&source, "impl Reloaded {", "impl Reloaded { nonsense");
    server.logged("not reloaded").await;
    assert_eq!(speaker(&mut client).await, "a guest", "the old code keeps serving");
    assert!(server.log().contains("nonsense"), "the compiler's error is logged");

    edit(&source, "impl Reloaded { nonsense", "impl Reloaded {");
    edit(&source, "a guest", "a stranger");
    wait::until(what, tests::server::START, async || (speaker(&mut client).await == "a stranger").then_some(())).await;

    server.terminate().await;
    edit(&source, "a stranger", "a guest");
    server.start_again().await;
    let mut client = server.connect("/reloaded", ()).await;
    client.ask("join", json!({"room": "hall"})).await;
    assert_eq!(speaker(&mut client).await, "a guest", "a start builds the source, whatever was live");
}

#[tokio::test]
async fn a_plugin_that_reads_system_time_fails_its_test_with_advice() {
    let scratch = Scratch::new();
    let folder = new_plugin(&scratch, "timekeeper");
    let time = "let _ = std::time::SystemTime::now();\n        ROOM.of(&room).join()?;";
    edit(&folder.join("src/lib.rs"), "ROOM.of(&room).join()?;", time);
    let folder = folder.display().to_string();
    let output = run(&["plugin", "test", &folder], &[("CARGO_TARGET_DIR", &target())]);
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && printed.contains("join asks for the system's time"), "{printed}");
    assert!(printed.contains("hubbub_sdk::clock::now"), "{printed}");

    // The build names the place as well, and so does the server's log.
    let build = run(&["plugin", "build", &folder], &[("CARGO_TARGET_DIR", &target())]);
    let printed = String::from_utf8_lossy(&build.stderr).into_owned();
    assert!(build.status.success() && printed.contains("src/lib.rs:") && printed.contains("hubbub_sdk::clock"), "{printed}");
    let component = String::from_utf8_lossy(&build.stdout).trim().to_owned();
    let server = Server::dev().only(&[]).plugin("timekeeper", Path::new(&component)).start().await;
    let mut client = server.connect("/timekeeper", ()).await;
    assert_eq!(client.refused("join", json!({"room": "hall"})).await.0, "internal");
    server.logged("take `hubbub_sdk::clock::now`").await;
}

#[tokio::test]
async fn a_change_with_an_old_mtime_goes_live_and_an_unchanged_save_is_logged() {
    let scratch = Scratch::new();
    let source = new_plugin(&scratch, "restored").join("src/lib.rs");
    let server = Server::dev().folder(scratch.path()).watching().env("CARGO_TARGET_DIR", &target()).start().await;
    let mut client = server.connect("/restored", ()).await;
    client.ask("join", json!({"room": "hall"})).await;
    assert_eq!(speaker(&mut client).await, "a visitor");

    // A file restored from a backup keeps its old modification time.
    let backup = scratch.path().join("backup");
    let text = std::fs::read_to_string(&source).expect("the plugin's source").replace("a visitor", "a tourist");
    std::fs::write(&backup, text).expect("a scratch file");
    let file = std::fs::File::options().append(true).open(&backup).expect("a scratch file");
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).expect("its time can be set");
    std::fs::rename(&backup, &source).expect("the plugin is ours");
    let what = "the new code to answer on the old socket";
    wait::until(what, tests::server::START, async || (speaker(&mut client).await == "a tourist").then_some(())).await;

    for junk in ["src/.#lib.rs", "src/lib.rs.swp", "src/lib.rs~", "src/notes.txt"] {
        std::fs::write(source.with_file_name("..").join(junk), "x").expect("the plugin is ours");
    }
    let builds = |log: &str| log.matches("reloaded").count() + log.matches("the release stays").count();
    let before = builds(&server.log());
    // The watcher has skipped the junk files once it reports a later save.
    let same = std::fs::read(&source).expect("the plugin's source");
    wait::until("the unchanged save to be logged", wait::DEADLINE, async || {
        std::fs::write(&source, &same).expect("the plugin is ours");
        server.log().contains("saved without a change").then_some(())
    })
    .await;
    assert_eq!(builds(&server.log()), before, "{}", server.log());
}

/// The name that the plugin gives a client without a name.
async fn speaker(client: &mut Client) -> String {
    client.ask("say", json!({"room": "hall", "text": "who am I?"})).await;
    client.next("said").await["by"].as_str().expect("a name").to_owned()
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("the plugin's source");
    assert!(text.contains(from), "no {from:?} in the template");
    std::fs::write(file, text.replace(from, to)).expect("the plugin is ours");
}
