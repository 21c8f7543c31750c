//! The contract for clients: the AsyncAPI document, the page and the TypeScript types. Must never check their text where a tool
//! that reads them can check them.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tests::server::{Scratch, run_in};
use tests::{Server, fixture, node};

use crate::helpers::{is_time, name, open_chat, user};

async fn document(server: &Server) -> Value {
    let (status, document) = server.get("/asyncapi.json").await;
    assert_eq!(status, 200);
    document
}

async fn page(server: &Server) -> String {
    let answer = server.http().get(server.url("/docs")).send().await.expect("the server answers");
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    answer.text().await.expect("a page")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), String::from_utf8_lossy(&output.stderr));
    stdout(output)
}

#[tokio::test]
async fn the_official_parser_accepts_the_document() {
    // Runs in the checkout, with all of its plugins.
    let server = Server::dev().folder(&tests::checkout_dir()).start().await;
    let document = document(&server).await;
    let checked = node::run(&node::clients(), Path::new("asyncapi.mjs"), &[], &document.to_string()).await;
    assert_eq!(succeeded(&checked), "[]");

    let chat = &document["channels"]["Chat"];
    assert_eq!((&chat["address"], &chat["x-door"]["missing"]), (&json!("/chat"), &json!("Authentication error")));
    let join = &document["operations"]["Chat-receive-chat-join"];
    let reply = join["reply"]["messages"][0]["$ref"].as_str().expect("a reply");
    let reply = document.pointer(&reply[1..]).expect("the reply's message");
    let joined = reply["payload"]["$ref"].as_str().expect("a type with a name");
    assert!(document.pointer(&joined[1..]).expect("the type")["properties"]["onlineCount"].is_object());
    assert!(join["tags"][0]["name"].as_str().is_some_and(|plugin| plugin.starts_with("chat@")), "{join}");
}

#[tokio::test]
async fn the_document_and_the_page_describe_the_live_plugins() {
    let server = Server::dev().only(&["chat"]).start().await;
    let before = document(&server).await;
    assert!(before["channels"]["Course"].is_null() && !page(&server).await.contains("/course/{id}"));
    assert_eq!(before, document(&server).await, "unchanged while nothing is deployed");

    let component = std::fs::read(fixture::course().await).expect("the component was built");
    let (status, printed) = server.admin(reqwest::Method::POST, "/admin/plugins/course/deploy", component).await;
    assert_eq!(status, 200, "{printed}");
    let after = document(&server).await;
    assert_eq!(after["channels"]["Course"]["address"], "/course/{id}");
    assert_ne!(after["info"]["version"], before["info"]["version"]);
    let shown = page(&server).await;
    for text in ["/chat", "/course/{id}", "The plugin has the last word", "chat:message", "Authentication error", "chat@"] {
        assert!(shown.contains(text), "{text:?} is not on the page");
    }

    server.admin(reqwest::Method::POST, "/admin/plugins/course/disable", vec![]).await;
    assert_eq!(document(&server).await, before, "a disabled plugin is not in the document");
}

/// The types of the chat plugin alone.
async fn chat_types() -> String {
    let scratch = Scratch::new();
    let chat = fixture::plugins().await["chat"].display().to_string();
    let types = succeeded(&run_in(scratch.path(), &["types", &chat], &[]));
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("the folder is ours").collect();
    assert!(left.is_empty(), "the command leaves no files: {left:?}");
    types
}

/// A folder with these types, the test clients and their packages, in which TypeScript compiles.
fn project_folder(types: &str) -> Scratch {
    let scratch = Scratch::new();
    let write = |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).expect("the folder is ours");
    write("contract.ts", types);
    write("package.json", r#"{"type": "module"}"#);
    for file in ["typed.ts", "wrong.ts", "tsconfig.json"] {
        write(file, &std::fs::read_to_string(node::clients().join(file)).expect("the file exists"));
    }
    write("wrong.json", r#"{"extends": "./tsconfig.json", "files": ["wrong.ts"]}"#);
    std::os::unix::fs::symlink(node::clients().join("node_modules"), scratch.path().join("node_modules")).expect("a link");
    scratch
}

async fn compile(folder: &Scratch, project: &str) -> Output {
    let compiler = node::clients().join("node_modules/typescript/bin/tsc");
    node::run(folder.path(), &compiler, &["--project", project], "").await
}

#[tokio::test]
async fn a_typed_client_compiles_and_chats() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    crate::helpers::member(&server, "ana", "c1").await;
    let folder = project_folder(&chat_types().await);
    succeeded(&compile(&folder, "tsconfig.json").await);
    let token = user("ana").sign();
    let output = node::run(folder.path(), Path::new("typed.js"), &[&server.url(""), &token, "c1"], "").await;
    let received: Value = serde_json::from_str(&succeeded(&output)).expect("one JSON text");
    assert_eq!((&received["author"], &received["content"]), (&json!(name("ana")), &json!("typed")));
    assert_eq!((&received["online"], &received["names"], &received["unread"]), (&json!(1), &json!([name("ana")]), &json!(0)));
    assert_eq!(received["code"], "invalid");
    assert!(is_time(&received["createdAt"]), "{received}");
}

#[tokio::test]
async fn each_type_error_of_a_client_fails_to_compile() {
    let folder = project_folder(&chat_types().await);
    let output = compile(&folder, "wrong.json").await;
    assert!(!output.status.success(), "it compiled");
    let text = std::fs::read_to_string(node::clients().join("wrong.ts")).expect("the file exists");
    let first = text.lines().position(|line| line.starts_with("declare const socket")).expect("the socket") + 2;
    let printed = stdout(&output);
    for line in first..=text.lines().count() {
        assert!(printed.contains(&format!("wrong.ts({line},")), "line {line} compiled: {printed}");
    }
    let elsewhere = printed.lines().find(|line| line.contains("error") && !line.starts_with("wrong.ts("));
    assert_eq!(elsewhere, None, "the types themselves compile");
}

#[tokio::test]
async fn types_are_generated_from_files_a_configuration_or_the_folder() {
    let scratch = Scratch::new();
    let chat = fixture::plugins().await["chat"].display().to_string();
    let config = scratch.path().join("plugins.toml");
    std::fs::write(&config, format!("[plugins.chat]\nfile = {chat:?}\n")).expect("the folder is ours");
    assert_eq!(
        succeeded(&run_in(scratch.path(), &["types", "--config", &config.display().to_string()], &[])),
        chat_types().await
    );
    // The types of all of the checkout's plugins compile, and the chat client with them.
    let folder = project_folder(&succeeded(&run_in(&tests::checkout_dir(), &["types"], &[])));
    succeeded(&compile(&folder, "tsconfig.json").await);

    let refused = run_in(scratch.path(), &["types"], &[]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("no plugins"));
}
