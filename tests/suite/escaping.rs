//! Text from outside where an operator reads it. No text may control a terminal, forge a line or change the direction of text.

use serde_json::{Value, json};
use tests::browser::Browser;
use tests::recording::Recording;
use tests::server::{ADMIN_TOKEN, run};
use tests::{Server, fixture, token, wait};

use crate::dashboard::sign_in;
use crate::helpers::open_chat;

/// A right-to-left override, a C1 control character, a line separator and a C0 control character.
const ODD: &str = "a\u{202e}b\u{9b}c\u{2028}d\u{1b}e";

/// The escaped form that an operator reads.
const SHOWN: &str = "a\\u202eb\\u009bc\\u2028d\\u001be";

fn assert_plain(text: &str) {
    let odd = text.chars().find(|c| ODD.contains(*c) && !c.is_ascii_alphabetic());
    assert_eq!(odd, None, "{text:?}");
}

/// Runs an operator's command and returns its output.
fn operator(server: &Server, args: &[&str]) -> String {
    let output = run(args, &[("HUBBUB_ADMIN_URL", &server.admin_url("")), ("HUBBUB_ADMIN_TOKEN", ADMIN_TOKEN)]);
    String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
}

#[tokio::test]
async fn log_lines_of_a_plugin_are_escaped() {
    let server = Server::dev().only(&[]).plugin("hostile", &fixture::hostile().await).start().await;
    let mut client = server.connect("/hostile", token("ana")).await;
    client.ask("log-forged", Value::Null).await;
    server.logged("all is lost").await;
    assert_plain(&server.log());
}

#[tokio::test]
async fn a_dead_letter_is_listed_with_its_data_escaped() {
    let server = Server::dev().only(&["chat"]).start().await;
    let data = json!({"chatId": ODD, "participants": ODD});
    server.publish_message(&json!({"topic": "chat.upserted", "key": "k\u{202e}", "data": data})).await;
    let list = wait::until("the letter", wait::DEADLINE, async || {
        Some(operator(&server, &["dead", "list", "--payload"])).filter(|list| list.contains("chat.upserted"))
    })
    .await;
    assert!(list.contains(SHOWN) && list.contains("key k\\u202e") && list.lines().count() == 1, "{list}");
    assert_plain(&list);
    for command in [&["plugins"][..], &["top", "--once"]] {
        assert_plain(&operator(&server, command));
    }
}

#[tokio::test]
async fn an_error_that_quotes_its_input_is_escaped() {
    let server = Server::dev().only(&[]).start().await;
    let printed = operator(&server, &["deploy", "chat", "no\u{202e}file"]);
    assert!(printed.contains("\\u202e"), "{printed}");
    assert_plain(&printed);
    let printed = String::from_utf8(run(&["replay", "no\u{202e}file", "--with", "x"], &[]).stderr).expect("text");
    assert!(printed.contains("no\\u202efile"), "{printed}");
}

#[tokio::test]
async fn a_recording_and_its_replay_are_escaped() {
    let server = Server::dev().only(&[]).plugin("versioned", &fixture::versioned("1.0.0").await).start().await;
    let mut recording = Recording::begin(&server, "versioned", "for=60s&clear=true").await;
    let mut ana = server.connect("/versioned", token("ana").name(ODD)).await;
    ana.ask("say", json!({"content": ODD})).await;
    recording.until("the call", |line| line["event"]["name"] == "say").await;
    assert_plain(recording.text());
    assert!(recording.text().contains("\\u202e"), "{}", recording.text());
    let new = fixture::versioned("2.1.0").await.display().to_string();
    let table = String::from_utf8(run(&["replay", &recording.file(), "--with", &new], &[]).stdout).expect("text");
    assert!(table.contains("\\u202e"), "the difference shows the content: {table}");
    assert_plain(&table);
}

#[tokio::test]
async fn the_dashboard_shows_names_and_arguments_escaped() {
    let server = Server::dev().only(&["chat"]).without_message_limit().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = server.connect("/chat", token("ana").name("An\u{202e}a")).await;
    crate::helpers::join(&mut ana, "c1").await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.type_into("one", "tap-user", "ana").await;
    browser.click("one", "tap-go").await;
    browser.sees("one", "tap-state", "Listening").await;
    let ack: Value = ana.ask("chat:message", json!({"chatId": "c1", "content": "in\u{2066}side"})).await;
    assert_eq!(ack, json!({}));
    browser.sees("one", "tapped", "in\\u2066side").await;
    browser.sees("one", "tapped", "An\\u202ea").await;
}
