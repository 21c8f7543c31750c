//! One packet of a client: the parser against serde_json and against the encoder. Base64 is decoded and encoded again.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::message::{Message, Outgoing};
use crate::packet::{self, Body, Packet};
use crate::reason::{BadPacket, Limit, Reason};
use crate::{base64, frame, json};

/// The most attachments of one packet.
const MAX: usize = 10;

/// The text of one packet, or base64.
pub fn packets(bytes: &[u8]) {
    base64_reads_back(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parts = Parts::of(text);
    assert_eq!(json::is_object(parts.payload), is_object(parts.payload), "whether {:?} is an object", parts.payload);
    match packet::parse(text, MAX) {
        Ok(packet) => {
            is_as_sent(&packet, text, &parts);
            reads_back(packet);
        }
        Err(reason) => is_not_valid(reason, text, &parts),
    }
}

/// The parts of a packet's text. Where one is missing, it is empty.
pub(super) struct Parts<'a> {
    pub(super) kind: u8,
    pub(super) count: &'a str,
    pub(super) namespace: &'a str,
    pub(super) number: &'a str,
    pub(super) payload: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let kind = text.bytes().next().unwrap_or_default();
        let rest = text.get(1..).unwrap_or_default();
        let (count, rest) = if kind >= b'5' { rest.split_once('-').unwrap_or_default() } else { ("", rest) };
        let (namespace, rest) = if rest.starts_with('/') { rest.split_once(',').unwrap_or((rest, "")) } else { ("/", rest) };
        let payload = rest.trim_start_matches(|char: char| char.is_ascii_digit());
        Self { kind, count, namespace, number: &rest[..rest.len() - payload.len()], payload }
    }
}

/// The elements of a JSON array, as serde_json reads it.
pub(super) fn elements(text: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// Whether a text is a JSON object, as serde_json reads it.
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|value| value.get().starts_with('{'))
}

/// Whether a JSON array is an event: its first element is a string or a number.
pub(super) fn is_event(array: &str) -> bool {
    let first = |name: &str| name.starts_with(|char: char| matches!(char, '"' | '-' | '0'..='9'));
    elements(array).is_some_and(|elements| elements.first().is_some_and(|name| first(name)))
}

/// An accepted packet has the content of its text.
fn is_as_sent(packet: &Packet<'_>, text: &str, parts: &Parts<'_>) {
    let Parts { namespace, payload, .. } = *parts;
    assert_eq!(packet.namespace, namespace, "the namespace of {text:?}");
    assert_eq!(packet.attachments, parts.count.parse().ok(), "the attachments of {text:?}");
    assert!(packet.attachments.is_none_or(|count| count <= MAX), "too many attachments in {text:?}");
    match &packet.body {
        Body::Event { name, args, ack } => {
            assert_eq!(*ack, parts.number.parse().ok(), "the number of {text:?}");
            assert!(is_event(payload), "{text:?} is no event");
            let sent = elements(payload).unwrap_or_default();
            assert!(is_name(name, sent[0]), "the name of {text:?} is not {name:?}");
            assert_eq!(elements(&format!("[{args}]")).as_deref(), sent.get(1..), "the arguments of {text:?}");
        }
        Body::Ack { id, args } => {
            assert_eq!(*id, parts.number.parse().ok(), "the number of {text:?}");
            let sent = if payload.is_empty() { Some(Vec::new()) } else { elements(payload) };
            assert!(sent.is_some(), "{text:?} is no ack");
            assert_eq!(elements(&format!("[{args}]")), sent, "the arguments of {text:?}");
        }
        Body::Connect(Some(auth)) => assert!(*auth == payload && is_object(auth), "the auth of {text:?}"),
        Body::Connect(None) | Body::Disconnect | Body::Nothing => assert_eq!(payload, "", "the payload of {text:?}"),
        Body::ConnectError => assert_eq!(parts.kind, b'4', "the type of {text:?}"),
    }
}

/// A number's name is its own text. Rust strings cannot hold half a surrogate pair, so U+FFFD replaces it.
fn is_name(name: &str, json: &str) -> bool {
    match serde_json::from_str::<String>(json) {
        Ok(text) => name == text,
        Err(_) if json.starts_with('"') => name.contains(char::REPLACEMENT_CHARACTER),
        Err(_) => name == json,
    }
}

/// A packet is the same after it was encoded, except that zero attachments are none.
fn reads_back(packet: Packet<'_>) {
    let attachments = vec![Bytes::from_static(b"x"); packet.attachments.unwrap_or_default()];
    let Packet { namespace, .. } = packet;
    let message = match &packet.body {
        Body::Event { name, args, ack } => {
            Outgoing { namespace, name, args, offset: None, ask: *ack, attachments: &attachments }.encode()
        }
        Body::Ack { id: Some(id), args } => Message::ack(namespace, *id, args, &attachments),
        Body::Connect(auth) => Message::connect(namespace, auth.unwrap_or_default()),
        Body::Disconnect => Message::disconnect(namespace),
        Body::Ack { id: None, .. } | Body::Nothing | Body::ConnectError => return,
    };
    let mut frames = Vec::new();
    let mut rest = &message.0[..];
    while let Some((_, payload, after)) = frame::split(rest) {
        frames.push(payload);
        rest = after;
    }
    assert_eq!((frames.len(), rest.len()), (1 + attachments.len(), 0), "the frames of {packet:?}");
    let text = std::str::from_utf8(frames[0]).unwrap_or_default();
    let expected = Packet { attachments: packet.attachments.filter(|count| *count > 0), ..packet };
    assert_eq!(text.strip_prefix('4').map(|text| packet::parse(text, MAX)), Some(Ok(expected)), "after {text:?}");
}

/// A refused packet has the defect that the reason names.
fn is_not_valid(reason: Reason, text: &str, parts: &Parts<'_>) {
    let Parts { kind, payload, .. } = *parts;
    let is_right = match reason {
        Reason::BadPacket(BadPacket::Type) => !matches!(kind, b'0'..=b'6'),
        Reason::BadPacket(BadPacket::AttachmentCount) => kind >= b'5' && (parts.count.is_empty() || !is_decimal(parts.count)),
        Reason::Limit(Limit::Attachments) => {
            is_decimal(parts.count) && parts.count.parse().is_ok_and(|count: f64| count > MAX as f64)
        }
        Reason::BadPacket(BadPacket::Payload) if !parts.number.is_empty() && parts.number.parse::<u64>().is_err() => true,
        Reason::BadPacket(BadPacket::Payload) => match kind {
            b'0' => !is_object(payload),
            b'1' => !payload.is_empty(),
            b'2' | b'5' => !is_event(payload),
            b'3' | b'6' => elements(payload).is_none(),
            _ => false,
        },
        // Other reasons do not depend on the text alone.
        _ => true,
    };
    assert!(is_right, "{text:?} was refused: {reason:?}");
}

fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Decoded base64 is encoded as the same text, but for padding, the characters `-_`, and bits after the last byte.
fn base64_reads_back(text: &[u8]) {
    let Some(decoded) = base64::decode(text) else { return };
    let mut encoded = Vec::new();
    base64::encode(&decoded, &mut encoded);
    assert_eq!(base64::decode(&encoded).as_deref(), Some(&decoded[..]), "base64 {text:?}");
    let characters = |text: &[u8]| -> Vec<u8> {
        let plain = |byte: &u8| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        };
        let mut characters: Vec<u8> = text.iter().filter(|byte| **byte != b'=').map(plain).collect();
        if decoded.len() % 3 > 0 {
            characters.pop();
        }
        characters
    };
    assert_eq!(characters(&encoded), characters(text), "base64 {text:?}");
}
