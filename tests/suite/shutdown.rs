//! Stopping a server. A shutdown must never take longer than its clients need to be disconnected.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tests::client::{ConnectFailure, End};
use tests::polling::Polling;
use tests::server::{ADMIN_TOKEN, run};
use tests::stock::Transports;
use tests::{Client, Server, Stock, fixture, wait};

use crate::helpers::user;

#[tokio::test]
async fn clients_that_reconnect_at_once_do_not_delay_a_shutdown() {
    let mut server = Server::dev().start().await;
    let at = server.address();
    let reconnecting: Vec<_> = (0..8).map(|_| tokio::spawn(async move { while connect_until_closed(at).await {} })).collect();
    wait::eventually("all clients to connect", async || server.get("/health").await.1["connections"] == 8).await;

    let asked = Instant::now();
    server.terminate().await;
    assert!(asked.elapsed() < Duration::from_secs(3), "it waited for new connections: {:?}", asked.elapsed());
    for task in reconnecting {
        task.await.expect("the client does not panic");
    }
}

/// Connects and waits for the end of the connection. Returns `false` if the port is closed.
async fn connect_until_closed(at: SocketAddr) -> bool {
    match Client::connect(at, "/chat", user("ana")).await {
        Ok(mut client) => {
            client.ended().await;
            true
        }
        Err(failure) => failure != ConnectFailure::Unreachable,
    }
}

async fn connected(server: &Server) -> u64 {
    server.get("/health").await.1["connections"].as_u64().expect("a number")
}

#[tokio::test]
async fn idle_servers_and_polling_clients_stop_quickly() {
    let mut server = Server::dev().start().await;
    let asked = Instant::now();
    server.terminate().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "without connections: {:?}", asked.elapsed());

    server.start_again().await;
    let polling = Polling::open(&server).await;
    polling.connect("/", None).await;
    let asked = Instant::now();
    assert_eq!(server.terminate().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "it waited for a polling client: {:?}", asked.elapsed());
}

#[tokio::test]
async fn stock_clients_of_every_transport_reconnect_after_a_restart() {
    let mut server = Server::dev().start().await;
    let mut clients = Vec::new();
    for stock in Stock::ALL {
        for transports in [Transports::Polling, Transports::Upgrade] {
            let mut client = stock.connect(&server, "/", json!({}), transports).await.expect("accepted");
            if transports == Transports::Upgrade && stock == Stock::Node {
                client.upgraded().await;
            }
            clients.push(client);
        }
    }
    let asked = Instant::now();
    server.terminate().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "it waited for the clients: {:?}", asked.elapsed());
    server.start_again().await;
    for client in &mut clients {
        let reason = client.disconnected().await;
        assert!(reason.contains("transport"), "after {reason:?} a client does not reconnect");
        client.reconnected().await;
    }
}

#[tokio::test]
async fn on_disconnect_runs_for_every_socket_at_a_shutdown() {
    const SOCKETS: usize = 3;
    // With recovery the sockets wait for the next start.
    let builder = Server::dev().env("HUBBUB_RECOVERY__WINDOW", "0s");
    let mut server = builder.plugin("hostile", &fixture::hostile().await).start().await;
    let _clients = join_all((0..SOCKETS).map(|_| server.connect("/hostile", user("ana").claim("evil", "disconnect-loop")))).await;
    assert_eq!(server.terminate().await, Some(0));
    let calls = server.log().lines().filter(|line| line.contains("on-disconnect")).count();
    assert_eq!(calls, SOCKETS, "each call loops and is logged");
}

#[tokio::test]
async fn a_shutdown_ends_at_its_deadline() {
    let hostile = Server::dev().plugin("hostile", &fixture::hostile().await).env("HUBBUB_SHUTDOWN__DEADLINE", "1s");
    let hostile = hostile.env("HUBBUB_RECOVERY__WINDOW", "0s");
    let mut server = hostile.env("HUBBUB_LIMITS__CPU_MS", "15000").env("HUBBUB_LIMITS__CALL_TIME", "15s").start().await;
    let _client = server.connect("/hostile", user("ana").claim("evil", "disconnect-loop")).await;
    let asked = Instant::now();
    assert_eq!(server.terminate().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "it waited for a plugin: {:?}", asked.elapsed());
    server.logged("disconnect handlers still running").await;
}

#[tokio::test]
async fn clients_are_disconnected_over_the_spread() {
    let mut server = Server::dev().env("HUBBUB_SHUTDOWN__SPREAD", "1500ms").start().await;
    let _clients = join_all((0..20).map(|_| server.connect("/", ()))).await;
    let asked = Instant::now();
    assert_eq!(server.terminate().await, Some(0));
    let took = asked.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_drain_disconnects_clients_without_stopping_the_process() {
    let server = Server::dev().env("HUBBUB_SHUTDOWN__SPREAD", "2s").start().await;
    let mut clients = join_all((0..20).map(|_| server.connect("/", ()))).await;
    let (status, answer) = server.admin(Method::POST, "/admin/drain", Vec::new()).await;
    assert_eq!((status, &answer["status"]), (202, &json!("draining")));
    assert!(connected(&server).await > 5, "all clients were disconnected at once");
    let ready = server.http().get(server.admin_url("/ready")).send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.expect("a body of text").contains("draining"));
    assert_eq!(Client::connect(server.address(), "/", ()).await.err(), Some(ConnectFailure::Http(503)));
    let polls = server.http().get(server.url("/socket.io/?EIO=4&transport=polling")).send().await.expect("an answer");
    assert_eq!((polls.status().as_u16(), polls.headers().contains_key("retry-after")), (503, true));
    for client in &mut clients {
        assert_eq!(client.ended().await, End::Closed, "without a disconnect packet, so that clients reconnect");
    }
    wait::eventually("all clients to be disconnected", async || connected(&server).await == 0).await;
    let again = run(&["drain", "--url", &server.admin_url(""), "--token", ADMIN_TOKEN], &[]);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("draining"), "{again:?}");
}

#[tokio::test]
async fn a_connection_over_its_maximum_age_is_closed_and_reconnects() {
    let server = Server::dev().env("HUBBUB_GATEWAY__MAX_AGE", "1s").start().await;
    for transports in [Transports::Websocket, Transports::Polling] {
        let mut client = Stock::Node.connect(&server, "/", json!({}), transports).await.expect("accepted");
        assert!(client.disconnected().await.contains("transport"));
        client.reconnected().await;
    }
    assert!(server.metrics().await.get("hubbub_connections_aged_total", &[]) >= Some(2.0));
}
