//! A polling session: what a client sends, the polls that take its answers, and deadlines. The handler checks the order of its calls.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::packets::{Parts, elements, is_event, is_object};
use crate::id::SessionId;
use crate::link::Link;
use crate::message::SEPARATOR;
use crate::polling::post::take_packet;
use crate::reader::Reader;
use crate::reason::Reason;
use crate::shared::{Sessions, Shared};
use crate::{Config, base64, io};
use handler::{Checks, SLOW};

mod handler;

/// Steps, each after a byte with its length: the body of a POST, or bytes that are not UTF-8, which are one attachment. With the length
/// 0 a poll takes the answers, and with 255 the next deadline passes.
pub fn session(bytes: &[u8]) {
    let config = Config {
        early_events: 3,
        namespaces: 3,
        queue_packets: 40,
        poll_packets: 10,
        asks: 2,
        attachment_bytes: 100,
        ..Config::default()
    };
    let config = Arc::new(config);
    let handler = Arc::new(Checks::default());
    let shared = Shared { handler: handler.clone(), config: config.clone(), sessions: Sessions::default(), takeover: io::plain };
    let link = Link::polling(SessionId::random(), config);
    let mut reader = Reader::new(Arc::new(shared), link.clone(), ());
    let mut rest = bytes;
    while let [length, after @ ..] = rest {
        rest = match *length {
            0 => {
                poll(&link);
                after
            }
            255 => {
                pass_deadline(&mut reader);
                after
            }
            length => {
                let (body, after) = after.split_at(after.len().min(usize::from(length)));
                post(&mut reader, body);
                after
            }
        };
        if link.has_ended() {
            break;
        }
        if link.due(&Context::from_waker(Waker::noop())).sweep {
            reader.sweep();
        }
        assert!(link.counted() <= link.config.queue_packets, "the queue is bounded");
    }
    finish(&mut reader, &link);
    drop(reader);
    handler.assert_finished();
}

fn post(reader: &mut Reader<Checks>, body: &[u8]) {
    let link = reader.link.clone();
    let taken = match std::str::from_utf8(body) {
        Ok(text) => text.split(char::from(SEPARATOR)).try_for_each(|packet| {
            let taken = if link.has_ended() { Ok(()) } else { take_packet(reader, packet) };
            let _ = reader.poll_connects(&mut Context::from_waker(Waker::noop()));
            taken
        }),
        Err(_) => reader.binary(Bytes::copy_from_slice(body)),
    };
    if let Err(end) = taken {
        link.end(end.reason, end.how);
    }
}

/// A tick at its deadline must set a later one, or the connection's task would never sleep.
fn pass_deadline(reader: &mut Reader<Checks>) {
    let now = reader.deadline();
    match reader.tick(now) {
        Ok(()) => assert!(reader.deadline() > now, "a deadline that does not pass"),
        Err(end) => {
            reader.link.end(end.reason, end.how);
        }
    }
}

fn poll(link: &Link) {
    let cx = Context::from_waker(Waker::noop());
    // A poll may be waiting since the last step.
    let _ = link.begin_poll();
    if let Poll::Ready(body) = link.poll_answer(&cx) {
        check_answer(&body);
    }
}

/// The session ends, and its pending connects are decided.
fn finish(reader: &mut Reader<Checks>, link: &Link) {
    let ended = link.ended();
    poll(link);
    reader.finish(ended.map_or(Reason::TransportClose, |end| end.reason));
    let mut cx = Context::from_waker(Waker::noop());
    let is_finished = (0..=SLOW).any(|_| reader.poll_finished(&mut cx).is_ready());
    assert!(is_finished, "all connects are decided");
}

/// The answer to a poll: packets of the engine, and each packet of Socket.IO is followed by the attachments that it announces.
fn check_answer(body: &[u8]) {
    let mut attachments = 0;
    for packet in body.split(|byte| *byte == SEPARATOR) {
        let (kind, rest) = packet.split_at(1.min(packet.len()));
        if kind == b"b" {
            assert!(attachments > 0 && base64::decode(rest).is_some(), "an attachment that no packet announced");
            attachments -= 1;
            continue;
        }
        assert_eq!(attachments, 0, "attachments are missing");
        match (kind, std::str::from_utf8(rest)) {
            (b"4", Ok(text)) => attachments = check_packet(text),
            (b"1" | b"2" | b"6", Ok("")) => {}
            _ => assert_eq!(packet, b"4", "no packet of a server"),
        }
    }
    assert_eq!(attachments, 0, "attachments are missing");
}

/// Returns the number of attachments.
fn check_packet(text: &str) -> usize {
    let parts = Parts::of(text);
    let is_right = match parts.kind {
        b'0' | b'4' => is_object(parts.payload),
        b'1' => parts.payload.is_empty(),
        b'2' | b'5' => is_event(parts.payload),
        b'3' | b'6' => elements(parts.payload).is_some() && !parts.number.is_empty(),
        _ => false,
    };
    assert!(is_right, "a client cannot read {text:?}");
    parts.count.parse().unwrap_or_default()
}
