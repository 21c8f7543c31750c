//! Sessions that are abandoned in every state of the handshake must leave no connections and no memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says what it expects")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hubbub_wire::Config;
use support::{Server, UPGRADE, masked, read_answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

mod support;

const SESSIONS: usize = if cfg!(debug_assertions) { 5_000 } else { 50_000 };

/// Concurrent clients.
const TOGETHER: usize = 50;

/// The growth of memory that is allowed for the second half of the sessions: fragmentation of the allocator.
const MEMORY_KB: usize = 8 << 10;

const STATES: usize = 11;

/// Connects from one of many addresses, since one address has too few ports.
async fn connect(address: SocketAddr, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let source = [127, 0, 1 + (number / 250 % 250) as u8, 1 + (number % 250) as u8];
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    socket.connect(address).await.unwrap()
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

fn websocket(query: &str) -> String {
    format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", UPGRADE.join("\r\n"))
}

/// Opens a session on a keep-alive connection, and returns its query.
async fn polling(stream: &mut TcpStream) -> String {
    send(stream, "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = read_answer(stream).await.unwrap();
    format!("EIO=4&transport=polling&sid={}", answer.body.split('"').nth(3).unwrap())
}

async fn post(stream: &mut TcpStream, query: &str, body: &str) {
    send(stream, &format!("POST /socket.io/?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
}

/// Goes up to one state of the handshake, and disconnects.
async fn abandon(address: SocketAddr, number: usize) {
    let mut stream = connect(address, number).await;
    let state = number % STATES;
    match state {
        0 => send(&mut stream, "GET /socket.io/?EIO=4&tran").await,
        1 => send(&mut stream, "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n").await,
        2 => drop(polling(&mut stream).await),
        3 => {
            let query = polling(&mut stream).await;
            post(&mut stream, &query, "40/forgotten,").await;
            read_answer(&mut stream).await.unwrap();
        }
        4 => {
            let query = polling(&mut stream).await;
            send(&mut stream, &format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        }
        5 => {
            let query = polling(&mut stream).await;
            send(&mut stream, &format!("POST /socket.io/?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n40")).await;
        }
        6 | 7 => {
            let query = polling(&mut stream).await.replace("=polling", "=websocket");
            let mut second = connect(address, number + 1).await;
            send(&mut second, &websocket(&query)).await;
            if state == 7 {
                second.write_all(&masked(0x81, b"2probe")).await.unwrap();
                second.read_u8().await.unwrap();
            }
        }
        8 => send(&mut stream, &websocket("EIO=4&transport=websocket")).await,
        9 => {
            send(&mut stream, &websocket("EIO=4&transport=websocket")).await;
            stream.write_all(&masked(0x81, b"40/forgotten,")).await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(&masked(0x81, b"451-[\"x\"]")).await.unwrap();
        }
        _ => {
            send(&mut stream, &websocket("EIO=4&transport=websocket")).await;
            stream.write_all(&masked(0x01, &[b'x'; 500])[..300]).await.unwrap();
        }
    }
    if number.is_multiple_of(2) {
        // Half of them reset the connection.
        let _ = stream.set_zero_linger();
    }
}

fn memory_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn abandon_all(server: &Server, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..TOGETHER {
        let (next, address) = (next.clone(), server.address);
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                abandon(address, number).await;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    server.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_sessions_leave_no_connections_and_no_memory() {
    let half = Duration::from_millis(500);
    let config = Config {
        ping_interval: half,
        ping_timeout: half,
        connect_timeout: half,
        upgrade_timeout: half,
        attachment_timeout: half,
        close_timeout: half,
        ..Config::default()
    };
    let server = Server::start(config).await;
    abandon_all(&server, SESSIONS / 2).await;
    let before = memory_kb();
    abandon_all(&server, SESSIONS / 2).await;
    let after = memory_kb();
    println!("{SESSIONS} sessions: {before} KB after the first half, {after} KB after the second");
    assert!(after < before + MEMORY_KB, "{before} KB, then {after} KB");
    let settled = async {
        while server.probe.open.load(Ordering::SeqCst) != 0 || server.probe.connected.load(Ordering::SeqCst) != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(support::SOON, settled).await.expect("every connection and socket ends");
}
