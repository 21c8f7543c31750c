//! The floor: a server that makes one write() for each member and nothing else, which shows how much of a result is the kernel's
//! share. It must never get features: it checks no token and parses an event only to find its room.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use crate::child::own_command;

const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
/// The generator's connections last seconds, so no ping is ever due.
const OPEN: &[u8] = br#"0{"sid":"floor","upgrades":[],"pingInterval":300000,"pingTimeout":300000,"maxPayload":100000}"#;
const CONNECTED: &[u8] = br#"40{"sid":"floor"}"#;
/// A client that has sent this much of an incomplete frame is closed.
const PARTIAL_LIMIT: usize = 64 * 1024;

type Room = Arc<Mutex<Vec<Arc<TcpStream>>>>;
type Rooms = Arc<Mutex<HashMap<Vec<u8>, Room>>>;

pub(crate) fn command(addr: SocketAddr) -> Result<Command> {
    own_command("floor", addr)
}

/// Serves until its standard input ends.
///
/// # Errors
/// The address is taken.
pub(crate) async fn serve(addr: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(addr).await.context("cannot listen")?;
    let rooms = Rooms::default();
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(member(Arc::new(stream), Arc::clone(&rooms)));
        }
    };
    tokio::select! {
        ended = accept => ended,
        () = crate::parent_ended() => Ok(()),
    }
}

/// Handles one connection until it closes. Rooms are never left: a room's sockets all end with its measure, and so does the
/// process.
async fn member(stream: Arc<TcpStream>, rooms: Rooms) {
    let mut partial = Vec::new();
    let mut upgraded = false;
    let mut room: Option<Room> = None;
    while stream.readable().await.is_ok() {
        // The buffer exists between two awaits only, so that a thread has one and not each connection.
        if !serve_readable(&stream, &rooms, &mut room, &mut partial, &mut upgraded) {
            return;
        }
    }
}

/// Returns `false` to close the connection.
fn serve_readable(
    stream: &Arc<TcpStream>,
    rooms: &Rooms,
    room: &mut Option<Room>,
    partial: &mut Vec<u8>,
    upgraded: &mut bool,
) -> bool {
    let mut buffer = [0; 4096];
    let n = match stream.try_read(&mut buffer) {
        Ok(0) => return false,
        Ok(n) => n,
        Err(e) => return e.kind() == ErrorKind::WouldBlock,
    };
    let mut bytes = std::mem::take(partial);
    bytes.extend_from_slice(&buffer[..n]);
    let mut used = 0;
    if !*upgraded {
        let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
            *partial = bytes;
            return partial.len() < PARTIAL_LIMIT;
        };
        if !bytes.starts_with(b"GET /socket.io/") {
            write(stream, HEALTHY);
            return false;
        }
        *upgraded = true;
        used = end + 4;
        write(stream, UPGRADED);
        write(stream, &text_frame(&[OPEN]));
    }
    while let Some((opcode, len, text)) = masked(&bytes[used..]) {
        used += len;
        if opcode == 8 {
            return false;
        }
        handle_text(stream, rooms, room, &text);
    }
    // An empty Vec has no memory, so idle connections use none.
    *partial = bytes.split_off(used);
    partial.len() < PARTIAL_LIMIT
}

fn handle_text(stream: &Arc<TcpStream>, rooms: &Rooms, room: &mut Option<Room>, text: &[u8]) {
    if text.starts_with(b"40") {
        write(stream, &text_frame(&[CONNECTED]));
        return;
    }
    let Some(args) = memchr::memchr(b'[', text) else { return };
    if text[args..].starts_with(br#"["chat:join""#) {
        let joined = Arc::clone(lock(rooms).entry(text[args..].to_vec()).or_default());
        lock(&joined).push(Arc::clone(stream));
        *room = Some(joined);
    } else if let Some(room) = room {
        let frame = text_frame(&[b"42", &text[args..]]);
        for member in lock(room).iter() {
            write(member, &frame);
        }
    }
    if args > 2 {
        write(stream, &text_frame(&[b"43", &text[2..args], b"[{}]"]));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    mutex.lock()
}

/// One write() and no queue: bytes that the kernel does not accept are lost, and the generator reports that.
fn write(stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.try_write(bytes);
}

fn text_frame(parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(len + 4);
    frame.push(0x81);
    if len < 126 {
        frame.push(len as u8);
    } else {
        frame.push(126);
        frame.extend_from_slice(&(len as u16).to_be_bytes());
    }
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// The first complete masked frame: its opcode, its length with the header, and its payload.
fn masked(bytes: &[u8]) -> Option<(u8, usize, Vec<u8>)> {
    let (len, head) = match bytes.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        short => (usize::from(short), 2),
    };
    let mask = bytes.get(head..head + 4)?;
    let payload = bytes.get(head + 4..head + 4 + len)?;
    let text = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((bytes[0] & 0x0f, head + 4 + len, text))
}
