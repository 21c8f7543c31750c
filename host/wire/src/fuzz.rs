//! Entries for a fuzzer. Each takes any bytes, and panics where an invariant of the crate does not hold.

use std::sync::Arc;
use std::task::{Context, Waker};

use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;

use crate::frame::decoder::{Decoder, Item};
use crate::handler::{Accepted, Connect, Event, Handler, Refused};
use crate::id::SessionId;
use crate::link::Link;
use crate::reader::Reader;
use crate::reason::Reason;
use crate::shared::{Sessions, Shared};
use crate::{Config, Socket, base64, io, json, packet};

/// The longest message of the frames.
const MAX: usize = 4096;

/// Frames of a client. They must read the same in one piece and in pieces, whose sizes are the first bytes.
pub fn frames(bytes: &[u8]) {
    let (sizes, bytes) = bytes.split_at(bytes.len().min(4));
    let whole = read(bytes, &[u8::MAX]);
    let sizes = if sizes.is_empty() { &[1] } else { sizes };
    assert_eq!(whole, read(bytes, sizes), "the same frames in pieces of {sizes:?}");
}

fn read(bytes: &[u8], sizes: &[u8]) -> Vec<String> {
    let (mut decoder, mut items, mut rest) = (Decoder::new(MAX), Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*size).max(1)));
        rest = after;
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next(&mut input) {
                Ok(Some(item)) => {
                    if let Item::Text(text) = item {
                        assert!(text.len() <= MAX, "a message is bounded");
                    }
                    items.push(format!("{item:?}"));
                }
                Ok(None) => break,
                Err(error) => {
                    items.push(format!("{error:?}"));
                    return items;
                }
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    items
}

/// One packet, and the JSON and base64 in it.
pub fn packets(bytes: &[u8]) {
    if let Some(decoded) = base64::decode(bytes) {
        let mut encoded = Vec::new();
        base64::encode(&decoded, &mut encoded);
        assert_eq!(base64::decode(&encoded).as_deref(), Some(&decoded[..]), "base64 reads back");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(event) = json::event(text) {
        let mut again = b"[".to_vec();
        json::quote(&event.name, &mut again);
        if !event.args.is_empty() {
            again.push(b',');
            again.extend_from_slice(event.args.as_bytes());
        }
        again.push(b']');
        let again = String::from_utf8(again).unwrap_or_default();
        let read = json::event(&again);
        assert_eq!(read.as_ref(), Some(&event), "an event reads back");
        assert!(json::array(text).is_some(), "an event is an array");
    }
    // It must return, with any result.
    let _ = packet::parse(text, 10);
}

/// A session: packets of a client, each after a byte with its length. Some connects are refused.
pub fn session(bytes: &[u8]) {
    let config = Arc::new(Config { max_payload: MAX, early_events: 3, namespaces: 3, queue_packets: 40, ..Config::default() });
    let handler = Arc::new(Echo);
    let shared = Arc::new(Shared { handler, config: config.clone(), sessions: Sessions::default(), takeover: io::plain });
    let link = Link::polling(SessionId::random(), config);
    let mut reader = Reader::new(shared, link.clone(), ());
    let mut cx = Context::from_waker(Waker::noop());
    let mut rest = bytes;
    while let [length, after @ ..] = rest {
        let (packet, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let taken = match std::str::from_utf8(packet) {
            Ok(text) => reader.text(text),
            Err(_) => reader.binary(Bytes::copy_from_slice(packet)),
        };
        let _ = reader.poll_connects(&mut cx);
        if let Err(end) = taken {
            link.end(end.reason, end.how);
        }
        if link.has_ended() {
            break;
        }
    }
    let _ = link.poll_answer(&cx);
    reader.finish(Reason::TransportClose);
    assert!(reader.poll_finished(&mut cx).is_ready(), "all connects are decided");
}

struct Echo;

impl Handler for Echo {
    type Connection = ();
    type Socket = ();

    async fn open(self: Arc<Self>, _: Parts) -> Result<(), Response> {
        Ok(())
    }

    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<()>, Refused> {
        if connect.socket.namespace().len().is_multiple_of(2) {
            return Err(Refused::unknown_namespace());
        }
        Ok(Accepted::new(()))
    }

    fn event(&self, socket: &Socket, (): &(), event: Event<'_>) {
        match event.ack {
            Some(id) => {
                socket.ack_with(id, event.args, &event.attachments);
            }
            None if &*event.name == "leave" => socket.disconnect(),
            None => {
                let name = &*event.name;
                let echo = crate::Outgoing { namespace: socket.namespace(), name, args: event.args, ..Default::default() };
                socket.send(&echo.encode());
            }
        }
    }
}
