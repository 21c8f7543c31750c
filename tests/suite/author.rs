//! The author's way: a new plugin, its build, its tests, and changes under live sockets. Must never build in the checkout.

use std::path::{Path, PathBuf};

use serde_json::json;
use tests::server::{ADMIN_TOKEN, Scratch, run};
use tests::{Client, Server, token, wait};

/// One target folder for all of these tests, so that the SDK is compiled once.
fn target() -> String {
    let folder = tests::checkout_dir().join("target/authors");
    // Two cargos that find it missing at once trip over each other.
    std::fs::create_dir_all(folder.join("plugins-build")).expect("the target folder is ours");
    folder.display().to_string()
}

/// Makes a plugin from the template, in a folder of its own.
fn new_plugin(scratch: &Scratch, name: &str) -> PathBuf {
    let folder = scratch.path().join("plugins");
    let sdk = tests::checkout_dir().join("sdk");
    succeeds(&["plugin", "new", name, "--in", &folder.display().to_string(), "--sdk", &sdk.display().to_string()]);
    folder.join(name)
}

/// Runs a command that must succeed: what it printed.
fn succeeds(args: &[&str]) -> String {
    let output = run(args, &[("CARGO_TARGET_DIR", &target())]);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Runs a command that must fail: what it said.
fn fails(args: &[&str]) -> String {
    let output = run(args, &[("CARGO_TARGET_DIR", &target())]);
    assert!(!output.status.success(), "{args:?} did not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_new_plugin_passes_its_tests_builds_and_runs_as_it_is() {
    let scratch = Scratch::new();
    let folder = new_plugin(&scratch, "greeter").display().to_string();
    succeeds(&["plugin", "test", &folder]);
    let component = succeeds(&["plugin", "build", &folder]);
    assert!(Path::new(&component).is_file(), "{component}");
    let described = succeeds(&["plugin", "inspect", &component]);
    assert!(described.contains("hubbub:plugin"), "{described}");

    let server = Server::dev().start().await;
    let admin = server.admin_url("");
    assert!(fails(&["deploy", "another-name", &component, "--url", &admin]).contains("greeter"), "it describes itself otherwise");
    succeeds(&["deploy", "greeter", &component, "--url", &admin, "--token", ADMIN_TOKEN]);
    assert!(succeeds(&["plugins", "--url", &admin]).contains("greeter"));
    let mut client = server.connect("/greeter", ()).await;
    assert_eq!(client.ask("join", json!({"room": "hall"})).await, json!({"room": "hall", "here": 1, "said": 0}));
    assert_eq!(client.ask("say", json!({"room": "hall", "text": "hello"})).await, json!({}));
    assert_eq!(client.next("said").await, json!({"room": "hall", "text": "hello", "by": "a visitor"}));
}

#[tokio::test]
async fn the_tutorial_is_true_word_for_word() {
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
    assert_eq!(server.turned_away("/polls", ()).await, "Please sign in");
}

#[tokio::test]
async fn an_authors_mistakes_are_told_in_words() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("plugins").display().to_string();
    let sdk = tests::checkout_dir().join("sdk").display().to_string();
    for name in ["Greeter", "2greet", "greet_er", "std"] {
        assert!(fails(&["plugin", "new", name, "--in", &folder, "--sdk", &sdk]).contains(name), "{name}");
    }
    let made = new_plugin(&scratch, "mistaken");
    let again = fails(&["plugin", "new", "mistaken", "--in", &folder, "--sdk", &sdk]);
    assert!(again.contains("there already"), "{again}");
    std::fs::write(made.join("src/lib.rs"), "this is not Rust").expect("the plugin is ours");
    let broken = fails(&["plugin", "build", &made.display().to_string()]);
    assert!(broken.contains("mistaken") && broken.contains("error"), "{broken}");
    let no_plugin = scratch.path().join("text.wasm");
    std::fs::write(&no_plugin, "text").expect("a scratch file");
    fails(&["plugin", "inspect", &no_plugin.display().to_string()]);
}

#[tokio::test]
async fn a_change_is_live_on_the_same_socket_and_a_broken_one_is_not() {
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
    assert_eq!(speaker(&mut client).await, "a guest", "the old code serves on");
    assert!(server.log().contains("nonsense"), "and the compiler's words are shown");

    edit(&source, "impl Reloaded { nonsense", "impl Reloaded {");
    edit(&source, "a guest", "a stranger");
    wait::until(what, tests::server::START, async || (speaker(&mut client).await == "a stranger").then_some(())).await;

    server.terminate().await;
    edit(&source, "a stranger", "a guest");
    server.start_again().await;
    let mut client = server.connect("/reloaded", ()).await;
    client.ask("join", json!({"room": "hall"})).await;
    assert_eq!(speaker(&mut client).await, "a guest", "a start goes by the source, not by what was live");
}

/// Whom the plugin calls a client without a name.
async fn speaker(client: &mut Client) -> String {
    client.ask("say", json!({"room": "hall", "text": "who am I?"})).await;
    client.next("said").await["by"].as_str().expect("a name").to_owned()
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("the plugin's source");
    assert!(text.contains(from), "no {from:?} in the template");
    std::fs::write(file, text.replace(from, to)).expect("the plugin is ours");
}
