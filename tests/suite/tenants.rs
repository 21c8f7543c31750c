//! Two companies with the same ids of users, threads, chats and videos. In every product, a tenant must never see, count, fill
//! or slow down what belongs to another; users without a tenant are a third group.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Server, Token, token, wait};

use crate::helpers::{expect_none_of, join};

/// The user `u1` of a tenant, or of none.
fn u1(tenant: Option<&str>) -> Token {
    let token = token("u1").name("Ana").role("ATTENDANT").claim("userId", "u1");
    match tenant {
        Some(tenant) => token.claim("companyId", tenant),
        None => token,
    }
}

async fn publish(server: &Server, tenant: &str, topic: &str, data: Value) {
    server.publish_message(&json!({"topic": topic, "tenant": tenant, "data": data, "key": tenant})).await;
}

/// Waits until everything published before has been handled and sent to the client's own tenant.
async fn settled(server: &Server, client: &mut Client, tenant: Option<&str>) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let title = format!("marker {}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let mut message = json!({"topic": "notification.created", "data": {"userId": "u1", "title": title}, "key": "marks"});
    message["tenant"] = json!(tenant);
    server.publish_message(&message).await;
    while client.next("notification").await["title"] != title {}
}

#[tokio::test]
async fn users_with_the_same_id_in_other_tenants_receive_no_events() {
    let server = Server::dev().start().await;
    let mut acme = server.connect("/", u1(Some("acme"))).await;
    let mut phone = server.connect("/", u1(Some("acme"))).await;
    let mut other = server.connect("/", u1(Some("other"))).await;
    let mut bare = server.connect("/", u1(None)).await;

    publish(&server, "acme", "notification.created", json!({"userId": "u1", "title": "t"})).await;
    assert_eq!(acme.next("notification:new").await["title"], "t");
    acme.emit("video:progress", json!({"videoId": "v1", "timestamp": 7})).await;
    assert_eq!(phone.next("video:sync").await["timestamp"], 7);
    assert_eq!(acme.ask("notifications:subscribe", json!({"channelId": "c1"})).await, json!({}));
    server.publish("channel.notification", json!({"channelId": "c1", "title": "a shared channel"})).await;
    while acme.next("notification").await["title"] != "a shared channel" {}
    let page = acme.ask("notifications:list", json!({})).await;
    assert_eq!(page["unreadCount"], 2, "{page}");

    settled(&server, &mut other, Some("other")).await;
    settled(&server, &mut bare, None).await;
    for client in [&mut other, &mut bare] {
        expect_none_of(client, &["video:sync"]).await;
        let page = client.ask("notifications:list", json!({})).await;
        assert_eq!(page["unreadCount"], 1, "only the marker: {page}");
    }
}

#[tokio::test]
async fn equal_ids_of_two_tenants_count_as_two_users_with_separate_limits() {
    let server = Server::dev().start().await;
    for tenant in ["acme", "other"] {
        publish(&server, tenant, "chat.upserted", json!({"chatId": "c1", "participants": [{"userId": "u1", "name": "Ana"}]}))
            .await;
    }
    let mut acme = server.connect("/chat", u1(Some("acme"))).await;
    join(&mut acme, "c1").await;
    let mut other = server.connect("/chat", u1(Some("other"))).await;
    assert_eq!(join(&mut other, "c1").await["onlineCount"], 2);
    let mut bare = server.connect("/chat", u1(None)).await;
    assert_eq!(bare.refused("chat:join", json!({"chatId": "c1"})).await.1, "Not authorized");
    let say = json!({"chatId": "c1", "content": "hello"});
    for _ in 0..10 {
        assert_eq!(acme.ask("chat:message", say.clone()).await, json!({}));
    }
    assert_eq!(acme.refused("chat:message", say.clone()).await.0, "rate_limited");
    assert_eq!(other.ask("chat:message", say).await, json!({}));
}

#[tokio::test]
async fn each_tenant_of_the_support_desk_has_its_own_attendants_and_queue() {
    let server = Server::dev().start().await;
    let mut acme = server.connect("/hub", u1(Some("acme"))).await;
    assert_eq!(acme.next("attendant:online").await["userId"], "u1");
    let mut other = server.connect("/hub", u1(Some("other"))).await;
    let mut bare = server.connect("/hub", u1(None)).await;
    assert_eq!(other.next("attendant:online").await["userId"], "u1");
    assert_eq!(bare.next("attendant:online").await["userId"], "u1");

    publish(&server, "acme", "queue.added", json!({"itemId": "i1", "threadId": "t1", "customer": {"id": "c1"}})).await;
    assert_eq!(acme.next("queue:new").await["itemId"], "i1");
    assert_eq!(acme.next("queue:updated").await["length"], 1);
    assert_eq!(acme.ask("presence:away", Value::Null).await, json!({}));
    acme.next("attendant:away").await;
    for client in [&mut other, &mut bare] {
        assert_eq!(client.ask("queue:take", json!({"itemId": "i1"})).await["taken"], false);
        let listed = client.ask("presence:list", Value::Null).await;
        assert_eq!(
            (listed["attendants"].as_array().map(Vec::len), &listed["attendants"][0]["status"]),
            (Some(1), &json!("online"))
        );
        expect_none_of(client, &["queue:new", "queue:updated", "attendant:away", "attendant:online"]).await;
    }
    assert_eq!(acme.ask("queue:take", json!({"itemId": "i1"})).await["taken"], true);
}

#[tokio::test]
async fn the_api_reaches_only_the_named_tenants_users_and_rooms() {
    let server = Server::dev().start().await;
    let mut acme = server.connect("/", u1(Some("acme"))).await;
    let mut other = server.connect("/", u1(Some("other"))).await;
    let mut bare = server.connect("/", u1(None)).await;
    for client in [&mut acme, &mut other, &mut bare] {
        client.ask("video:join", json!({"videoId": "v1"})).await;
    }
    let emit = async |to: Value, event: &str| {
        let mut emit = json!({"namespace": "/", "event": event});
        emit.as_object_mut().expect("an object").extend(to.as_object().expect("an object").clone());
        server.emit(&emit).await;
    };
    emit(json!({"user": "u1", "tenant": "acme"}), "to acme's user").await;
    emit(json!({"room": "user:u1", "tenant": "acme"}), "to acme's user room").await;
    // All tenants share a video's room; the tenant narrows it to its own members.
    emit(json!({"room": "video:v1", "tenant": "acme"}), "to acme in the room").await;
    emit(json!({"user": "u1"}), "to the user without a tenant").await;
    emit(json!({"room": "video:v1"}), "to the room").await;
    for (client, received) in [
        (&mut acme, &["to acme's user", "to acme's user room", "to acme in the room"][..]),
        (&mut other, &[]),
        (&mut bare, &["to the user without a tenant"]),
    ] {
        client.next("to the room").await;
        for event in ["to acme's user", "to acme's user room", "to acme in the room", "to the user without a tenant"] {
            assert_eq!(client.received(event).await.is_some(), received.contains(&event), "{event}");
        }
    }

    // The name of a company's room of notifications contains the company's id.
    let mut crm = server.connect("/notifications", u1(Some("acme"))).await;
    server.emit(&json!({"namespace": "/notifications", "room": "company:acme", "tenant": "acme", "event": "news"})).await;
    crm.next("news").await;
}

#[tokio::test]
async fn a_key_bound_to_a_tenant_accepts_no_other_tenant() {
    let keys = r#"[{"secret": "dev-secret", "tenant": "acme", "iss": "acme"}, {"secret": "dev-secret"}]"#;
    let server = Server::dev().env("HUBBUB_AUTH__KEYS", keys).start().await;
    let of_acme = |tenant: Option<&str>| u1(tenant).claim("iss", "acme");
    assert_eq!(server.connect_refused("/chat", of_acme(Some("other"))).await, "Invalid token");
    // A token without a tenant gets the key's tenant.
    let mut unnamed = server.connect("/", of_acme(None)).await;
    let mut named = server.connect("/", of_acme(Some("acme"))).await;
    publish(&server, "acme", "notification.created", json!({"userId": "u1", "title": "t"})).await;
    for client in [&mut unnamed, &mut named] {
        assert_eq!(client.next("notification").await["title"], "t");
    }
    // A new token must come from the same issuer.
    let fresh = |token: Token| json!({"token": token.sign()});
    assert_eq!(named.ask("auth:refresh", fresh(of_acme(Some("acme")))).await, json!({}));
    for stranger in [u1(Some("acme")), u1(Some("acme")).claim("iss", "another"), of_acme(Some("other"))] {
        assert_eq!(named.refused("auth:refresh", fresh(stranger)).await.0, "unauthenticated");
    }
}

#[tokio::test]
async fn the_default_tenant_applies_where_none_is_named() {
    let server = Server::dev().env("HUBBUB_AUTH__DEFAULT_TENANT", "acme").start().await;
    let mut bare = server.connect("/", u1(None)).await;
    let mut named = server.connect("/", u1(Some("acme"))).await;
    let mut other = server.connect("/", u1(Some("other"))).await;
    server.publish("notification.created", json!({"userId": "u1", "title": "t"})).await;
    server.emit(&json!({"namespace": "/", "user": "u1", "event": "hello"})).await;
    for client in [&mut bare, &mut named] {
        assert_eq!(client.next("notification").await["title"], "t");
        client.next("hello").await;
    }
    settled(&server, &mut other, Some("other")).await;
    expect_none_of(&mut other, &["hello"]).await;

    let mut attendants = [server.connect("/hub", u1(None)).await, server.connect("/hub", u1(Some("acme"))).await];
    server.publish("queue.added", json!({"itemId": "i1", "threadId": "t1", "customer": {"id": "c1"}})).await;
    for client in &mut attendants {
        assert_eq!(client.next("queue:new").await["itemId"], "i1");
    }
}

#[tokio::test]
async fn an_invalid_tenant_name_is_refused_everywhere() {
    let server = Server::dev().start().await;
    for tenant in ["", "a\u{1f}b", &"t".repeat(257)] {
        for (path, body) in [
            ("/api/publish", json!({"topic": "notification.created", "tenant": tenant, "data": {"userId": "u1"}})),
            ("/api/emit", json!({"namespace": "/", "user": "u1", "tenant": tenant, "event": "e"})),
        ] {
            assert_eq!(server.api(path, &body).await.0, 400, "{path} {tenant:?}");
        }
        if !tenant.is_empty() {
            assert_eq!(server.connect_refused("/chat", u1(Some(tenant))).await, "Invalid token", "{tenant:?}");
        }
    }
    let none_counted = async || server.admin(Method::GET, "/ready", Vec::new()).await.0 == 200;
    wait::eventually("the server to be ready", none_counted).await;
}

#[tokio::test]
async fn data_without_a_tenant_moves_to_the_default_tenant_at_startup() {
    let scratch = tests::server::Scratch::new();
    let builder = || Server::dev().single_node().data(scratch.path());
    let server = builder().start().await;
    let mut ana = server.connect("/", u1(None)).await;
    server.publish("notification.created", json!({"userId": "u1", "title": "stored"})).await;
    server.publish("course.enrolled", json!({"courseId": "c1", "userId": "u1"})).await;
    ana.ask("notifications:subscribe", json!({"channelId": "c1"})).await;
    ana.next("notification:new").await;
    wait::eventually("the enrolment", async || Client::connect(server.address(), "/course/c1", u1(None)).await.is_ok()).await;
    drop((ana, server));

    let server = builder().env("HUBBUB_AUTH__DEFAULT_TENANT", "acme").start().await;
    server.logged("stored keys without a tenant are the default tenant's now").await;
    for who in [u1(None), u1(Some("acme"))] {
        let page = server.connect("/", &who).await.ask("notifications:list", json!({})).await;
        assert_eq!((&page["unreadCount"], &page["notifications"][0]["title"]), (&json!(1), &json!("stored")), "{page}");
        drop(server.connect("/course/c1", &who).await);
    }
    assert_eq!(server.connect_refused("/course/c1", u1(Some("other"))).await, "Not enrolled");
    server.publish("channel.notification", json!({"channelId": "c1", "title": "of the channel"})).await;
    let mut acme = server.connect("/", u1(Some("acme"))).await;
    wait::eventually("the channel", async || acme.ask("notifications:list", json!({})).await["unreadCount"] == 2).await;
}
