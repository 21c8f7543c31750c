//! File descriptors: the limit, the reserve, and connections without a request. Must never need more descriptors than the test's
//! own process has.

use std::time::Duration;

use tests::client::ConnectFailure;
use tests::polling::Polling;
use tests::server::{ADMIN_TOKEN, Builder};
use tests::{Client, Server, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::helpers::{member, open_chat, say, user};

/// Few descriptors, but enough for a server with one plugin.
const LIMIT: &str = r#"ulimit -n 160; exec "$@""#;

/// More connections than there are descriptors.
const IDLE: usize = 250;

fn server() -> Builder {
    Server::dev().only(&["chat"]).without_message_limit().single_node()
}

async fn refused(server: &Server) -> f64 {
    let labels = [("limit", "descriptors"), ("outcome", "refused")];
    server.metrics().await.get("hubbub_limits_passed_total", &labels).unwrap_or_default()
}

/// The answer over a new connection.
async fn fresh(url: &str) -> reqwest::Response {
    reqwest::Client::new().get(url).send().await.expect("an answer")
}

/// Connections that send nothing.
async fn idle(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpStream::connect(server.address()).await.expect("the backlog has room"));
    }
    held
}

/// The server's CPU time per second, measured over two metrics updates.
async fn cpu_of_a_second(server: &Server) -> Duration {
    const SECONDS: u32 = 2;
    let mut updates = Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await.expect("the admin port has room");
    updates.next("figures").await;
    let before = server.cpu_time();
    for _ in 0..SECONDS {
        updates.next("figures").await;
    }
    (server.cpu_time() - before) / SECONDS
}

#[tokio::test]
async fn the_descriptor_limit_is_raised_at_startup() {
    let server = server().through(r#"ulimit -Sn 200; ulimit -Hn 300; exec "$@""#).start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("the server runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of files");
    let numbers: Vec<_> = line.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers, ["300", "300"], "{line}");
    let metrics = server.metrics().await;
    assert_eq!(metrics.get("hubbub_descriptors_limit", &[]), Some(300.0));
    let open = metrics.get("hubbub_descriptors_open", &[]).expect("Linux reports it");
    assert!(open > 10.0 && open < 200.0, "{open}");
}

#[tokio::test]
async fn idle_connections_never_use_the_reserved_descriptors() {
    let server = server().through(LIMIT).start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let (mut ana, mut bia) = (member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    let held = idle(&server, IDLE).await;
    wait::eventually("connections to be refused", async || refused(&server).await > 0.0).await;

    for url in [server.url("/health"), server.url("/socket/health"), server.admin_url("/ready"), server.admin_url("/metrics")] {
        assert_eq!(fresh(&url).await.status(), 200, "{url}");
    }
    say(&mut ana, "c1", "still here").await;
    assert_eq!(bia.next("chat:message").await["content"], "still here");
    let late = Client::connect(server.address(), "/chat", user("ana")).await.err();
    assert_eq!(late, Some(ConnectFailure::Http(503)));
    let answer = fresh(&server.url("/docs")).await;
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    assert!(cpu_of_a_second(&server).await < Duration::from_millis(200), "the server is busy while it has no descriptors");
    assert_eq!(server.log().matches("new connections are refused").count(), 1, "once a minute");

    drop(held);
    wait::eventually("new clients to be accepted", async || {
        Client::connect(server.address(), "/chat", user("ana")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn accept_errors_are_counted_and_logged_without_a_busy_loop() {
    let server = server().through(LIMIT).env("HUBBUB_ADMISSION__DESCRIPTORS_RESERVED", "0").start().await;
    let mut updates = Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await.expect("the token is right");
    let held = idle(&server, IDLE).await;
    server.logged("connections could not be accepted").await;
    updates.next("figures").await;
    let before = server.cpu_time();
    updates.next("figures").await;
    updates.next("figures").await;
    assert!(server.cpu_time() - before < Duration::from_millis(400), "the server is busy while it has no descriptors");
    drop(held);
    wait::eventually("the server to answer again", async || {
        server.http().get(server.url("/health")).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let errors = server.metrics().await.get("hubbub_accept_errors_total", &[("listener", "public")]);
    assert!(errors > Some(0.0), "{errors:?}");
    assert_eq!(server.log().matches("connections could not be accepted").count(), 1, "once a minute");
}

/// Waits for the end of a connection and returns everything read before it.
async fn closed(mut connection: TcpStream) -> String {
    let mut read = Vec::new();
    let end = tokio::time::timeout(wait::DEADLINE, connection.read_to_end(&mut read)).await;
    assert!(end.is_ok(), "the connection stayed open");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_and_counted() {
    let server = server().env("HUBBUB_GATEWAY__CONNECT_TIMEOUT", "300ms").env("HUBBUB_GATEWAY__HTTP_IDLE", "400ms").start().await;
    for address in [server.address(), server.admin_address()] {
        let silent = TcpStream::connect(address).await.expect("a connection");
        assert_eq!(closed(silent).await, "");
        let mut slow = TcpStream::connect(address).await.expect("a connection");
        slow.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow").await.expect("it is read");
        closed(slow).await;
        let mut kept = TcpStream::connect(address).await.expect("a connection");
        kept.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is read");
        assert!(closed(kept).await.starts_with("HTTP/1.1 "), "the request is answered before the connection is idle");
    }
    let metrics = server.metrics().await;
    let counted = |reason| metrics.get("hubbub_http_connections_closed_total", &[("reason", reason)]);
    assert_eq!(counted("connect_timeout"), Some(2.0));
    assert!(counted("http_idle") >= Some(4.0), "{:?}", counted("http_idle"));
    let _no_namespace = Polling::open(&server).await;
    wait::eventually("a connection without a namespace to be closed", async || {
        let counted = server.metrics().await.get("hubbub_http_connections_closed_total", &[("reason", "connect_timeout")]);
        counted == Some(3.0)
    })
    .await;
}
