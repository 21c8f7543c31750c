//! Crashes: data that was acknowledged exists afterwards. Must never stop the server with SIGTERM.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Client, Server, wait};

use crate::helpers::{join, member, open_chat, user};

#[tokio::test]
async fn every_acked_message_survives_a_kill() {
    const SENDERS: usize = 8;
    const ROUNDS: usize = 40;
    let mut server = Server::dev().without_message_limit().start().await;
    let names: Vec<_> = (0..SENDERS).map(|n| format!("u{n}")).collect();
    open_chat(&server, "c1", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut senders = Vec::new();
    for name in &names {
        senders.push(member(&server, name, "c1").await);
    }
    let mut acked = HashSet::new();
    for round in 0..ROUNDS {
        let sent = join_all(senders.iter_mut().enumerate().map(async |(n, client)| {
            let content = format!("{round} of {n}");
            let ack = client.ask("chat:message", json!({"chatId": "c1", "content": content})).await;
            (ack == json!({})).then_some(content)
        }));
        acked.extend(sent.await.into_iter().flatten());
    }
    // More messages are in flight. Each may be stored or not, but not in part.
    for sender in &mut senders {
        sender.emit("chat:message", json!({"chatId": "c1", "content": "maybe"})).await;
    }
    server.kill9();
    assert_eq!(acked.len(), SENDERS * ROUNDS);

    server.start_again().await;
    let mut reader = server.connect("/chat", user("u0")).await;
    join(&mut reader, "c1").await;
    let stored: Vec<_> = everything(&mut reader).await.iter().map(|message| message["content"].clone()).collect();
    let missing: Vec<_> = acked.iter().filter(|content| !stored.contains(&json!(content))).collect();
    assert!(missing.is_empty(), "acked, but not stored: {missing:?}");
    assert!(stored.len() <= acked.len() + SENDERS, "nothing is stored twice");
}

/// The whole history, read page by page.
pub(crate) async fn everything(client: &mut Client) -> Vec<Value> {
    let mut all = Vec::new();
    let mut before = Value::Null;
    loop {
        let mut question = json!({"chatId": "c1", "limit": 100});
        if !before.is_null() {
            question["before"] = before;
        }
        let mut page = client.ask("chat:history", question).await;
        let refused = page["error"].to_string();
        all.append(page["messages"].as_array_mut().unwrap_or_else(|| panic!("no list of messages: {refused}")));
        before = page["nextBefore"].clone();
        if before.is_null() {
            return all;
        }
    }
}

#[tokio::test]
async fn an_accepted_bus_message_is_handled_after_a_kill() {
    let mut server = Server::dev().start().await;
    for n in 0..50 {
        open_chat(&server, &format!("c{n}"), &["ana"]).await;
    }
    server.kill9();
    server.start_again().await;
    let mut ana = server.connect("/chat", user("ana")).await;
    for n in 0..50 {
        let joined = join(&mut ana, &format!("c{n}")).await;
        assert_eq!(joined["chatId"], format!("c{n}"));
    }
}

#[tokio::test]
async fn data_opens_after_kills_during_writes() {
    let mut server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    for round in 0..5 {
        let mut ana = member(&server, "ana", "c1").await;
        for n in 0..30 {
            ana.emit("chat:message", json!({"chatId": "c1", "content": format!("{round}/{n}")})).await;
        }
        ana.next("chat:message").await;
        server.kill9();
        server.start_again().await;
    }
    let mut ana = member(&server, "ana", "c1").await;
    let first_of_each = async |client: &mut Client| {
        let all = everything(client).await;
        (0..5).all(|round| all.iter().any(|message| message["content"] == format!("{round}/0")))
    };
    wait::eventually("every delivered message to be in the history", async || first_of_each(&mut ana).await).await;
}
