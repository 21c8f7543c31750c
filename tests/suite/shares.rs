//! Shares of one user, and of all users of a tenant together: storage, messages, timers, presence, rooms and CPU. A user over the
//! share is refused with a reason, and no other user is.

use serde_json::{Value, json};
use tests::server::Builder;
use tests::{Client, Server, Token, token};

use crate::helpers::{member, open_chat};

fn limited(keys: &[(&str, &str)]) -> Builder {
    keys.iter().fold(Server::dev(), |builder, (key, value)| builder.env(&format!("HUBBUB_{key}"), value))
}

/// How often the limit was exceeded.
async fn passed(server: &Server, limit: &str) -> f64 {
    server.metrics().await.get("hubbub_limits_passed_total", &[("limit", limit), ("outcome", "refused")]).unwrap_or(0.0)
}

/// Sends an event up to `most` times until it is refused and returns the refusal.
async fn until_refused(client: &mut Client, most: usize, event: &str, payload: impl Fn(usize) -> Value) -> (usize, Value) {
    for n in 0..most {
        let ack = client.ask(event, payload(n)).await;
        if !ack["error"].is_null() {
            return (n, ack["error"].clone());
        }
    }
    panic!("{event} was never refused");
}

fn at(tenant: &str, id: &str) -> Token {
    token(id).claim("companyId", tenant)
}

#[tokio::test]
async fn a_users_writes_per_minute_are_limited() {
    let server =
        limited(&[("SHARES__USER_STORE_BYTES", "20000"), ("PLUGINS__CHAT__CONFIG__MESSAGES_PER_MINUTE", "0")]).start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let (mut ana, mut bia) = (member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    let say = |_| json!({"chatId": "c1", "content": "x".repeat(1900)});
    let (stored, refused) = until_refused(&mut ana, 20, "chat:message", say).await;
    assert!((5..=10).contains(&stored), "{stored}");
    assert_eq!((&refused["code"], refused["retryAfterMs"].as_u64().is_some()), (&json!("rate_limited"), true), "{refused}");
    assert_eq!(bia.ask("chat:message", say(0)).await, json!({}));
    assert!(passed(&server, "shares.user_store_bytes").await >= 1.0);
    // The refused message is not stored.
    let page = ana.ask("chat:history", json!({"chatId": "c1"})).await;
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(stored + 1));
}

#[tokio::test]
async fn a_tenants_writes_per_minute_are_limited() {
    let server = limited(&[("SHARES__TENANT_STORE_BYTES", "1000")]).start().await;
    let report = |n| json!({"lessonId": format!("l{n}"), "watchedDuration": 1, "totalDuration": 2});
    let mut refused = Value::Null;
    for id in ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"] {
        let mut client = server.connect("/", at("acme", id)).await;
        for n in 0..2 {
            refused = client.ask("lesson:progress", report(n)).await["error"]["code"].clone();
        }
    }
    assert_eq!(refused, "rate_limited");
    assert!(passed(&server, "shares.tenant_store_bytes").await >= 1.0);
    let mut other = server.connect("/", at("other", "u1")).await;
    assert_eq!(other.ask("lesson:progress", report(0)).await["saved"], true);
}

#[tokio::test]
async fn a_single_call_over_the_share_is_too_large() {
    let server = limited(&[("SHARES__USER_STORE_BYTES", "100")]).start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let refused = ana.refused("chat:message", json!({"chatId": "c1", "content": "x".repeat(200)})).await;
    assert_eq!(refused, ("too_large".into(), "Too much to store".into()));
}

#[tokio::test]
async fn a_users_waiting_timers_are_limited() {
    let server = limited(&[("SHARES__USER_TIMERS", "2")]).start().await;
    let mut ana = server.connect("/", token("ana")).await;
    let report = |n: usize| json!({"lessonId": format!("l{}", n / 2), "watchedDuration": n, "totalDuration": 100});
    // The first report of each lesson is saved, and the second waits for a timer.
    let (before, refused) = until_refused(&mut ana, 20, "lesson:progress", report).await;
    assert_eq!((before, &refused["code"], &refused["message"]), (5, &json!("too_large"), &json!("Too many timers")));
    assert_eq!(ana.ask("lesson:progress", report(1)).await["saved"], false, "a waiting lesson accepts another report");
    let mut bia = server.connect("/", token("bia")).await;
    for n in 0..2 {
        assert_eq!(bia.ask("lesson:progress", report(n)).await["error"], Value::Null);
    }
    assert_eq!(passed(&server, "shares.user_timers").await, 1.0);
}

#[tokio::test]
async fn a_users_rooms_are_limited_across_sockets() {
    let server = limited(&[("SHARES__USER_ROOMS", "20")]).start().await;
    let (mut desk, mut phone) = (server.connect("/", token("ana")).await, server.connect("/", token("ana")).await);
    let video = |n: usize| json!({"videoId": format!("v{n}")});
    for n in 0..8 {
        assert_eq!(desk.ask("video:join", video(n)).await, json!({}));
    }
    let (joined, refused) = until_refused(&mut phone, 20, "video:join", video).await;
    assert!((4..=12).contains(&joined), "{joined}: rooms joined at the connect count too");
    assert_eq!((&refused["code"], &refused["message"]), (&json!("too_large"), &json!("In too many rooms")));
    assert_eq!(desk.ask("video:join", video(0)).await, json!({}), "a room that the socket is in");
    assert_eq!(desk.ask("video:leave", video(0)).await, json!({}));
    assert_eq!(phone.ask("video:join", video(joined)).await, json!({}), "the user may join a room again");
    let mut bia = server.connect("/", token("bia")).await;
    assert_eq!(bia.ask("video:join", video(0)).await, json!({}));
}

#[tokio::test]
async fn a_users_messages_per_minute_are_limited() {
    let server = limited(&[("SHARES__USER_MESSAGES", "1")]).start().await;
    let mut ana = server.connect("/hub", token("ana").role("ATTENDANT")).await;
    let mut bia = server.connect("/hub", token("bia").role("ATTENDANT")).await;
    for item in ["i1", "i2"] {
        server.publish("queue.added", json!({"itemId": item, "threadId": "t", "customer": {"id": "c"}})).await;
        ana.next("queue:new").await;
    }
    assert_eq!(ana.ask("queue:take", json!({"itemId": "i1"})).await["taken"], true);
    assert_eq!(ana.refused("queue:take", json!({"itemId": "i2"})).await.0, "rate_limited");
    assert_eq!(bia.ask("queue:take", json!({"itemId": "i2"})).await["taken"], true, "the item still waited");
}

#[tokio::test]
async fn a_users_presence_groups_are_limited() {
    let server = limited(&[("SHARES__USER_PRESENCE_KEYS", "1")]).start().await;
    let _desk = server.connect("/hub", at("acme", "ana").role("ATTENDANT")).await;
    let _team = server.connect("/", at("acme", "ana")).await;
    assert!(passed(&server, "shares.user_presence_keys").await >= 1.0);
    let mut bia = server.connect("/hub", at("acme", "bia").role("ATTENDANT")).await;
    let listed = bia.ask("presence:list", Value::Null).await;
    assert_eq!(listed["attendants"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[tokio::test]
async fn a_users_cpu_is_limited_across_reconnects() {
    let server = limited(&[("ADMISSION__USER_CPU", "0.001")]).start().await;
    let mut ana = server.connect("/", token("ana")).await;
    let mut bia = server.connect("/", token("bia")).await;
    // An event that no plugin handles costs 0.1 ms, and a second allows 1 ms.
    let mut code = Value::Null;
    for _ in 0..100 {
        code = ana.ask("nobody:takes:this", json!({})).await["error"]["code"].clone();
        if code == "rate_limited" {
            break;
        }
    }
    assert_eq!(code, "rate_limited");
    let mut again = server.connect("/", token("ana")).await;
    let refused = again.ask("video:join", json!({"videoId": "v1"})).await;
    assert_eq!(
        (&refused["error"]["code"], refused["error"]["retryAfterMs"].is_u64()),
        (&json!("rate_limited"), true),
        "{refused}"
    );
    assert_eq!(bia.ask("video:join", json!({"videoId": "v1"})).await, json!({}));
    assert!(passed(&server, "user_cpu").await >= 2.0);
}

#[tokio::test]
async fn token_refreshes_and_refused_connects_count_as_cpu() {
    let server = limited(&[("ADMISSION__USER_CPU", "0.01")]).start().await;
    let mut ana = server.connect("/", token("ana")).await;
    let fresh = |_| json!({"token": token("ana").sign()});
    let (before, refused) = until_refused(&mut ana, 20, "auth:refresh", fresh).await;
    assert!((2..=4).contains(&before) && refused["code"] == "rate_limited", "{before}: {refused}");

    let mut stranger = Client::open(server.address(), &().into()).await.expect("a connection");
    let mut sentences = Vec::new();
    for _ in 0..8 {
        stranger.send_raw(r#"40/chat,{"token":"nonsense"}"#).await;
        sentences.push(stranger.refusal().await);
    }
    assert_eq!((sentences[0].as_str(), sentences[7].as_str()), ("Invalid token", "Too many attempts"), "{sentences:?}");
}
