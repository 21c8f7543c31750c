//! Limits on connecting: each is refused at once in the format of its transport and counted, and other clients continue. Must
//! never need more than a few clients, because limits are set low.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::json;
use tests::client::ConnectFailure;
use tests::polling::Polling;
use tests::stock::Transports;
use tests::{Client, Server, Stock, token, wait};

use crate::helpers::user;

/// How often a limit was exceeded: refused, or allowed in a dry run.
async fn passed(server: &Server, limit: &str, outcome: &str) -> f64 {
    server.metrics().await.get("hubbub_limits_passed_total", &[("limit", limit), ("outcome", outcome)]).unwrap_or_default()
}

async fn handshake(server: &Server, forwarded_for: &str) -> reqwest::Response {
    let request = server.http().get(server.url("/socket.io/?EIO=4&transport=polling")).header("x-forwarded-for", forwarded_for);
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn a_handshake_over_the_connection_limit_gets_503() {
    let server = Server::dev().env("HUBBUB_DOOR__CONNECTIONS", "2").start().await;
    let first = server.connect("/", ()).await;
    let polling = Polling::open(&server).await;
    assert_eq!(polling.send("40".into()).await, 200, "an existing session is not limited");
    let refused = Client::connect(server.address(), "/", ()).await.err();
    assert_eq!(refused, Some(ConnectFailure::Http(503)));
    let refused = handshake(&server, "").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(passed(&server, "connections", "refused").await, 2.0);
    first.leave().await;
    wait::eventually("a new connection to be accepted", async || Client::connect(server.address(), "/", ()).await.is_ok()).await;
}

#[tokio::test]
async fn a_stock_client_refused_by_a_full_node_connects_later() {
    let server = Server::dev().env("HUBBUB_DOOR__CONNECTIONS", "1").start().await;
    let first = server.connect("/", ()).await;
    let leave = async {
        wait::eventually("the client to be refused", async || passed(&server, "connections", "refused").await > 0.0).await;
        first.leave().await;
    };
    let (connected, ()) = join(Stock::Node.connect(&server, "/", json!({}), Transports::Upgrade), leave).await;
    assert!(connected.is_ok(), "the client gave up: {:?}", connected.err());
}

#[tokio::test]
async fn the_address_limit_uses_the_header_of_trusted_proxies_only() {
    let limited = || Server::dev().env("HUBBUB_ADMISSION__ADDRESS_CONNECTIONS", "1");
    let server = limited().env("HUBBUB_ADMISSION__TRUSTED_PROXIES", "[\"127.0.0.0/8\"]").start().await;
    let mut statuses = Vec::new();
    for address in ["1.1.1.1", "1.1.1.1", "2.2.2.2", "1.1.1.1, 3.3.3.3", "2001:db8::1", "2001:db8::2"] {
        statuses.push(handshake(&server, address).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 429, 200, 200, 200, 429]);
    assert_eq!(passed(&server, "address_connections", "refused").await, 2.0);

    let server = limited().start().await;
    assert_eq!(handshake(&server, "1.1.1.1").await.status(), 200);
    assert_eq!(handshake(&server, "2.2.2.2").await.status(), 429, "the header of an untrusted proxy is ignored");
}

#[tokio::test]
async fn a_users_sockets_are_limited_across_devices_and_namespaces() {
    let server = Server::dev().env("HUBBUB_ADMISSION__USER_SOCKETS", "2").start().await;
    let first = server.connect("/", user("ana")).await;
    let _second = server.connect("/chat", user("ana")).await;
    assert_eq!(server.connect_refused("/", user("ana")).await, "Too many connections");
    assert_eq!(passed(&server, "user_sockets", "refused").await, 1.0);
    server.connect("/", user("bia")).await;
    server.connect("/", token("ana").claim("tenant", "another")).await;
    first.leave().await;
    wait::eventually("a new connection to be accepted", async || {
        Client::connect(server.address(), "/", user("ana")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_burst_of_connects_is_queued_and_all_succeed() {
    let server = Server::dev().env("HUBBUB_ADMISSION__CONNECTS_PER_SECOND", "20").start().await;
    let began = Instant::now();
    let clients = join_all((0..40).map(|_| Client::connect(server.address(), "/", ()))).await;
    assert!(clients.iter().all(Result::is_ok), "{:?}", clients.iter().filter_map(|client| client.as_ref().err()).next());
    assert!(began.elapsed() >= Duration::from_millis(900), "no connect waited: {:?}", began.elapsed());
    assert_eq!(passed(&server, "connects_per_second", "refused").await, 0.0);
    assert_eq!(server.metrics().await.get("hubbub_connects_waiting", &[]), Some(0.0));
}

#[tokio::test]
async fn a_connect_over_the_queue_limit_gets_503_at_once() {
    let limited = || Server::dev().env("HUBBUB_ADMISSION__CONNECTS_PER_SECOND", "1");
    let by_queue = limited().env("HUBBUB_ADMISSION__CONNECT_QUEUE", "1").start().await;
    let by_time = limited().env("HUBBUB_GATEWAY__CONNECT_TIMEOUT", "1s").start().await;
    for server in [by_queue, by_time] {
        let answers = join_all((0..5).map(|_| handshake(&server, ""))).await;
        let accepted = answers.iter().filter(|answer| answer.status() == 200).count();
        assert!((2..=3).contains(&accepted), "{accepted} accepted: one at once and one or two after a wait");
        let refused = answers.iter().find(|answer| answer.status() == 503).expect("one is refused");
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(passed(&server, "connects_per_second", "refused").await, (5 - accepted) as f64);
    }
}

#[tokio::test]
async fn each_event_limit_refuses_with_rate_limited_and_a_retry_time() {
    for limit in ["connection_events_per_second", "user_events_per_second", "plugin_events_per_second"] {
        let server = Server::dev().env(&format!("HUBBUB_ADMISSION__{}", limit.to_uppercase()), "3").start().await;
        let mut ana = server.connect("/", user("ana")).await;
        let mut acks = Vec::new();
        for _ in 0..4 {
            acks.push(ana.emit_for_ack(&json!(["chat:join", {"videoId": "v1"}])).await);
        }
        let mut last = json!({});
        for ack in acks {
            last = ana.acked(ack).await;
        }
        assert_eq!(last["error"]["code"], "rate_limited", "{limit}: {last}");
        assert!((1..=334).contains(&last["error"]["retryAfterMs"].as_u64().expect("a time")), "{limit}: {last}");
        assert_eq!(passed(&server, limit, "refused").await, 1.0, "{limit}");
        let refused = server.metrics().await.get("hubbub_events_refused_total", &[("reason", limit)]);
        assert_eq!(refused, Some(1.0), "{limit}");
        wait::eventually("the next event to be served", async || {
            ana.ask("chat:join", json!({"videoId": "v1"})).await["error"].is_null()
        })
        .await;
    }
}

#[tokio::test]
async fn a_users_events_are_limited_across_devices() {
    let server = Server::dev().env("HUBBUB_ADMISSION__USER_EVENTS_PER_SECOND", "1").start().await;
    let (mut phone, mut laptop) = (server.connect("/", user("ana")).await, server.connect("/", user("ana")).await);
    let mut bia = server.connect("/", user("bia")).await;
    let [first, second] = [&mut phone, &mut laptop].map(|device| device.ask("chat:join", json!({"videoId": "v1"})));
    let (first, second) = (first.await, second.await);
    assert!(first["error"].is_null() && second["error"]["code"] == "rate_limited", "{first} {second}");
    assert!(bia.ask("chat:join", json!({"videoId": "v1"})).await["error"].is_null());
}

#[tokio::test]
async fn a_dry_run_counts_and_refuses_nothing() {
    let mut builder = Server::dev();
    let limits = [
        "connections",
        "address_connections",
        "user_sockets",
        "connects_per_second",
        "connection_events_per_second",
        "user_events_per_second",
        "plugin_events_per_second",
    ];
    for limit in limits {
        let key = format!("HUBBUB_ADMISSION__{}", limit.to_uppercase());
        builder = builder.env(&key, "1").env(&format!("{key}_DRY_RUN"), "true");
    }
    let server = builder.start().await;
    let _first = server.connect("/", user("ana")).await;
    let mut second = server.connect("/", user("ana")).await;
    for _ in 0..3 {
        assert!(second.ask("chat:join", json!({"videoId": "v1"})).await["error"].is_null());
    }
    for limit in limits {
        assert!(passed(&server, limit, "allowed").await >= 1.0, "{limit} is not counted");
        assert_eq!(passed(&server, limit, "refused").await, 0.0, "{limit}");
    }
}
