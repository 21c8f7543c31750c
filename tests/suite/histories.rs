//! Pages of each product's history: newest first, before a message, and after one. Must never depend on a page's default size.

use serde_json::{Value, json};
use tests::{Client, Server, token, wait};

use crate::helpers::{keys, member, open_chat, say, user};

/// Messages that a client missed.
const MISSED: usize = 250;

#[tokio::test]
async fn a_gap_of_250_messages_is_filled_in_pages_after_the_last_known_message() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut bia = member(&server, "bia", "c1").await;
    say(&mut ana, "c1", "the last known").await;
    let known = bia.next("chat:message").await["id"].clone();
    bia.leave().await;
    ana.next("chat:message").await;
    let mut missed = Vec::new();
    for n in 0..MISSED {
        say(&mut ana, "c1", &n.to_string()).await;
        missed.push(ana.next("chat:message").await);
    }

    let mut bia = server.connect("/chat", user("bia")).await;
    let (mut filled, mut pages, mut after) = (Vec::new(), 0, known);
    loop {
        let page = bia.ask("chat:history", json!({"chatId": "c1", "after": after, "limit": 100})).await;
        filled.extend(messages(&page));
        pages += 1;
        let Some(next) = page.get("nextAfter") else { break };
        after = next.clone();
    }
    assert_eq!((filled, pages), (missed, 3), "oldest first, without a gap or a double");
}

#[tokio::test]
async fn a_course_chats_history_is_paged_both_ways() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut sent = Vec::new();
    for n in 0..5 {
        say(&mut ana, "c1", &n.to_string()).await;
        sent.push(ana.next("chat:message").await);
    }
    paged_both_ways(&mut ana, "chat:history", ("chatId", "c1"), &sent).await;
}

#[tokio::test]
async fn a_live_chats_history_is_paged_both_ways_for_visitors() {
    let server = Server::dev().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    ana.ask("chat:join", json!({"videoId": "v1"})).await;
    let mut sent = Vec::new();
    for n in 0..5 {
        ana.ask("chat:message", json!({"videoId": "v1", "message": n.to_string()})).await;
        sent.push(ana.next("chat:message").await);
    }
    let mut visitor = server.connect("/", ()).await;
    paged_both_ways(&mut visitor, "chat:history", ("videoId", "v1"), &sent).await;
}

#[tokio::test]
async fn a_threads_history_is_paged_both_ways_in_both_namespaces() {
    let server = Server::dev().start().await;
    server.publish("thread.upserted", json!({"threadId": "t1", "customer": {"id": "cal", "name": "Cal"}})).await;
    let mut ana = server.connect("/hub", user("ana").claim("role", "ATTENDANT")).await;
    let mut cal = server.connect("/portal", user("cal")).await;
    for client in [&mut ana, &mut cal] {
        wait::eventually("the thread", async || client.ask("join:thread", json!("t1")).await == json!({})).await;
    }
    let mut sent = Vec::new();
    for n in 0..4 {
        let sender = if n % 2 == 0 { &mut ana } else { &mut cal };
        sender.ask("thread:send", json!({"threadId": "t1", "content": n.to_string()})).await;
        sent.push(cal.next("thread:message").await);
    }
    let of_the_backend = json!({"id": "m-7", "threadId": "t1", "userId": "bot", "content": "published"});
    server.publish("thread.message", of_the_backend).await;
    sent.push(cal.next("thread:message").await);
    for client in [&mut ana, &mut cal] {
        paged_both_ways(client, "thread:history", ("threadId", "t1"), &sent).await;
    }
    let mut dan = server.connect("/portal", user("dan")).await;
    let refused = dan.refused("thread:history", json!({"threadId": "t1"})).await;
    assert_eq!(refused, ("forbidden".to_owned(), "Not authorized".to_owned()));
}

#[tokio::test]
async fn a_companys_conversation_is_paged_both_ways() {
    let server = Server::dev().start().await;
    let of = |company: &str| token("ana").claim("userId", "ana").claim("companyId", company);
    server.publish("conversation.upserted", json!({"companyId": "acme", "conversationId": "c1"})).await;
    let mut ana = server.connect("/conversations", of("acme")).await;
    wait::eventually("the conversation", async || ana.ask("join:conversation", json!("c1")).await == json!({})).await;
    let mut sent = Vec::new();
    for n in 0..5 {
        ana.ask("message:send", json!({"conversationId": "c1", "content": n.to_string()})).await;
        sent.push(ana.next("message:new").await);
    }
    paged_both_ways(&mut ana, "message:history", ("conversationId", "c1"), &sent).await;
    let mut spy = server.connect("/conversations", of("bolt")).await;
    let refused = spy.refused("message:history", json!({"conversationId": "c1"})).await;
    assert_eq!(refused, ("not_found".to_owned(), "Conversation not found".to_owned()));
}

/// Reads five messages in pages of two, and expects the refusals of both keys and of an unknown id.
async fn paged_both_ways(client: &mut Client, event: &str, (name, id): (&str, &str), sent: &[Value]) {
    let first = client.ask(event, json!({name: id, "limit": 2})).await;
    assert_eq!((&first[name], messages(&first)), (&json!(id), vec![sent[4].clone(), sent[3].clone()]));
    let second = client.ask(event, json!({name: id, "limit": 2, "before": first["nextBefore"]})).await;
    assert_eq!(messages(&second), [sent[2].clone(), sent[1].clone()]);
    let last = client.ask(event, json!({name: id, "before": sent[1]["id"]})).await;
    assert_eq!((messages(&last), keys(&last).contains(&"nextBefore")), (vec![sent[0].clone()], false));

    let first = client.ask(event, json!({name: id, "limit": 2, "after": sent[0]["id"]})).await;
    assert_eq!(messages(&first), sent[1..3]);
    let second = client.ask(event, json!({name: id, "limit": 2, "after": first["nextAfter"]})).await;
    assert_eq!((messages(&second), second.get("nextAfter")), (sent[3..].to_vec(), None));

    for wrong in
        [json!({"after": "unknown"}), json!({"before": "unknown"}), json!({"after": sent[0]["id"], "before": sent[4]["id"]})]
    {
        let mut payload = wrong;
        payload[name] = json!(id);
        assert_eq!(client.refused(event, payload).await.0, "invalid");
    }
}

fn messages(page: &Value) -> Vec<Value> {
    page["messages"].as_array().cloned().unwrap_or_else(|| panic!("no page: {page}"))
}
