//! Packets for clients: websocket frames that are encoded once and shared by any number of recipients. For polling clients the
//! packets are taken out of the frames.

use bytes::Bytes;

use crate::frame::{self, Opcode};
use crate::json;

/// One packet with its attachments, as websocket frames in shared memory. A clone shares them.
///
/// The packet contains its namespace, so it must only be sent to sockets of that namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(pub(crate) Bytes);

/// An event to encode.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// The namespace, `/` or `/…`.
    pub namespace: &'a str,
    /// The event's name, as text.
    pub name: &'a str,
    /// The arguments as JSON, without the array's brackets. Attachments are `{"_placeholder":true,"num":N}` in it.
    pub args: &'a str,
    /// The offset of the event for connection state recovery, sent as the last argument. It must be the same for every recipient,
    /// since they share the message.
    pub offset: Option<&'a str>,
    /// The number for the client's answer. See [`Socket::ask`](crate::Socket::ask).
    pub ask: Option<u64>,
    /// The attachments, in the order of their numbers.
    pub attachments: &'a [Bytes],
}

impl Outgoing<'_> {
    /// Encodes the event.
    pub fn encode(&self) -> Message {
        let name = Quoted::new(self.name);
        let offset = self.offset.map(Quoted::new);
        let [name, offset] = [Some(&name), offset.as_ref()].map(|text| text.map_or([&[][..]; 3], Quoted::parts));
        let comma = |is_needed| if is_needed { &b","[..] } else { b"" };
        let (args, has_offset) = (self.args.as_bytes(), self.offset.is_some());
        let parts = [
            b"[",
            name[0],
            name[1],
            name[2],
            comma(!args.is_empty()),
            args,
            comma(has_offset),
            offset[0],
            offset[1],
            offset[2],
            b"]",
        ];
        packet(Kind::Event, self.namespace, self.ask, &parts, self.attachments)
    }
}

/// A text as a JSON string. It is copied only if it needs escapes.
enum Quoted<'a> {
    Plain(&'a str),
    Escaped(Vec<u8>),
}

impl<'a> Quoted<'a> {
    fn new(text: &'a str) -> Self {
        if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            return Self::Plain(text);
        }
        let mut escaped = Vec::with_capacity(text.len() + 8);
        json::quote(text, &mut escaped);
        Self::Escaped(escaped)
    }

    fn parts(&self) -> [&[u8]; 3] {
        match self {
            Self::Plain(text) => [b"\"", text.as_bytes(), b"\""],
            Self::Escaped(escaped) => [b"", escaped, b""],
        }
    }
}

/// Types of packets that a server sends.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    ConnectError = 4,
}

impl Message {
    /// An event from the JSON text of its array, `["name",args…]`.
    pub fn event(namespace: &str, array: &str) -> Self {
        packet(Kind::Event, namespace, None, &[array.as_bytes()], &[])
    }

    /// As [`Message::event`], with an offset as one more argument. It must need no escapes in JSON.
    pub fn event_at(namespace: &str, array: &str, offset: &str) -> Self {
        let array = array.trim_end();
        let inside = array.strip_suffix(']').unwrap_or(array).as_bytes();
        packet(Kind::Event, namespace, None, &[inside, b",\"", offset.as_bytes(), b"\"]"], &[])
    }

    /// The answer to an event. `args` are its arguments as JSON, without the array's brackets.
    pub fn ack(namespace: &str, id: u64, args: &str, attachments: &[Bytes]) -> Self {
        packet(Kind::Ack, namespace, Some(id), &[b"[", args.as_bytes(), b"]"], attachments)
    }

    /// The frames of the message, to store them.
    pub fn frames(&self) -> &Bytes {
        &self.0
    }

    /// A message from frames that [`Message::frames`] gave. Others would break the connections that they are sent to.
    pub fn from_frames(frames: Bytes) -> Self {
        Self(frames)
    }

    /// Bytes that the message takes in a queue.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn connect(namespace: &str, data: &str) -> Self {
        packet(Kind::Connect, namespace, None, &[data.as_bytes()], &[])
    }

    pub(crate) fn disconnect(namespace: &str) -> Self {
        packet(Kind::Disconnect, namespace, None, &[], &[])
    }

    pub(crate) fn connect_error(namespace: &str, data: &[u8]) -> Self {
        packet(Kind::ConnectError, namespace, None, &[data], &[])
    }

    /// The engine's ping.
    pub(crate) const PING: Self = Self(Bytes::from_static(&[0x81, 1, b'2']));

    /// A websocket's pong frame. Polling leaves it out.
    pub(crate) fn pong(payload: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(frame::MAX_HEADER + payload.len());
        frame::header(Opcode::Pong, payload.len(), &mut frame);
        frame.extend_from_slice(payload);
        Self(frame.into())
    }

    /// A whole packet of the engine, as text.
    pub(crate) fn engine(text: &str) -> Self {
        let mut frame = Vec::with_capacity(frame::MAX_HEADER + text.len());
        frame::header(Opcode::Text, text.len(), &mut frame);
        frame.extend_from_slice(text.as_bytes());
        Self(frame.into())
    }

    /// A whole binary packet of the engine.
    pub(crate) fn binary(bytes: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(frame::MAX_HEADER + bytes.len());
        frame::header(Opcode::Binary, bytes.len(), &mut frame);
        frame.extend_from_slice(bytes);
        Self(frame.into())
    }

    /// Appends the packets to the answer to a poll.
    pub(crate) fn append_to_poll(&self, body: &mut Vec<u8>) {
        let mut rest = &self.0[..];
        while let Some((opcode, payload, next)) = frame::split(rest) {
            rest = next;
            if !matches!(opcode, Opcode::Text | Opcode::Binary) {
                continue;
            }
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
            if opcode == Opcode::Text {
                body.extend_from_slice(payload);
            } else {
                body.push(b'b');
                crate::base64::encode(payload, body);
            }
        }
    }
}

/// Between two packets of one body.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// Encodes a packet in one allocation of the exact size.
fn packet(kind: Kind, namespace: &str, id: Option<u64>, data: &[&[u8]], attachments: &[Bytes]) -> Message {
    let has_attachments = !attachments.is_empty();
    // The binary types are three above the others.
    let kind = [b'4', b'0' + kind as u8 + if has_attachments { 3 } else { 0 }];
    let count = has_attachments.then(|| Decimal::new(attachments.len() as u64));
    let id = id.map(Decimal::new);
    let [count, id] = [&count, &id].map(|number| number.as_ref().map_or(&[][..], Decimal::digits));
    let (namespace, comma) = if namespace == "/" { ("", "") } else { (namespace, ",") };
    let dash: &[u8] = if has_attachments { b"-" } else { b"" };
    let head = [&kind, count, dash, namespace.as_bytes(), comma.as_bytes(), id];
    let parts = || head.iter().chain(data).copied();
    let length = parts().map(<[u8]>::len).sum();
    let binary: usize = attachments.iter().map(|bytes| frame::size(bytes.len())).sum();
    let mut frames = Vec::with_capacity(frame::size(length) + binary);
    frame::header(Opcode::Text, length, &mut frames);
    parts().for_each(|part| frames.extend_from_slice(part));
    for bytes in attachments {
        frame::header(Opcode::Binary, bytes.len(), &mut frames);
        frames.extend_from_slice(bytes);
    }
    Message(frames.into())
}

/// A number as text.
struct Decimal {
    digits: [u8; 20],
    at: usize,
}

impl Decimal {
    fn new(mut number: u64) -> Self {
        let mut decimal = Self { digits: [0; 20], at: 20 };
        loop {
            decimal.at -= 1;
            decimal.digits[decimal.at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(message: &Message) -> String {
        let mut body = Vec::new();
        message.append_to_poll(&mut body);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn packets_are_written_as_the_protocol_has_them() {
        let event = Outgoing { namespace: "/", name: "a\"b", args: "1,{}", ..Outgoing::default() };
        assert_eq!(polled(&event.encode()), r#"42["a\"b",1,{}]"#);
        let offset = Outgoing { offset: Some("n1:7"), args: "", ..event };
        assert_eq!(polled(&offset.encode()), r#"42["a\"b","n1:7"]"#);
        assert_eq!(polled(&Message::event_at("/x", "[\"a\", 1 ] ", "7.1")), "42/x,[\"a\", 1 ,\"7.1\"]");
        let asked = Outgoing { namespace: "/chat", ask: Some(12), ..event };
        assert_eq!(polled(&asked.encode()), r#"42/chat,12["a\"b",1,{}]"#);
        let binary = [Bytes::from_static(&[1, 2, 3, 4]), Bytes::from_static(&[0xff])];
        let attached = Outgoing { attachments: &binary, ..asked };
        assert_eq!(polled(&attached.encode()), "452-/chat,12[\"a\\\"b\",1,{}]\u{1e}bAQIDBA==\u{1e}b/w==");
        assert_eq!(polled(&Message::ack("/", 0, "", &[])), "430[]");
        assert_eq!(polled(&Message::ack("/x", 7, "1", &binary[..1])), "461-/x,7[1]\u{1e}bAQIDBA==");
        assert_eq!(polled(&Message::disconnect("/x")), "41/x,");
        assert_eq!(polled(&Message::connect("/", "{}")), "40{}");
        assert_eq!(polled(&Message::pong(b"x")), "", "a polling client knows no frames");
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 1, 9, 10, 1_000_000, u64::MAX] {
            assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
        }
    }
}
