//! Clients that hold HTTP connections: idle, slow, or too many. Must never delay a client that sends its request in time.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tests::polling::Polling;
use tests::raw::{Raw, ask};
use tests::server::{ADMIN_TOKEN, API_KEY, Builder};
use tests::{Server, wait};
use tokio::net::TcpStream;

use crate::ports::{SECRET, Started};

fn server() -> Builder {
    Server::dev().only(&["chat"]).single_node()
}

async fn closed_at(server: &Server, limit: &str) -> f64 {
    server.metrics().await.get("hubbub_http_connections_closed_total", &[("reason", limit)]).unwrap_or_default()
}

/// Waits for the log lines about connections closed at a limit and checks their number.
async fn lines(server: &Server, limit: &str, wanted: usize) {
    let line = format!("longer than gateway.{limit}");
    wait::eventually(&format!("{wanted} lines of {line:?}"), async || server.log().matches(&line).count() >= wanted).await;
    assert_eq!(server.log().matches(&line).count(), wanted, "one line a minute for each port");
}

#[tokio::test]
async fn a_slow_request_head_closes_its_connection() {
    let server = server().env("HUBBUB_GATEWAY__HEAD_TIMEOUT", "300ms").start().await;
    for (at, path) in [(server.address(), "/health"), (server.admin_address(), "/ready")] {
        for request in ["G", &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx-slow")] {
            let mut slow = Raw::open(at).await;
            slow.write(request).await;
            assert_eq!(slow.closed().await, "", "{request:?}");
        }
        let mut kept = Raw::open(at).await;
        kept.write(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(kept.read().await.starts_with("HTTP/1.1 200"));
        kept.write(&format!("GET {path} HTTP/1.1\r\n")).await;
        kept.closed().await;
    }
    assert_eq!(closed_at(&server, "head_timeout").await, 6.0);
    lines(&server, "head_timeout", 2).await;
}

#[tokio::test]
async fn idle_connections_and_sockets_are_exempt_from_the_head_timeout() {
    let server = server().env("HUBBUB_GATEWAY__HEAD_TIMEOUT", "200ms").env("HUBBUB_GATEWAY__HTTP_IDLE", "1s").start().await;
    let watcher = tests::Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await;
    let mut watcher = watcher.expect("the token is right");
    let mut kept = Raw::open(server.address()).await;
    kept.write("POST /api/publish HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}").await;
    assert!(kept.read().await.starts_with("HTTP/1.1 401"));
    // Two metrics updates are a second apart, longer than a request head may take.
    let before = std::time::Instant::now();
    watcher.next("figures").await;
    watcher.next("figures").await;
    kept.closed().await;
    assert!(before.elapsed() > Duration::from_millis(600), "the connection was closed after {:?}", before.elapsed());
    // The harness keeps a connection open as well.
    assert_eq!((closed_at(&server, "head_timeout").await, closed_at(&server, "http_idle").await >= 1.0), (0.0, true));
    lines(&server, "http_idle", 1).await;
    watcher.next("figures").await;
}

#[tokio::test]
async fn a_slow_request_body_gets_408_on_every_route() {
    let server = server().env("HUBBUB_GATEWAY__BODY_TIMEOUT", "300ms").env("HUBBUB_GATEWAY__BODY_RATE", "0").start().await;
    let (public, admin) = (server.address(), server.admin_address());
    let mut late = 0.0;
    for length in ["content-length: 1000", "transfer-encoding: chunked"] {
        let (client, operator) = (Polling::open(&server).await, Polling::open_admin(&server).await);
        let poll = |polling: &Polling| format!("/socket.io/?EIO=4&transport=polling&sid={}", polling.sid());
        let routes = [
            (public, "/api/publish", API_KEY),
            (public, "/api/emit", API_KEY),
            (public, "/demo/enter", ""),
            (public, &poll(&client), ""),
            (admin, &poll(&operator), ""),
            (admin, "/admin/plugins/chat/deploy", ADMIN_TOKEN),
            (admin, "/admin/dead/retry", ADMIN_TOKEN),
            (admin, "/admin/dead/drop", ADMIN_TOKEN),
        ];
        for (at, path, key) in routes {
            let mut slow = Raw::open(at).await;
            let begun = if length.ends_with("chunked") { "3\r\n{\"a\r\n" } else { "{\"a" };
            slow.write(&format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
                 content-type: application/json\r\n{length}\r\n\r\n{begun}"
            ))
            .await;
            let output = slow.closed().await;
            assert!(output.starts_with("HTTP/1.1 408 "), "{path}, {length}: {output}");
            assert_eq!(at == admin, output.contains("application/problem+json"), "{path}: {output}");
            late += 1.0;
        }
    }
    assert_eq!(closed_at(&server, "body_timeout").await, late);
    lines(&server, "body_timeout", 2).await;
    let (_, plugins) = server.admin(reqwest::Method::GET, "/admin/plugins", Vec::new()).await;
    assert_eq!(
        plugins["plugins"][0]["releases"].as_array().map(Vec::len),
        Some(1),
        "a partial component is not deployed: {plugins}"
    );
}

#[tokio::test]
async fn a_body_at_the_minimum_rate_may_take_longer() {
    // Fifty bytes extend the timeout by a second.
    let server = server().env("HUBBUB_GATEWAY__BODY_TIMEOUT", "500ms").env("HUBBUB_GATEWAY__BODY_RATE", "50").start().await;
    let head = |bytes: usize| {
        let head = "POST /api/publish HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer";
        format!("{head} {API_KEY}\r\ncontent-length: {bytes}\r\n\r\n")
    };
    let body = r#"{"topic": "chat.upserted", "data": {"chatId": "c1", "participants": []}}"#;
    for (every, status) in [(Duration::from_millis(15), "202"), (Duration::from_millis(60), "408")] {
        let mut raw = Raw::open(server.address()).await;
        raw.write(&head(body.len())).await;
        let mut pace = tokio::time::interval(every);
        for byte in body.chars() {
            pace.tick().await;
            if !raw.write(&byte.to_string()).await {
                break;
            }
        }
        let output = raw.closed().await;
        assert!(output.starts_with(&format!("HTTP/1.1 {status} ")), "a byte each {every:?}: {output}");
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answer_is_closed() {
    let server = server().env("HUBBUB_GATEWAY__WRITE_TIMEOUT", "300ms").start().await;
    for (at, path) in [(server.address(), "/asyncapi.json"), (server.admin_address(), "/dashboard/uplot.min.js")] {
        let mut stalled = Raw::open_small(at).await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        // More answers than any buffer holds, none of which is read.
        let before = closed_at(&server, "write_timeout").await;
        stalled.write(&request.repeat(400)).await;
        wait::eventually("the connection to be closed", async || closed_at(&server, "write_timeout").await > before).await;
    }
    lines(&server, "write_timeout", 2).await;
}

/// Connections that send nothing.
async fn idle(at: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpStream::connect(at).await.expect("the backlog has room"));
    }
    held
}

/// The answer over a new connection.
async fn fresh(at: SocketAddr, path: &str) -> String {
    ask(
        at,
        &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn over_the_connection_limit_of_a_port_only_health_is_answered() {
    let server = server().env("HUBBUB_GATEWAY__TCP_CONNECTIONS", "8").env("HUBBUB_ADMIN__TCP_CONNECTIONS", "6").start().await;
    for (at, listener, limit, checks, others) in [
        (server.address(), "public", "tcp_connections", ["/health", "/socket/health"], "/docs"),
        (server.admin_address(), "admin", "admin_tcp_connections", ["/ready", "/metrics"], "/admin/plugins"),
    ] {
        let held = idle(at, 12).await;
        wait::eventually("the port to be full", async || fresh(at, others).await.starts_with("HTTP/1.1 503 ")).await;
        for path in checks {
            let output = fresh(at, path).await;
            assert!(output.starts_with("HTTP/1.1 200 "), "{path}: {output}");
        }
        let output = fresh(at, others).await;
        assert!(output.contains("retry-after:"), "{output}");
        assert_eq!(listener == "admin", output.contains("application/problem+json"), "{output}");
        let metrics = tests::metrics::Metrics::parse(
            fresh(server.admin_address(), "/metrics").await.split_once("\r\n\r\n").expect("a body").1,
        );
        assert!(metrics.get("hubbub_limits_passed_total", &[("limit", limit), ("outcome", "refused")]) > Some(3.0));
        assert!(
            metrics.get("hubbub_tcp_connections", &[("listener", listener)])
                >= Some(if listener == "public" { 8.0 } else { 6.0 })
        );
        server.logged(&format!("the port has reached {limit}")).await;
        assert_eq!(server.log().matches(&format!("the port has reached {limit}")).count(), 1, "once a minute");
        drop(held);
        wait::eventually("the port to accept requests again", async || fresh(at, others).await.starts_with("HTTP/1.1 200 "))
            .await;
    }
}

/// An address of this machine that is not loopback.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    // No packet is sent.
    socket.connect("192.0.2.1:9").expect("this machine has a network");
    socket.local_addr().expect("it is bound").ip()
}

#[tokio::test]
async fn tcp_connections_per_address_are_limited_except_loopback() {
    for (trusted, is_limited) in [("", true), (&own_address().to_string(), false)] {
        let env = [
            ("JWT_SECRET", SECRET),
            ("HUBBUB_GATEWAY__ADDRESS_TCP_CONNECTIONS", "3"),
            ("HUBBUB_ADMISSION__TRUSTED_PROXIES", trusted),
        ];
        let mut server = Started::with("serve", &["--listen", ":0", "--admin", "127.0.0.1:0"], &env).await;
        let (public, _) = server.ports().await;
        let (own, loopback) = (SocketAddr::from((own_address(), public)), SocketAddr::from(([127, 0, 0, 1], public)));
        let (held, _here) = (idle(own, 3).await, idle(loopback, 20).await);
        let output = fresh(own, "/health").await;
        assert_eq!(output.is_empty(), is_limited, "{trusted:?}: {output}");
        let line = "an address has reached gateway.address_tcp_connections";
        if is_limited {
            wait::eventually("the log line", async || server.log().contains(line)).await;
        }
        assert_eq!(server.log().matches(line).count(), usize::from(is_limited));
        assert!(fresh(loopback, "/health").await.starts_with("HTTP/1.1 200 "));
        drop(held);
        wait::eventually("the address to be accepted again", async || fresh(own, "/health").await.starts_with("HTTP/1.1 200 "))
            .await;
    }
}
