//! Measures the wire against a loop of bare writes: CPU a delivery in rooms, CPU an acked message, and memory an idle connection.
//! `cargo run --release -p hubbub-wire --example measure`. Both servers run as processes of their own; the client is this one.
#![allow(clippy::print_stdout, reason = "it prints what it measures")]

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::Response;
use hubbub_wire::{Accepted, Config, Connect, Event, Handler, Outgoing, Refused, Socket, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MEMBERS: usize = 100;
const TOGETHER: usize = 200;
const ROUNDS: usize = 5;
const WINDOW: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["wire", port] => wire(port.parse()?).await,
        ["floor", port] => floor(port.parse()?).await,
        ["idle"] => idle().await,
        ["rooms"] => rooms().await,
        ["acks"] => acks().await,
        _ => {
            idle().await?;
            rooms().await?;
            acks().await
        }
    }
}

/// A server with one room, which everyone is in.
#[derive(Default)]
struct Room(Mutex<Vec<Socket>>);

impl Handler for Room {
    type Connection = ();
    type Socket = ();

    async fn open(self: Arc<Self>, _: http::request::Parts) -> Result<(), Response> {
        Ok(())
    }

    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<()>, Refused> {
        // Before the CONNECT is answered, since the client counts every event after it.
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(connect.socket);
        Ok(Accepted::new(()))
    }

    fn event(&self, socket: &Socket, (): &(), event: Event<'_>) {
        match event.ack {
            Some(ack) => {
                socket.ack(ack, "{}");
            }
            None => {
                let message = Outgoing { namespace: "/", name: &event.name, args: event.args, ..Outgoing::default() }.encode();
                for member in self.0.lock().unwrap_or_else(|e| e.into_inner()).iter() {
                    member.send(&message);
                }
            }
        }
    }

    fn disconnected(&self, socket: &Socket, (): (), _: hubbub_wire::Reason) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).retain(|member| member.id() != socket.id());
    }
}

async fn wire(port: u16) -> Outcome<()> {
    let config = Config { ping_interval: Duration::from_secs(300), ..Config::default() };
    let routes = Router::new().route_service("/socket.io/", Wire::new(Arc::new(Room::default()), config));
    axum::serve(TcpListener::bind(("127.0.0.1", port)).await?, routes).await?;
    Ok(())
}

/// One write a member and nothing else.
async fn floor(port: u16) -> Outcome<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let room: Arc<Mutex<Vec<Arc<TcpStream>>>> = Arc::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(floor_member(Arc::new(stream), room.clone()));
    }
}

async fn floor_member(stream: Arc<TcpStream>, room: Arc<Mutex<Vec<Arc<TcpStream>>>>) -> Option<()> {
    let mut opened = false;
    let mut head = Vec::new();
    while stream.readable().await.is_ok() {
        let mut buffer = [0; 4096];
        let count = match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        if !opened {
            head.extend_from_slice(&buffer[..count]);
            if head.ends_with(b"\r\n\r\n") {
                opened = true;
                head = Vec::new();
                let _ =
                    stream.try_write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
                let _ = stream.try_write(&frame(b"0{}", None));
            }
            continue;
        }
        let text = unmasked(&buffer[..count])?;
        if text == b"40" {
            room.lock().unwrap_or_else(|e| e.into_inner()).push(stream.clone());
            let _ = stream.try_write(&frame(b"40{}", None));
        } else if text.starts_with(b"421[") {
            let _ = stream.try_write(&frame(b"431[{}]", None));
        } else {
            let frame = frame(&text, None);
            for member in room.lock().unwrap_or_else(|e| e.into_inner()).iter() {
                let _ = member.try_write(&frame);
            }
        }
    }
    room.lock().unwrap_or_else(|e| e.into_inner()).retain(|member| !Arc::ptr_eq(member, &stream));
    Some(())
}

fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x81];
    match payload.len() {
        length @ ..126 => frame.push(bit | length as u8),
        length => {
            frame.push(bit | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask.map_or(0, |mask| mask[at % 4])));
    frame
}

fn unmasked(frame: &[u8]) -> Option<Vec<u8>> {
    let (length, at) = match frame.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes(frame.get(2..4)?.try_into().ok()?)), 4),
        short => (usize::from(short), 2),
    };
    let mask = frame.get(at..at + 4)?;
    let payload = frame.get(at + 4..at + 4 + length)?;
    Some(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect())
}

/// A server process. It ends with this value.
struct Server(Child, u16);

impl Server {
    async fn start(kind: &str, port: u16) -> Outcome<Self> {
        let child = Command::new(std::env::current_exe()?).args([kind, &port.to_string()]).stdin(Stdio::null()).spawn()?;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self(child, port))
    }

    fn memory_kb(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with("RssAnon")).ok_or("no RssAnon")?;
        Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
    }

    /// CPU time so far, of the process and of the kernel for it.
    fn cpu(&self) -> Outcome<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split_whitespace().next().ok_or("no number")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens a websocket and its namespace. Clients come from several addresses, since one has too few ports.
async fn client(port: u16, number: usize) -> Outcome<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(std::net::SocketAddr::from(([127, 0, 1, (number / 10_000) as u8 + 1], 0)))?;
    let mut stream = socket.connect(std::net::SocketAddr::from(([127, 0, 0, 1], port))).await?;
    stream.set_nodelay(true)?;
    stream
        .write_all(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await?;
    expect(&mut stream, b"0{").await?;
    stream.write_all(&frame(b"40", Some([1, 2, 3, 4]))).await?;
    expect(&mut stream, b"40{").await?;
    Ok(stream)
}

async fn expect(stream: &mut TcpStream, wanted: &[u8]) -> Outcome<()> {
    let mut seen = Vec::new();
    while !seen.windows(wanted.len()).any(|window| window == wanted) {
        if stream.read_buf(&mut seen).await? == 0 {
            return Err("closed".into());
        }
    }
    Ok(())
}

async fn idle() -> Outcome<()> {
    for kind in ["floor", "wire"] {
        let server = Server::start(kind, 4801).await?;
        let mut clients = Vec::new();
        let mut points = Vec::new();
        for count in [1000, 5000, 15_000] {
            while clients.len() < count {
                // As after a restart: many at a time.
                let mut together = tokio::task::JoinSet::new();
                for number in clients.len()..count.min(clients.len() + TOGETHER) {
                    together.spawn(client(4801, number));
                }
                while let Some(client) = together.join_next().await {
                    clients.push(client??);
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            points.push((count, server.memory_kb()?));
        }
        let slope = |a: (usize, f64), b: (usize, f64)| (b.1 - a.1) / (b.0 - a.0) as f64;
        let (low, high) = (slope(points[0], points[1]), slope(points[1], points[2]));
        println!("{kind}: {low:.2} KB a connection from 1000 to 5000, {high:.2} KB from 5000 to 15000; {points:?}");
    }
    Ok(())
}

async fn rooms() -> Outcome<()> {
    let event = format!(r#"42["say",{{"text":"{}"}}]"#, "x".repeat(100));
    compare("delivery in a room of 100", event.as_bytes(), MEMBERS as u64).await
}

async fn acks() -> Outcome<()> {
    compare("acked message", br#"421["say",{"text":"hello"}]"#, 1).await
}

/// Compares the CPU of both servers for one answer.
async fn compare(name: &str, payload: &[u8], answers: u64) -> Outcome<()> {
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut costs = [0.0; 2];
        // The order alternates, so that a drift of the machine favours neither.
        for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            costs[at] = cost(["floor", "wire"][at], payload, answers).await?;
        }
        ratios.push(costs[1] / costs[0]);
        println!("{name}: floor {:.2} µs, wire {:.2} µs, {:.2} x", costs[0], costs[1], costs[1] / costs[0]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("{name}: median {:.2} x ({:.2} to {:.2})", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    Ok(())
}

/// Microseconds of the server's CPU for one answer.
async fn cost(kind: &str, payload: &[u8], answers: u64) -> Outcome<f64> {
    let server = Server::start(kind, 4802).await?;
    let received = Arc::new(AtomicU64::new(0));
    let mut senders = Vec::new();
    for number in 0..MEMBERS {
        let (mut reader, writer) = client(server.1, number).await?.into_split();
        let received = received.clone();
        senders.push(writer);
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                received.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
    }
    let length = if answers == 1 { frame(b"431[{}]", None).len() } else { frame(payload, None).len() } as u64;
    let request = frame(payload, Some([9, 8, 7, 6]));
    let run = async |senders: &mut Vec<tokio::net::tcp::OwnedWriteHalf>, window: Duration| {
        let (start, before) = (Instant::now(), received.load(Ordering::Relaxed));
        let (mut at, mut sent) = (0, 0);
        while start.elapsed() < window {
            let now = received.load(Ordering::Relaxed) - before;
            if now / length < sent * answers {
                tokio::task::yield_now().await;
                continue;
            }
            // A few at a time for acks, so that the client is not the bound.
            for _ in 0..if answers == 1 { 20 } else { 1 } {
                senders[at % MEMBERS].write_all(&request).await?;
                at += 1;
                sent += 1;
            }
        }
        while (received.load(Ordering::Relaxed) - before) / length < sent * answers {
            tokio::task::yield_now().await;
        }
        Outcome::Ok(sent * answers)
    };
    run(&mut senders, WINDOW / 4).await?;
    let before = server.cpu()?;
    let count = run(&mut senders, WINDOW).await?;
    Ok((server.cpu()? - before).as_secs_f64() * 1e6 / count as f64)
}
