//! Slow, silent and hostile clients: each is bounded by a limit and ends with a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says what it expects")]

use std::time::Duration;

use hubbub_wire::{Config, Limit, Message, QueueLimit, Reason, Sent};
use support::{Call, Frame, Server, masked, read_answer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

mod support;

#[tokio::test]
async fn a_websocket_that_is_not_read_ends_when_its_queue_is_full() {
    for (config, limit) in [
        (Config { queue_packets: 10, ..Config::default() }, QueueLimit::Packets),
        (Config { queue_bytes: 1 << 20, ..Config::default() }, QueueLimit::Bytes),
    ] {
        let mut server = Server::start(config).await;
        let ws = server.connected("").await;
        let socket = server.probe.socket(0);
        let message = Message::event("/", &format!("[\"x\",\"{}\"]", "y".repeat(100_000)));
        let mut sent = 0;
        while socket.send(&message) != Sent::Closed {
            sent += 1;
            assert!(sent < 1000, "the kernel does not take that much");
        }
        server.wait_for(&Call::Disconnected("/".to_owned(), Reason::SlowConsumer(limit))).await;
        assert_eq!(server.ended().await, Reason::SlowConsumer(limit));
        assert_eq!(waiting(&socket), (0, 0), "what waited is thrown away");
        server.is_empty().await;
        drop(ws);
    }
}

fn waiting(socket: &hubbub_wire::Socket) -> (usize, usize) {
    socket.connection().waiting()
}

#[tokio::test]
async fn a_session_that_is_not_polled_ends_when_its_queue_is_full() {
    let mut server = Server::start(Config { queue_packets: 5, ..Config::default() }).await;
    let session = server.poll().await;
    server.post(&session, "40").await;
    let socket = server.probe.socket(0);
    let message = Message::event("/", "[\"x\"]");
    while socket.send(&message) != Sent::Closed {}
    assert_eq!(server.ended().await, Reason::SlowConsumer(QueueLimit::Packets));
    assert_eq!(server.get(&session).await.status, 400);
}

#[tokio::test]
async fn a_slow_client_receives_every_message_in_order() {
    let server = Server::start(Config { queue_packets: 20_000, queue_bytes: 100 << 20, ..Config::default() }).await;
    let mut ws = server.connected("").await;
    let socket = server.probe.socket(0);
    let mut queued = 0;
    for number in 0..5000 {
        let message = Message::event("/", &format!("[{number},\"{}\"]", "y".repeat(number % 3000)));
        queued += usize::from(socket.send(&message) == Sent::Queued);
    }
    assert!(queued > 100, "only {queued} had to wait");
    for number in 0..5000 {
        let text = ws.text().await;
        assert!(text.starts_with(&format!("42[{number},\"")), "{number}: {}", &text[..20]);
        assert_eq!(text.len(), format!("42[{number},\"\"]").len() + number % 3000);
    }
    assert_eq!(waiting(&socket), (0, 0));
}

#[tokio::test]
async fn a_volatile_message_is_dropped_at_a_full_queue() {
    let server = Server::start(Config { queue_packets: 4, ..Config::default() }).await;
    let session = server.poll().await;
    server.post(&session, "40").await;
    let socket = server.probe.socket(0);
    for number in 1..4 {
        assert_eq!(socket.send_volatile(&Message::event("/", &format!("[{number}]"))), Sent::Queued);
    }
    assert_eq!(socket.send_volatile(&Message::event("/", "[4]")), Sent::Dropped, "the CONNECT's answer waits too");
    assert!(server.get(&session).await.body.ends_with("\u{1e}42[1]\u{1e}42[2]\u{1e}42[3]"));
    assert_eq!(socket.send_volatile(&Message::event("/", "[5]")), Sent::Queued);
}

#[tokio::test]
async fn a_message_larger_than_the_queue_is_sent_alone() {
    let server = Server::start(Config { queue_bytes: 1000, ..Config::default() }).await;
    let mut ws = server.connected("").await;
    let long = format!("[\"{}\"]", "y".repeat(20 << 20));
    assert_eq!(server.probe.socket(0).send(&Message::event("/", &long)), Sent::Queued);
    assert_eq!(ws.text().await.len(), long.len() + 2);
}

#[tokio::test]
async fn frames_in_pieces_of_one_byte_are_read() {
    let mut server = Server::start(Config::default()).await;
    let mut ws = server.websocket().await;
    let long = "x".repeat(300);
    let mut bytes = masked(0x81, b"40");
    bytes.extend(masked(0x01, format!("421[\"{long}\",").as_bytes()));
    bytes.extend(masked(0x89, b"ping"));
    bytes.extend(masked(0x00, b""));
    bytes.extend(masked(0x80, b"\"\xc3\xa9\"]"));
    for byte in bytes {
        ws.stream.write_all(&[byte]).await.unwrap();
    }
    assert!(ws.text().await.starts_with("40{"));
    assert_eq!(ws.next().await, Frame::Pong(b"ping".to_vec()));
    assert_eq!(ws.text().await, "431[\"é\"]");
    server.wait_for(&Call::Event(long, "\"é\"".to_owned(), Some(1), 0)).await;
}

#[tokio::test]
async fn a_flood_of_pings_whose_pongs_are_not_read_times_out() {
    let half = Duration::from_millis(500);
    let mut server = Server::start(Config { ping_interval: half, ping_timeout: half, ..Config::default() }).await;
    let mut ws = server.connected("").await;
    let flood = masked(0x89, &[7; 125]).repeat(1000);
    // Reading stops once the pongs fill half of the queue, so the engine's pongs are not read either.
    while timeout(Duration::from_secs(5), ws.stream.write_all(&flood)).await.is_ok_and(|written| written.is_ok()) {}
    assert_eq!(server.ended().await, Reason::PingTimeout);
}

#[tokio::test]
async fn a_burst_larger_than_the_queue_is_answered_completely() {
    let server = Server::start(Config { queue_packets: 40, poll_packets: 30, ..Config::default() }).await;
    let events: Vec<_> = (0..2000).map(|number| format!("42{number}[\"x\",\"{}\"]", "y".repeat(number % 50))).collect();
    let mut ws = server.connected("").await;
    let burst: Vec<u8> = events.iter().flat_map(|event| masked(0x81, event.as_bytes())).collect();
    let (mut reader, mut writer) = ws.stream.split();
    let mut seen = Vec::new();
    let read = async {
        while seen.iter().filter(|byte| **byte == b']').count() < 2000 {
            // A slow client.
            sleep(Duration::from_micros(100)).await;
            let mut piece = [0; 200];
            let count = tokio::io::AsyncReadExt::read(&mut reader, &mut piece).await.unwrap();
            assert!(count > 0, "it is not ended");
            seen.extend_from_slice(&piece[..count]);
        }
    };
    let (written, ()) = tokio::join!(writer.write_all(&burst), read);
    written.unwrap();

    let session = server.poll().await;
    server.post(&session, "40").await;
    server.get(&session).await;
    let (address, query, body) = (server.address, session.clone(), events.join("\u{1e}"));
    let post = tokio::spawn(async move { support::request(address, "POST", &query, &[], &body).await });
    let mut answers = 0;
    while answers < 2000 {
        answers += server.get(&session).await.body.split('\u{1e}').filter(|packet| packet.starts_with("43")).count();
    }
    assert_eq!(post.await.unwrap().body, "ok");
}

#[tokio::test]
async fn a_burst_of_events_is_answered_completely() {
    let server = Server::start(Config::default()).await;
    let mut ws = server.connected("").await;
    let mut burst = Vec::new();
    for number in 0..400 {
        burst.extend(masked(0x81, format!("42{number}[\"x\"]").as_bytes()));
    }
    ws.stream.write_all(&burst).await.unwrap();
    for number in 0..400 {
        assert_eq!(ws.text().await, format!("43{number}[]"));
    }
}

#[tokio::test]
async fn missing_attachments_end_the_connection_after_a_timeout() {
    let config = Config { attachment_timeout: Duration::from_millis(100), ..Config::default() };
    let mut server = Server::start(config).await;
    let mut ws = server.connected("").await;
    ws.send("4510-[\"x\"]").await;
    ws.binary(b"one of ten").await;
    assert_eq!(ws.next().await, Frame::Close(None));
    assert_eq!(server.ended().await, Reason::Limit(Limit::AttachmentTimeout));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Config::default()).await;
    let session = server.poll().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let post =
        |body: &str| format!("POST /socket.io/?{session} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let poll = format!("GET /socket.io/?{session} HTTP/1.1\r\nHost: a\r\n\r\n");
    // Two POSTs, a poll and an invalid request at once.
    let all = [post("40"), post("421[\"x\"]"), poll, "NONSENSE\r\n\r\n".to_owned()].concat();
    stream.write_all(all.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(5).any(|five| five == b"431[]") {
        assert!(tokio::io::AsyncReadExt::read_buf(&mut stream, &mut seen).await.unwrap() > 0);
    }
    let seen = String::from_utf8(seen).unwrap();
    let answers: Vec<_> = seen.split("HTTP/1.1 ").skip(1).take(3).map(|answer| &answer[..3]).collect();
    assert_eq!(answers, ["200", "200", "200"]);
}

#[tokio::test]
async fn a_slow_body_gets_408_and_the_session_stays_open() {
    let server = Server::start(Config { body_timeout: Duration::from_millis(200), ..Config::default() }).await;
    let session = server.poll().await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST /socket.io/?{session} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n40");
    slow.write_all(head.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let answer = timeout(Duration::from_secs(5), read_answer(&mut slow)).await.unwrap().unwrap();
    assert_eq!(answer.status, 408);
    assert_eq!(server.post(&session, "40").await.body, "ok");
}

#[tokio::test]
async fn a_disconnect_during_a_post_or_a_poll_ends_the_session() {
    let mut server = Server::start(Config::default()).await;
    for method in ["POST", "GET"] {
        let session = server.poll().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let length = if method == "POST" { "Content-Length: 10\r\n" } else { "" };
        let head = format!("{method} /socket.io/?{session} HTTP/1.1\r\nHost: a\r\n{length}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        drop(stream);
        assert_eq!(server.ended().await, Reason::TransportError, "{method}");
        server.is_empty().await;
    }
}

#[tokio::test]
async fn socket_id_and_private_id_do_not_open_the_session() {
    let server = Server::start(Config::default()).await;
    let session = server.poll().await;
    server.post(&session, "40").await;
    let body = server.get(&session).await.body;
    let public = body.split('"').nth(3).unwrap().to_owned();
    assert_eq!(public, server.probe.socket(0).id().to_string());
    let guess = format!("EIO=4&transport=polling&sid={public}");
    assert_eq!(server.post(&guess, "42[\"x\"]").await.status, 400);
    assert_eq!(server.get(&guess).await.status, 400);
    let private = format!("EIO=4&transport=polling&sid={}", server.probe.socket(0).private_id());
    assert_eq!(server.get(&private).await.status, 400);
}

#[tokio::test]
async fn a_connection_that_the_handler_refuses_is_not_counted() {
    let server = Server::start(Config::default()).await;
    let answer = server.get("EIO=4&transport=polling&forbidden").await;
    assert_eq!((answer.status, &*answer.body), (503, "later\n"));
    let refused = support::Ws::open(server.address, "EIO=4&transport=websocket&forbidden").await.err().unwrap();
    assert_eq!((refused.status, &*refused.body), (503, "later\n"));
    assert!(server.wire.is_empty());
}

#[tokio::test]
async fn a_panic_of_the_handler_ends_only_its_connection() {
    let mut server = Server::start(Config::default()).await;
    let mut other = server.connected("").await;
    let mut ws = server.connected("").await;
    ws.send("42[\"panic\"]").await;
    server.wait_for(&Call::Disconnected("/".to_owned(), Reason::TransportError)).await;
    assert_eq!(server.ended().await, Reason::TransportError);
    assert_eq!(ws.next().await, Frame::End);

    let session = server.poll().await;
    server.post(&session, "40").await;
    assert_eq!(server.post(&session, "42[\"panic\"]").await.status, 0, "the request ends, too");
    assert_eq!(server.ended().await, Reason::TransportError);
    other.send("421[\"x\"]").await;
    assert_eq!(other.text().await, "431[]");
    assert_eq!(server.wire.len(), 1);
}
