//! The wire format, written by hand: Engine.IO 4 frames that hold Socket.IO 5 packets, as text. Must never be lenient: a packet
//! that the server should not have sent fails the test.

use serde_json::Value;

/// A packet that a server can send in a text frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// The Engine.IO handshake: `sid`, `pingInterval`, `pingTimeout`, `maxPayload`.
    Open(Value),
    EngineClose,
    Ping,
    Pong,
    Noop,
    Connect {
        namespace: String,
        data: Value,
    },
    Disconnect {
        namespace: String,
    },
    Event {
        namespace: String,
        id: Option<u64>,
        args: Vec<Value>,
    },
    Ack {
        namespace: String,
        id: u64,
        args: Vec<Value>,
    },
    ConnectError {
        namespace: String,
        data: Value,
    },
}

impl Packet {
    /// Reads one frame; the error says what is wrong with it.
    pub fn parse(frame: &str) -> Result<Self, String> {
        let mut rest = frame.chars();
        let kind = rest.next().ok_or("an empty frame")?;
        let rest = rest.as_str();
        match kind {
            '0' => Ok(Self::Open(json(rest)?)),
            '1' => Ok(Self::EngineClose),
            '2' => Ok(Self::Ping),
            '3' => Ok(Self::Pong),
            '4' => Self::parse_message(rest),
            '6' => Ok(Self::Noop),
            _ => Err(format!("an unknown frame: {frame:?}")),
        }
    }

    fn parse_message(text: &str) -> Result<Self, String> {
        let mut rest = text.chars();
        let kind = rest.next().ok_or("an empty packet")?;
        let rest = rest.as_str();
        let (namespace, rest) = match rest.starts_with('/') {
            true => rest.split_once(',').map_or((rest, ""), |parts| parts),
            false => ("/", rest),
        };
        let namespace = namespace.to_owned();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (id, body) = rest.split_at(digits);
        let id = id.parse().ok();
        match kind {
            '0' => Ok(Self::Connect { namespace, data: json(body)? }),
            '1' => Ok(Self::Disconnect { namespace }),
            '2' => Ok(Self::Event { namespace, id, args: array(body)? }),
            '3' => Ok(Self::Ack { namespace, id: id.ok_or("an ack without an id")?, args: array(body)? }),
            '4' => Ok(Self::ConnectError { namespace, data: json(body)? }),
            _ => Err(format!("an unexpected packet: {text:?}")),
        }
    }
}

/// The frame that connects to a namespace, with its `auth` object.
pub fn connect(namespace: &str, auth: Option<&Value>) -> String {
    let auth = auth.map(Value::to_string).unwrap_or_default();
    format!("40{}{auth}", prefix(namespace))
}

pub fn disconnect(namespace: &str) -> String {
    format!("41{}", prefix(namespace))
}

/// The frame of an event: `args` is the whole array, with the event's name. An id asks for an ack.
pub fn event(namespace: &str, id: Option<u64>, args: &Value) -> String {
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    format!("42{}{id}{args}", prefix(namespace))
}

/// The frame of an ack: `args` is the whole array.
pub fn ack(namespace: &str, id: u64, args: &Value) -> String {
    format!("43{}{id}{args}", prefix(namespace))
}

fn prefix(namespace: &str) -> String {
    if namespace == "/" { String::new() } else { format!("{namespace},") }
}

fn json(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| format!("{error} in {text:?}"))
}

fn array(text: &str) -> Result<Vec<Value>, String> {
    match json(text)? {
        Value::Array(args) => Ok(args),
        other => Err(format!("not an array of arguments: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Packet, connect, event};

    #[test]
    fn packets_of_every_kind_are_read() {
        let chat = || "/chat".to_owned();
        let cases = [
            ("40{\"sid\":\"a\"}", Packet::Connect { namespace: "/".into(), data: json!({"sid": "a"}) }),
            ("41/chat,", Packet::Disconnect { namespace: chat() }),
            ("42/chat,[\"a\",1]", Packet::Event { namespace: chat(), id: None, args: vec![json!("a"), json!(1)] }),
            ("4312[{}]", Packet::Ack { namespace: "/".into(), id: 12, args: vec![json!({})] }),
            ("44/chat,{\"message\":\"no\"}", Packet::ConnectError { namespace: chat(), data: json!({"message": "no"}) }),
            ("2", Packet::Ping),
        ];
        for (frame, packet) in cases {
            assert_eq!(Packet::parse(frame), Ok(packet));
        }
        assert!(Packet::parse("42nonsense").is_err());
    }

    #[test]
    fn frames_are_written_as_stock_clients_write_them() {
        assert_eq!(connect("/", None), "40");
        assert_eq!(connect("/chat", Some(&json!({"token": "t"}))), "40/chat,{\"token\":\"t\"}");
        assert_eq!(event("/", Some(3), &json!(["a"])), "423[\"a\"]");
    }
}
