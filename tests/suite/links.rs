//! Links that other clients show or open: a user's image, and links that backends publish. A link that would run code must never
//! be delivered.

use serde_json::{Value, json};
use tests::{Server, token};

use crate::helpers::{self, open_chat, say, user};

/// Links that must not be delivered.
const BAD: [&str; 4] = ["javascript:alert(1)", "data:text/html,<script>", "//elsewhere.example/a.png", "JAVA\tSCRIPT:x"];

const GOOD: &str = "https://cdn.example/a.png?w=1";

#[tokio::test]
async fn a_tokens_image_is_shown_only_if_it_is_a_safe_link() {
    let server = Server::dev().only(&["chat"]).without_message_limit().start().await;
    for (n, (claim, shown)) in BAD.map(|bad| (bad, Value::Null)).into_iter().chain([(GOOD, json!(GOOD))]).enumerate() {
        let (chat, who) = (format!("c{n}"), format!("u{n}"));
        let participants = json!([{"userId": who, "name": "Name", "role": "STUDENT"}]);
        server.publish("chat.upserted", json!({"chatId": chat, "participants": participants})).await;
        let mut client = server.connect("/chat", token(&who).name("Name").claim("image", claim)).await;
        helpers::join(&mut client, &chat).await;
        say(&mut client, &chat, "hello").await;
        assert_eq!(client.next("chat:message").await["user"]["image"], shown, "{claim}");
    }
}

#[tokio::test]
async fn a_participants_image_is_shown_only_if_it_is_a_safe_link() {
    let server = Server::dev().only(&["chat"]).without_message_limit().start().await;
    open_chat(&server, "other", &["ana"]).await;
    for (n, bad) in BAD.into_iter().enumerate() {
        let chat = format!("c{n}");
        let participants = json!([{"userId": "ana", "name": "Ana", "role": "STUDENT", "image": bad}]);
        server.publish("chat.upserted", json!({"chatId": chat, "participants": participants})).await;
        let mut ana = server.connect("/chat", user("ana")).await;
        let joined = helpers::join(&mut ana, &chat).await;
        assert_eq!(
            (&joined["participants"][0]["name"], &joined["participants"][0]["image"]),
            (&json!("Ana"), &Value::Null),
            "{bad}"
        );
        say(&mut ana, &chat, "hello").await;
        assert_eq!(ana.next("chat:message").await["user"]["image"], Value::Null, "{bad}");
    }
}

#[tokio::test]
async fn a_notification_is_delivered_without_an_unsafe_link() {
    let server = Server::dev().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    for (link, shown) in BAD.map(|bad| (bad, None)).into_iter().chain([("/courses/c1", Some("/courses/c1"))]) {
        let data = json!({"userId": "ana", "type": "T", "title": link, "message": "M", "link": link});
        server.publish("notification.created", data).await;
        let new = ana.next("notification:new").await;
        assert_eq!((&new["title"], new["link"].as_str()), (&json!(link), shown));
    }
    let list = ana.ask("notifications:list", json!({})).await;
    assert!(!list.to_string().contains("\"link\":\"javascript"), "{list}");
}

#[tokio::test]
async fn an_announcement_is_delivered_without_an_unsafe_image() {
    let server = Server::dev().start().await;
    server.publish("course.enrolled", json!({"courseId": "c1", "userId": "ana"})).await;
    let mut ana = tests::wait::until("ana to be accepted", tests::wait::DEADLINE, async || {
        tests::Client::connect(server.address(), "/course/c1", user("ana")).await.ok()
    })
    .await;
    for (image, shown) in BAD.map(|bad| (bad, Value::Null)).into_iter().chain([(GOOD, json!(GOOD))]) {
        let data = json!({"courseId": "c1", "instructor": {"name": "Maria", "image": image}, "title": "T", "content": "C"});
        server.publish("announcement.created", data).await;
        assert_eq!(ana.next("announcement:new").await["instructor"], json!({"name": "Maria", "image": shown}), "{image}");
    }
}
