//! A table of invalid requests, frames and packets with their answers. It is also checked against the reference server on Node, if
//! `tests/clients/install.sh` has installed it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test says what it expects")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use hubbub_wire::Config;
use support::{Answer, Frame, UPGRADE, Ws, open_polling, request};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{sleep, timeout};

mod support;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html";

/// A request and its answer. `{sid}` in the query is a polling session's, `{websocket}` a websocket's.
struct Asked {
    method: &'static str,
    query: &'static str,
    headers: &'static [&'static str],
    body: &'static str,
    answer: (u16, &'static str, &'static str),
    /// Whether Node's server answers the same.
    is_nodes: bool,
}

const fn get(query: &'static str, answer: (u16, &'static str, &'static str)) -> Asked {
    Asked { method: "GET", query, headers: &[], body: "", answer, is_nodes: true }
}

const fn post(query: &'static str, body: &'static str, answer: (u16, &'static str, &'static str)) -> Asked {
    Asked { method: "POST", query, headers: &[], body, answer, is_nodes: true }
}

const UNKNOWN_TRANSPORT: (u16, &str, &str) = (400, JSON, r#"{"code":0,"message":"Transport unknown"}"#);
const UNKNOWN_SESSION: (u16, &str, &str) = (400, JSON, r#"{"code":1,"message":"Session ID unknown"}"#);
const BAD_METHOD: (u16, &str, &str) = (400, JSON, r#"{"code":2,"message":"Bad handshake method"}"#);
const BAD_REQUEST: (u16, &str, &str) = (400, JSON, r#"{"code":3,"message":"Bad request"}"#);
const UNKNOWN_VERSION: (u16, &str, &str) = (400, JSON, r#"{"code":5,"message":"Unsupported protocol version"}"#);
const POLLING: &str = "EIO=4&transport=polling&sid={sid}";

const REQUESTS: &[Asked] = &[
    get("EIO=4", UNKNOWN_TRANSPORT),
    get("EIO=4&transport=abc", UNKNOWN_TRANSPORT),
    get("EIO=4&transport=webtransport", UNKNOWN_TRANSPORT),
    get("EIO=4&transport=abc&sid={sid}", UNKNOWN_TRANSPORT),
    get("transport=polling", UNKNOWN_VERSION),
    get("EIO=3&transport=polling", UNKNOWN_VERSION),
    get("EIO=abc&transport=polling", UNKNOWN_VERSION),
    get("EIO=4&transport=polling&sid=abc", UNKNOWN_SESSION),
    get("EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA", UNKNOWN_SESSION),
    get("EIO=4&transport=websocket&sid=abc", UNKNOWN_SESSION),
    get("EIO=4&transport=websocket", BAD_REQUEST),
    get("EIO=4&transport=websocket&sid={sid}", BAD_REQUEST),
    get("EIO=4&transport=polling&sid={websocket}", BAD_REQUEST),
    post("EIO=4&transport=polling&sid={websocket}", "40", BAD_REQUEST),
    post("EIO=4&transport=polling", "40", BAD_METHOD),
    post("EIO=4&transport=websocket", "40", BAD_METHOD),
    post("EIO=4&transport=polling&sid=abc", "40", UNKNOWN_SESSION),
    Asked { method: "PUT", ..post("EIO=4&transport=polling", "", BAD_METHOD) },
    Asked { method: "PUT", ..post(POLLING, "", (500, "", "")) },
    Asked { method: "OPTIONS", ..get("EIO=4&transport=polling", BAD_METHOD) },
    Asked { method: "DELETE", ..post(POLLING, "", (500, "", "")) },
    post(POLLING, "6", (200, HTML, "ok")),
    post(POLLING, "3", (200, HTML, "ok")),
    post(POLLING, "5", (200, HTML, "ok")),
    post("EIO=4&transport=poll%69ng&sid={sid}", "6", (200, HTML, "ok")),
    post("EIO=3&transport=polling&sid={sid}", "6", BAD_REQUEST),
    post("transport=polling&sid={sid}", "6", BAD_REQUEST),
    Asked { headers: &UPGRADE, ..get("transport=websocket&sid={sid}", (400, HTML, "Bad request")) },
    Asked { headers: &["Content-Type: application/octet-stream"], ..post(POLLING, "6", (400, "", "")) },
    // Node's server closes the TCP connection instead of the answer 400, since the session ends during its POST.
    Asked { is_nodes: false, ..post(POLLING, "abc", (400, "", "")) },
    Asked { is_nodes: false, ..post(POLLING, "", (400, "", "")) },
    Asked { is_nodes: false, ..post(POLLING, "4abc", (400, "", "")) },
    Asked { is_nodes: false, ..post(POLLING, "40\u{1e}b!!", (400, "", "")) },
    // Only servers send pings.
    Asked { is_nodes: false, ..post(POLLING, "2", (400, "", "")) },
    // Node's server supports JSONP.
    Asked {
        is_nodes: false,
        ..get("EIO=4&transport=polling&j=0", (400, JSON, r#"{"code":3,"message":"JSONP polling is not supported"}"#))
    },
    // Websocket handshakes.
    Asked { headers: &UPGRADE, ..get("EIO=4&transport=abc", (400, HTML, "Transport unknown")) },
    Asked { headers: &UPGRADE, ..get("EIO=4&transport=websocket&sid=abc", (400, HTML, "Session ID unknown")) },
    // Node's server completes the websocket handshake, and then writes this answer into it.
    Asked { headers: &UPGRADE, is_nodes: false, ..get("EIO=3&transport=websocket", (400, HTML, "Unsupported protocol version")) },
    Asked {
        headers: &["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"],
        ..get("EIO=4&transport=websocket", (400, HTML, "Missing or invalid Sec-WebSocket-Key header"))
    },
    Asked {
        headers: &[UPGRADE[0], UPGRADE[1], UPGRADE[3], "Sec-WebSocket-Version: 12"],
        ..get("EIO=4&transport=websocket", (400, HTML, "Missing or invalid Sec-WebSocket-Version header"))
    },
];

/// Frames of a client after the engine's handshake, and the frames of the server.
struct Sent {
    frames: &'static [(u8, &'static [u8])],
    answer: &'static [Seen],
    is_nodes: bool,
}

enum Seen {
    Text(&'static str),
    Binary(&'static [u8]),
    Pong(&'static [u8]),
    Close(Option<u16>),
    Open,
}

const T: u8 = 0x81;
const B: u8 = 0x82;
const CLOSED: &[Seen] = &[Seen::Close(None)];

const fn sent(frames: &'static [(u8, &'static [u8])], answer: &'static [Seen]) -> Sent {
    Sent { frames, answer, is_nodes: true }
}

const FRAMES: &[Sent] = &[
    // The engine's packets.
    sent(&[(T, b"abc")], CLOSED),
    sent(&[(T, b"")], CLOSED),
    sent(&[(T, b"2")], CLOSED),
    sent(
        &[(T, b"6"), (T, b"0"), (T, b"5"), (T, b"3"), (T, b"40/none,")],
        &[Seen::Text(r#"44/none,{"message":"Invalid namespace"}"#)],
    ),
    Sent { is_nodes: false, ..sent(&[(T, b"1")], CLOSED) },
    // Frames.
    sent(&[(0x83, b"")], &[Seen::Close(Some(1002))]),
    sent(&[(0xc1, b"40")], &[Seen::Close(Some(1002))]),
    sent(&[(0x80, b"40")], &[Seen::Close(Some(1002))]),
    sent(&[(0x09, b"40")], &[Seen::Close(Some(1002))]),
    sent(&[(0x01, b"4"), (0x81, b"0")], &[Seen::Close(Some(1002))]),
    sent(&[(0x88, b"\x03")], &[Seen::Close(Some(1002))]),
    sent(&[(0x88, b"\x03\xee")], &[Seen::Close(Some(1002))]),
    sent(&[(T, b"4\xff")], &[Seen::Close(Some(1007))]),
    sent(&[(T, &[b'4'; 1001])], &[Seen::Close(Some(1009))]),
    sent(&[(0x01, &[b'4'; 600]), (0x80, &[b'4'; 600])], &[Seen::Close(Some(1009))]),
    sent(&[(0x88, b"\x03\xe8")], &[Seen::Close(Some(1000))]),
    sent(&[(0x88, b"")], CLOSED),
    sent(&[(0x89, b"hi")], &[Seen::Pong(b"hi")]),
    sent(
        &[(0x01, b"4"), (0x89, b"x"), (0x80, b"0/none")],
        &[Seen::Pong(b"x"), Seen::Text(r#"44/none,{"message":"Invalid namespace"}"#)],
    ),
    // Packets.
    sent(&[(T, b"4")], CLOSED),
    sent(&[(T, b"47")], CLOSED),
    sent(&[(T, b"40[]")], CLOSED),
    sent(&[(T, b"42[\"message\"]")], CLOSED),
    sent(&[(T, b"41")], CLOSED),
    sent(&[(T, b"431[]")], CLOSED),
    sent(&[(T, b"44{}")], CLOSED),
    sent(&[(T, b"40"), (T, b"40")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"44{}")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"42{}")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"42[]")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"42[\"message\"")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"42abc[\"message\"]")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"41{}")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"45[\"message\"]")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"4511-[\"message\"]")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"45100000-[\"message\"]")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (B, b"x")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"451-[\"message\"]"), (T, b"42[\"message\"]")], &[Seen::Open, Seen::Close(None)]),
    sent(&[(T, b"40"), (T, b"43999[1]"), (T, b"42[\"message\",1]")], &[Seen::Open, Seen::Text("42[\"message-back\",1]")]),
    sent(&[(T, b"40"), (T, b"42"), (T, b"42[\"message\"]")], &[Seen::Open, Seen::Text("42[\"message-back\"]")]),
    sent(&[(T, b"40"), (T, b"421[\"message-with-ack\",1,{}]")], &[Seen::Open, Seen::Text("431[1,{}]")]),
    sent(
        &[(T, b"40"), (T, b"451-[\"message\",{\"_placeholder\":true,\"num\":0}]"), (B, b"\x01\x02")],
        &[Seen::Open, Seen::Text("451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]"), Seen::Binary(b"\x01\x02")],
    ),
    sent(
        &[(T, b"40/custom,{\"a\":1}"), (T, b"42/custom,[\"message\"]")],
        &[Seen::Open, Seen::Text("42/custom,[\"message-back\"]")],
    ),
    sent(&[(T, b"40"), (T, b"42/custom,[\"message\"]")], &[Seen::Open, Seen::Close(None)]),
];

/// Checks a server against the tables.
async fn check(address: SocketAddr, is_node: bool) {
    let mut wrong = Vec::new();
    for (at, asked) in REQUESTS.iter().enumerate().filter(|(_, asked)| asked.is_nodes || !is_node) {
        let mut query = asked.query.to_owned();
        let mut websocket = None;
        if query.contains("{sid}") {
            query = query.replace("{sid}", open_polling(address).await.rsplit_once('=').unwrap().1);
        }
        if query.contains("{websocket}") {
            let mut ws = Ws::open(address, "EIO=4&transport=websocket").await.unwrap();
            query = query.replace("{websocket}", ws.text().await.split('"').nth(3).unwrap());
            websocket = Some(ws);
        }
        let answer = request(address, asked.method, &query, asked.headers, asked.body).await;
        let (status, kind, body) = asked.answer;
        let kind = (!kind.is_empty()).then(|| kind.to_owned());
        if answer != (Answer { status, kind, body: body.to_owned() }) {
            wrong.push(format!("request {at}, {} {}: {answer:?}", asked.method, asked.query));
        }
        drop(websocket);
    }
    for (at, case) in FRAMES.iter().enumerate().filter(|(_, case)| case.is_nodes || !is_node) {
        let name = || {
            format!(
                "frames {at}: {:?}",
                case.frames.iter().map(|(_, payload)| payload.escape_ascii().to_string()).collect::<Vec<_>>()
            )
        };
        let mut ws = Ws::open(address, "EIO=4&transport=websocket").await.unwrap();
        assert!(ws.text().await.starts_with("0{"));
        let mut answers = case.answer.iter();
        for (at, (first, payload)) in case.frames.iter().enumerate() {
            ws.frame(*first, payload).await;
            if at == 0 && matches!(case.answer[0], Seen::Open) {
                let Frame::Text(text) = ws.next().await else { panic!("{}", name()) };
                assert!(text.starts_with("40"), "{}: {text}", name());
                answers.next();
            }
        }
        for answer in answers {
            let expected = match answer {
                Seen::Text(text) => Frame::Text((*text).to_owned()),
                Seen::Binary(bytes) => Frame::Binary(bytes.to_vec()),
                Seen::Pong(bytes) => Frame::Pong(bytes.to_vec()),
                Seen::Close(code) => Frame::Close(*code),
                Seen::Open => unreachable!("it is the first"),
            };
            let seen = timeout(Duration::from_secs(3), ws.next()).await.ok();
            if seen.as_ref() != Some(&expected) {
                wrong.push(format!("{}: {seen:?} instead of {expected:?}", name()));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    sequences(address).await;
}

/// Cases of more than one request.
async fn sequences(address: SocketAddr) {
    let ask = |method, query: String, body: String| async move { request(address, method, &query, &[], &body).await };
    let plain = |status, body: &str| Answer { status, kind: None, body: body.to_owned() };
    let packets = |body: &str| Answer { status: 200, kind: Some(TEXT.to_owned()), body: body.to_owned() };

    // A body above the limit: 413, and the session stays open.
    let session = open_polling(address).await;
    assert_eq!(ask("POST", session.clone(), "4".repeat(1001)).await, plain(413, ""));
    assert_eq!(ask("POST", session.clone(), "40/none".to_owned()).await.status, 200);
    assert_eq!(ask("GET", session, String::new()).await, packets(r#"44/none,{"message":"Invalid namespace"}"#));

    // Two concurrent polls: the first gets a close packet, the second 400.
    let session = open_polling(address).await;
    let first = tokio::spawn(ask("GET", session.clone(), String::new()));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ask("GET", session.clone(), String::new()).await, plain(400, ""));
    assert_eq!(first.await.unwrap(), packets("1"));
    assert_eq!(ask("GET", session, String::new()).await.body, UNKNOWN_SESSION.2);

    // A close packet ends a poll with a noop.
    let session = open_polling(address).await;
    let first = tokio::spawn(ask("GET", session.clone(), String::new()));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ask("POST", session.clone(), "1".to_owned()).await.status, 200);
    assert_eq!(first.await.unwrap(), packets("6"));
    assert_eq!(ask("GET", session, String::new()).await.body, UNKNOWN_SESSION.2);

    // Several packets in one body, and in one answer.
    let session = open_polling(address).await;
    assert_eq!(ask("POST", session.clone(), "40".to_owned()).await.status, 200);
    assert!(ask("GET", session.clone(), String::new()).await.body.starts_with("40{"));
    let body = "451-[\"message\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID\u{1e}426[\"message-with-ack\",\"é\"]".to_owned();
    assert_eq!(ask("POST", session.clone(), body).await.body, "ok");
    let answer = "451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID\u{1e}436[\"é\"]";
    let mut seen = ask("GET", session.clone(), String::new()).await.body;
    while seen.len() < answer.len() {
        seen = format!("{seen}\u{1e}{}", ask("GET", session.clone(), String::new()).await.body);
    }
    assert_eq!(seen, answer);

    // A connection without a namespace.
    let mut ws = Ws::open(address, "EIO=4&transport=websocket").await.unwrap();
    assert!(ws.text().await.starts_with("0{"));
    assert_eq!(ws.next().await, Frame::Close(None));

    // An upgrade is answered while it is under way.
    let sid = {
        let mut first = Ws::open(address, &open_polling(address).await.replace("polling", "websocket")).await.unwrap();
        first.send("2probe").await;
        assert_eq!(first.text().await, "3probe");
        first
    };
    drop(sid);
}

fn config() -> Config {
    Config { max_payload: 1000, connect_timeout: Duration::from_secs(1), ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_requests_frames_and_packets_get_the_answers_of_the_table() {
    let server = support::Server::start(config()).await;
    check(server.address, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_holds_against_the_reference_server() {
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/node_modules");
    if !std::path::Path::new(modules).join("socket.io").exists() {
        println!("left out: socket.io is not installed in {modules}");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.mjs");
    let mut node =
        tokio::process::Command::new("node").args([script, modules]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let port: u16 = lines.next_line().await.unwrap().unwrap().parse().unwrap();
    check(SocketAddr::from(([127, 0, 0, 1], port)), true).await;
}
