//! How a server stops. Must never take longer than its clients need to hear of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::client::ConnectFailure;
use tests::{Client, Server, wait};

use crate::scene::user;

#[tokio::test]
async fn clients_that_come_back_at_once_do_not_hold_up_a_shutdown() {
    let mut server = Server::dev().start().await;
    let at = server.address();
    let eager: Vec<_> = (0..8).map(|_| tokio::spawn(async move { while comes_and_stays(at).await {} })).collect();
    wait::eventually("all to be let in", async || server.get("/health").await.1["connections"] == 8).await;

    let asked = Instant::now();
    server.terminate().await;
    assert!(asked.elapsed() < Duration::from_secs(3), "it waited for new connections: {:?}", asked.elapsed());
    for task in eager {
        task.await.expect("it saw nothing but a closed door");
    }
}

/// Connects and stays as long as it may: false where nobody listens any more.
async fn comes_and_stays(at: SocketAddr) -> bool {
    match Client::connect(at, "/chat", user("ana")).await {
        Ok(mut client) => {
            client.ended().await;
            true
        }
        Err(failure) => failure != ConnectFailure::Unreachable,
    }
}
