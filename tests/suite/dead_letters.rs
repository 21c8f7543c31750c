//! Dead letters as an operator handles them with the `hubbub` command. Must never read storage for them.

use serde_json::{Value, json};
use tests::server::{ADMIN_TOKEN, run};
use tests::{Server, fixture, wait};

/// Runs `hubbub dead …` against a server and returns its output.
fn dead(server: &Server, args: &[&str]) -> Result<String, String> {
    let (url, args) = (server.admin_url(""), [&["dead"], args].concat());
    let output = run(&args, &[("HUBBUB_ADMIN_URL", &url), ("HUBBUB_ADMIN_TOKEN", ADMIN_TOKEN)]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

async fn letters_are(server: &Server, many: usize) -> String {
    wait::until(&format!("{many} letters"), wait::DEADLINE, async || {
        dead(server, &["list"]).ok().filter(|list| list.lines().count() == many)
    })
    .await
}

fn id(line: &str) -> &str {
    line.split_whitespace().next().expect("an id")
}

fn broken(chat: &str) -> Value {
    json!({"topic": "chat.upserted", "key": chat, "id": format!("id-{chat}"), "data": {"chatId": chat, "participants": "none"}})
}

#[tokio::test]
async fn dead_letters_are_listed_in_pages_and_their_data_only_if_allowed() {
    let server = Server::dev().only(&["chat"]).start().await;
    for chat in ["c1", "c2", "c3"] {
        server.publish_message(&broken(chat)).await;
    }
    let all = letters_are(&server, 3).await;
    for chat in ["c1", "c2", "c3"] {
        let line = format!("  chat  chat.upserted  key {chat}  tenant -  message id-{chat}  ");
        assert!(all.contains(&line), "{all}");
    }
    assert!(!all.contains("chatId\""), "no data: {all}");
    let page = dead(&server, &["list", "--limit", "2"]).unwrap();
    let after = id(page.lines().last().unwrap());
    assert_eq!(page.lines().count(), 2);
    assert_eq!(dead(&server, &["list", "--after", after]).unwrap().lines().count(), 1);
    assert!(dead(&server, &["list", "--payload"]).unwrap().contains(r#"{"chatId":"c1","participants":"none"}"#));
    assert_eq!(dead(&server, &["list", "--plugin", "video"]).unwrap(), "");
    assert_eq!(dead(&server, &["list", "--topic", "chat.upserted"]).unwrap(), all);

    let discreet = Server::dev().only(&["chat"]).env("HUBBUB_ADMIN__TAP_PAYLOADS", "none").start().await;
    let refused = dead(&discreet, &["list", "--payload"]).unwrap_err();
    assert!(refused.contains("Payloads are not shown"), "{refused}");
    let unknown = discreet.http().get(discreet.admin_url("/admin/dead")).send().await.unwrap();
    assert_eq!(unknown.status(), 401);
}

#[tokio::test]
async fn retrying_a_dead_letter_calls_only_its_plugin() {
    let [failing, good] = [fixture::versioned("2.2.0").await, fixture::versioned("1.0.0").await];
    let server = Server::dev().only(&["video", "chat"]).plugin("versioned", &failing).start().await;
    let view = async |id: &str, key: &str| {
        let message = json!({"topic": "video.view", "key": key, "id": id, "data": {"videoId": key}});
        server.publish_message(&message).await;
    };
    view("m1", "bad").await;
    let letter = letters_are(&server, 1).await;
    assert!(letter.contains("it is bad") && letter.contains("failed 5 times"), "{letter}");
    let count = |plugin: &str, key: &str| server.store().counter(plugin, key);

    let component = std::fs::read(good).expect("the component was built");
    assert_eq!(server.admin(reqwest::Method::POST, "/admin/plugins/versioned/deploy", component).await.0, 200);
    let received = count("versioned", "heard");
    let again = dead(&server, &["retry", id(&letter)]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), json!({"retried": 1, "refused": []}));
    wait::eventually("the message to be handled", async || count("versioned", "heard") > received).await;
    assert_eq!(dead(&server, &["list"]).unwrap(), "");
    view("m2", "bad").await;
    wait::eventually("the next message to be counted", async || count("video", "views/bad") >= 2).await;
    assert_eq!(count("video", "views/bad"), 2, "a plugin that had handled it is not called again");
    wait::eventually("the next message to be handled", async || count("versioned", "heard") >= received + 2).await;
    assert_eq!(count("versioned", "heard"), received + 2);
}

#[tokio::test]
async fn retrying_keeps_a_failing_letter_and_dropping_removes_it() {
    let server = Server::dev().only(&["chat"]).start().await;
    for chat in ["c1", "c2"] {
        server.publish_message(&broken(chat)).await;
    }
    let letters = letters_are(&server, 2).await;
    let first = letters.lines().find(|line| line.contains("id-c1")).unwrap();
    dead(&server, &["retry", id(first)]).unwrap();
    let second = wait::until("the dead letter to return", wait::DEADLINE, async || {
        let list = dead(&server, &["list"]).ok()?;
        list.lines().find(|line| line.contains("id-c1") && id(line) != id(first)).map(str::to_owned)
    })
    .await;
    assert_eq!(dead(&server, &["drop", id(&second)]).unwrap().replace([' ', '\n'], ""), r#"{"dropped":1,"refused":[]}"#);
    assert!(dead(&server, &["list"]).unwrap().contains("id-c2"));
    assert!(dead(&server, &["retry", id(&second)]).unwrap().contains("\"retried\": 0"), "it was dropped");
    dead(&server, &["drop", "--plugin", "chat"]).unwrap();
    assert_eq!(dead(&server, &["list"]).unwrap(), "");
    assert!(dead(&server, &["drop"]).unwrap_err().contains("no letters selected"));
}
