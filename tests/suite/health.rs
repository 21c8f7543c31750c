//! Health checks and metrics for operators. Must never need a token, except on the paths of the admin API.

use reqwest::Method;
use serde_json::json;
use tests::{Server, wait};

use crate::helpers::{is_time, keys, member, open_chat, say};

#[tokio::test]
async fn health_has_the_format_of_each_product() {
    let server = Server::dev().start().await;
    let _visitor = server.connect("/", ()).await;
    let (status, health) = server.get("/health").await;
    assert_eq!(status, 200);
    assert_eq!(keys(&health), ["connections", "service", "status", "timestamp"]);
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("realtime")));
    assert_eq!(health["connections"], 1);
    assert!(is_time(&health["timestamp"]), "{health}");

    let (status, health) = server.get("/socket/health").await;
    assert_eq!(status, 200);
    assert_eq!(keys(&health), ["connectedSockets", "rooms", "status", "uptime"]);
    assert_eq!((&health["status"], &health["connectedSockets"]), (&json!("healthy"), &json!(1)));
    assert!(health["uptime"].is_number() && health["rooms"].is_number(), "{health}");
}

#[tokio::test]
async fn a_closed_connection_is_no_longer_counted() {
    let server = Server::dev().start().await;
    let clients = [server.connect("/", ()).await, server.connect("/", ()).await];
    assert_eq!(server.get("/health").await.1["connections"], 2);
    for client in clients {
        client.leave().await;
    }
    wait::eventually("the count to be 0", async || server.get("/health").await.1["connections"] == 0).await;
}

#[tokio::test]
async fn metrics_count_plugin_events() {
    let server = Server::dev().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    for n in 0..5 {
        say(&mut ana, "c1", &n.to_string()).await;
    }
    let metrics = server.metrics().await;
    assert!(
        metrics.names().iter().all(|name| name.starts_with("hubbub_") || name.starts_with("process_")),
        "{:?}",
        metrics.names()
    );
    let connections = metrics.get("hubbub_connections", &[]);
    assert_eq!(connections, Some(1.0), "of {:?}", metrics.names());
    let events = metrics.get("hubbub_plugin_events_total", &[("plugin", "chat")]).expect("events of the chat are counted");
    assert!(events >= 6.0, "{events}");
}

#[tokio::test]
async fn the_admin_port_requires_its_token() {
    let server = Server::dev().start().await;
    let ready = server.http().get(server.admin_url("/ready")).send().await.expect("an answer");
    assert_eq!(ready.status(), 200);
    let without = server.http().get(server.admin_url("/admin/plugins")).send().await.expect("an answer");
    assert_eq!(without.status(), 401);
    assert_eq!(without.headers()["content-type"], "application/problem+json");
    let (status, plugins) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    assert_eq!(status, 200);
    assert!(plugins.to_string().contains("\"chat\""), "{plugins}");
    for path in ["/metrics", "/ready", "/admin/plugins"] {
        assert_eq!(server.get(path).await.0, 404, "{path} is not for the public port");
    }
}
