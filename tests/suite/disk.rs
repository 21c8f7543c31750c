//! A full disk under the data folder. The server must never lose acknowledged data, and reports that it cannot write for as long
//! as the disk is full.

use serde_json::{Value, json};
use tests::{Client, Server, SmallDisk, wait};

use crate::helpers::{join, member, open_chat, user};

/// Large enough to use up the space that the database's log has in reserve.
fn content(n: usize) -> String {
    format!("m{n} {}", "x".repeat(1500))
}

async fn send(client: &mut Client, n: usize) -> bool {
    let ack = client.ask("chat:message", json!({"chatId": "c1", "content": content(n)})).await;
    assert!(ack == json!({}) || ack["error"]["code"] == "unavailable", "{ack}");
    ack == json!({})
}

async fn history(client: &mut Client) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = Value::Null;
    loop {
        let mut asked = json!({"chatId": "c1", "limit": 100});
        if before != Value::Null {
            asked["before"] = before.clone();
        }
        let page = client.ask("chat:history", asked).await;
        let messages = page["messages"].as_array().expect("messages").clone();
        found.extend(messages.iter().map(|message| message["content"].as_str().expect("text").to_owned()));
        before = messages.last().map_or(Value::Null, |message| message["id"].clone());
        if messages.len() < 100 {
            return found;
        }
    }
}

async fn is_ready(server: &Server, ready: bool) -> Value {
    wait::until("readiness to follow the disk", wait::DEADLINE, async || {
        let (status, body) = server.readiness().await;
        (body["storage"] == ready && (status == 200) == ready).then_some(body)
    })
    .await
}

fn server(disk: &SmallDisk) -> tests::server::Builder {
    Server::dev().only(&["chat"]).without_message_limit().single_node().data(&disk.path().join("data"))
}

#[tokio::test]
async fn a_full_disk_is_reported_and_loses_no_acknowledged_data() {
    let Some(disk) = SmallDisk::of_mebibytes(48) else { return };
    let mut server = server(&disk).start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let (mut ana, mut bia) = (member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    let mut acknowledged = Vec::new();
    let mut n = 0;
    let mut say = async |client: &mut Client| {
        n += 1;
        let sent = send(client, n).await;
        acknowledged.extend(sent.then(|| content(n)));
        sent
    };
    assert!(say(&mut ana).await);
    disk.fill();
    wait::eventually("messages to be refused", async || !say(&mut ana).await).await;
    let body = is_ready(&server, false).await;
    assert_eq!(body["status"], "unavailable");
    assert!(body["storageError"].as_str().is_some_and(|why| why.contains("cannot be written")), "{body}");
    assert_eq!(ana.ask("chat:typing", json!({"chatId": "c1"})).await, json!({}), "an event that stores nothing is handled");
    assert_eq!(bia.next("chat:typing").await["userId"], "ana");
    assert!(!history(&mut bia).await.is_empty(), "reading works");
    server.connect("/chat", user("bia")).await;

    disk.free();
    is_ready(&server, true).await;
    wait::eventually("messages to be accepted again", async || say(&mut ana).await).await;
    let mut stored = history(&mut ana).await;
    stored.reverse();
    assert_eq!(stored, acknowledged);

    disk.fill();
    assert_eq!(server.terminate().await, Some(0), "a stop on a full disk");
    disk.fill();
    let output = self::server(&disk).start_failure().await;
    assert!(output.contains("cannot be written"), "a start on a full disk: {output}");
    disk.free();
    server.start_again().await;
    let mut ana = server.connect("/chat", user("ana")).await;
    join(&mut ana, "c1").await;
    assert_eq!(history(&mut ana).await.len(), acknowledged.len());
}

#[tokio::test]
async fn a_full_disk_is_reported_without_any_writes() {
    let Some(disk) = SmallDisk::of_mebibytes(48) else { return };
    let server = server(&disk).start().await;
    is_ready(&server, true).await;
    disk.fill();
    is_ready(&server, false).await;
    disk.free();
    is_ready(&server, true).await;
    assert!(!disk.path().join("data/trial").exists(), "the trial file is removed");
}

#[tokio::test]
async fn a_start_on_a_full_disk_fails_with_a_reason() {
    let Some(disk) = SmallDisk::of_mebibytes(48) else { return };
    disk.fill();
    let output = server(&disk).start_failure().await;
    let line = output.lines().find(|line| line.starts_with("hubbub: ")).unwrap_or_default();
    assert!(line.contains("cannot be written") && !output.contains("panicked"), "{output}");
}
