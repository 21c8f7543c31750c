//! Reads the packets of Socket.IO 5, with the same checks as Node's decoder, except that names which the client libraries reserve are
//! left to the handler.

use std::borrow::Cow;

use crate::json;
use crate::reason::{BadPacket, Limit, Reason};

/// A packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) namespace: &'a str,
    /// The number of attachments, for the binary types.
    pub(crate) attachments: Option<usize>,
    pub(crate) body: Body<'a>,
}

/// The content of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// The `auth` of the client, a JSON object.
    Connect(Option<&'a str>),
    Disconnect,
    Event {
        name: Cow<'a, str>,
        args: &'a str,
        ack: Option<u64>,
    },
    Ack {
        id: Option<u64>,
        args: &'a str,
    },
    /// An event without a payload, which Node's server ignores.
    Nothing,
    /// A packet that only servers send.
    ConnectError,
}

/// Reads a packet. `attachments` is the maximum number of attachments.
///
/// # Errors
/// It is not a valid packet.
pub(crate) fn parse(text: &str, attachments: usize) -> Result<Packet<'_>, Reason> {
    let (kind, rest) = text.split_at_checked(1).ok_or(BadPacket::Type)?;
    let kind = kind.as_bytes()[0];
    if !matches!(kind, b'0'..=b'6') {
        return Err(BadPacket::Type.into());
    }
    let (count, rest) = if kind >= b'5' { count(rest, attachments)? } else { (None, rest) };
    let (namespace, rest) = namespace(rest);
    let (id, rest) = id(rest)?;
    Ok(Packet { namespace, attachments: count, body: body(kind, id, rest)? })
}

/// The number of attachments, up to a `-`.
fn count(text: &str, most: usize) -> Result<(Option<usize>, &str), Reason> {
    let (count, rest) = text.split_once('-').ok_or(BadPacket::AttachmentCount)?;
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadPacket::AttachmentCount.into());
    }
    // A number that does not fit is too large as well.
    match count.parse() {
        Ok(count) if count <= most => Ok((Some(count), rest)),
        _ => Err(Limit::Attachments.into()),
    }
}

fn namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    text.split_once(',').unwrap_or((text, ""))
}

fn id(text: &str) -> Result<(Option<u64>, &str), Reason> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let (id, rest) = text.split_at(digits);
    Ok((Some(id.parse().map_err(|_| BadPacket::Payload)?), rest))
}

fn body(kind: u8, id: Option<u64>, data: &str) -> Result<Body<'_>, Reason> {
    let bad = || Reason::from(BadPacket::Payload);
    Ok(match kind {
        b'0' if data.is_empty() => Body::Connect(None),
        b'0' if json::is_object(data) => Body::Connect(Some(data)),
        b'1' if data.is_empty() => Body::Disconnect,
        b'2' | b'5' if data.is_empty() => Body::Nothing,
        b'2' | b'5' => {
            let event = json::event(data).ok_or_else(bad)?;
            Body::Event { name: event.name, args: event.args, ack: id }
        }
        b'3' | b'6' if data.is_empty() => Body::Ack { id, args: "" },
        b'3' | b'6' => Body::Ack { id, args: json::array(data).ok_or_else(bad)? },
        b'4' => Body::ConnectError,
        _ => return Err(bad()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Packet<'_>, Reason> {
        parse(text, 10)
    }

    fn event<'a>(namespace: &'a str, name: &'a str, args: &'a str, ack: Option<u64>) -> Packet<'a> {
        Packet { namespace, attachments: None, body: Body::Event { name: name.into(), args, ack } }
    }

    #[test]
    fn packets_are_read_as_the_protocol_has_them() {
        let plain = |namespace, body| Ok(Packet { namespace, attachments: None, body });
        assert_eq!(read("0"), plain("/", Body::Connect(None)));
        assert_eq!(read("0/chat"), plain("/chat", Body::Connect(None)));
        assert_eq!(read("0/chat,{\"a\":1}"), plain("/chat", Body::Connect(Some("{\"a\":1}"))));
        assert_eq!(read("1"), plain("/", Body::Disconnect));
        assert_eq!(read("1/chat,"), plain("/chat", Body::Disconnect));
        assert_eq!(read("2"), plain("/", Body::Nothing));
        assert_eq!(read(r#"2["a"]"#), Ok(event("/", "a", "", None)));
        assert_eq!(read(r#"2/x?y=1,12["a",1]"#), Ok(event("/x?y=1", "a", "1", Some(12))));
        assert_eq!(read(r#"2[5,"x"]"#), Ok(event("/", "5", r#""x""#, None)));
        assert_eq!(read("31[2]"), plain("/", Body::Ack { id: Some(1), args: "2" }));
        assert_eq!(read(r#"52-["a"]"#), Ok(Packet { attachments: Some(2), ..event("/", "a", "", None) }));
        assert_eq!(read(r#"50-/x,7["a"]"#), Ok(Packet { attachments: Some(0), ..event("/x", "a", "", Some(7)) }));
    }

    #[test]
    fn packets_that_are_none_are_refused() {
        let bad = |bad: BadPacket| Err(Reason::BadPacket(bad));
        for (text, reason) in [
            ("", BadPacket::Type),
            ("7", BadPacket::Type),
            ("abc", BadPacket::Type),
            ("é", BadPacket::Type),
            ("0[]", BadPacket::Payload),
            ("0/x,true", BadPacket::Payload),
            ("1{}", BadPacket::Payload),
            ("2{}", BadPacket::Payload),
            ("2abc[\"a\"]", BadPacket::Payload),
            ("2[]", BadPacket::Payload),
            ("2[true]", BadPacket::Payload),
            ("2[\"a\"", BadPacket::Payload),
            ("299999999999999999999[\"a\"]", BadPacket::Payload),
            ("3{}", BadPacket::Payload),
            ("5[\"a\"]", BadPacket::AttachmentCount),
            ("5-[\"a\"]", BadPacket::AttachmentCount),
            ("5x-[\"a\"]", BadPacket::AttachmentCount),
        ] {
            assert_eq!(read(text), bad(reason), "{text}");
        }
        for count in ["11", "100000", "99999999999999999999999"] {
            assert_eq!(read(&format!("5{count}-[\"a\"]")), Err(Reason::Limit(Limit::Attachments)), "{count}");
        }
    }
}
