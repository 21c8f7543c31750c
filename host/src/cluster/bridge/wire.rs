//! The messages and channel names of Node.js servers on Redis: `@socket.io/redis-adapter` 8 and `@socket.io/redis-emitter` 5. It
//! only encodes and parses; it has no access to sockets and takes no action.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::msgpack::{self, Unreadable};
use crate::json::{self, InvalidJson};
use crate::names::{self, InvalidName, SocketId};

/// The prefix of Hubbub nodes' server ids. Node.js servers' ids have six characters.
const UID_PREFIX: &str = "hubbub-";

/// The type of a packet that is an event.
const EVENT: u8 = 2;

/// The types of requests.
pub mod request {
    pub const SOCKETS: u8 = 0;
    pub const ALL_ROOMS: u8 = 1;
    pub const JOIN: u8 = 2;
    pub const LEAVE: u8 = 3;
    pub const DISCONNECT: u8 = 4;
    pub const FETCH: u8 = 5;
    pub const SERVER_SIDE_EMIT: u8 = 6;
    pub const BROADCAST: u8 = 7;
    pub const CLIENT_COUNT: u8 = 8;
    pub const ACK: u8 = 9;
}

/// Why a message was refused, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the message has {0} bytes, more than bridge.max_message")]
    TooLarge(usize),
    #[error("invalid MessagePack: {0}")]
    MessagePack(#[from] Unreadable),
    #[error("not a message of the Node.js adapter: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("its packet is not an event")]
    NoEvent,
    #[error("its packet is not an event: {0}")]
    Event(#[from] InvalidJson),
    #[error("its {0}")]
    Name(#[from] InvalidName),
    #[error("its packet is for another namespace")]
    OtherNamespace,
    #[error("requests of type {0} are unknown")]
    UnknownRequest(u8),
    #[error("a field is missing or invalid")]
    Incomplete,
    #[error("{0} sockets are more than bridge.answers")]
    TooMany(usize),
}

#[derive(Debug)]
pub struct Channels {
    pub prefix: String,
}

/// A channel that this node subscribes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Channel<'a> {
    /// Events to one room, or to several or all if the room is empty.
    Events {
        namespace: &'a str,
        room: &'a str,
    },
    Requests {
        namespace: &'a str,
    },
}

impl Channels {
    /// The pattern that matches all event channels.
    pub fn pattern(&self) -> String {
        let escaped = self.prefix.chars().flat_map(|c| {
            let is_special = matches!(c, '*' | '?' | '[' | ']' | '\\');
            is_special.then_some('\\').into_iter().chain([c])
        });
        format!("{}#*", escaped.collect::<String>())
    }

    pub fn events(&self, namespace: &str, rooms: &[String]) -> String {
        match rooms {
            [room] => format!("{}#{namespace}#{room}#", self.prefix),
            _ => format!("{}#{namespace}#", self.prefix),
        }
    }

    pub fn requests(&self, namespace: &str) -> String {
        format!("{}-request#{namespace}#", self.prefix)
    }

    /// The channel on which the server with this id receives responses; without an id, the channel of all servers.
    pub fn responses(&self, namespace: &str, uid: Option<&str>) -> String {
        match uid {
            Some(uid) => format!("{}-response#{namespace}#{uid}#", self.prefix),
            None => format!("{}-response#{namespace}#", self.prefix),
        }
    }

    pub fn parse<'a>(&self, channel: &'a str) -> Option<Channel<'a>> {
        let rest = channel.strip_prefix(self.prefix.as_str())?;
        if let Some(rest) = rest.strip_prefix('#') {
            let (namespace, room) = rest.split_once('#')?;
            return Some(Channel::Events { namespace, room: room.strip_suffix('#').unwrap_or(room) });
        }
        let namespace = rest.strip_prefix("-request#")?.strip_suffix('#')?;
        Some(Channel::Requests { namespace })
    }
}

/// This node's server id among the Node.js servers.
pub fn uid(node: &str) -> String {
    format!("{UID_PREFIX}{node}")
}

/// A socket's id for Node.js servers.
pub fn socket_name(uid: &str, socket: SocketId) -> String {
    format!("{uid}-{socket}")
}

/// The socket with this id, if it is on the server `uid`.
pub fn socket_of(uid: &str, name: &str) -> Option<SocketId> {
    name.strip_prefix(uid)?.strip_prefix('-')?.parse().ok()
}

/// Whether a Hubbub node sent a broadcast, by its first bytes alone: every node receives its own broadcasts and those of the other
/// nodes, which are delivered by the relay instead.
pub fn is_ours(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x93) && bytes.get(2..).is_some_and(|uid| uid.starts_with(UID_PREFIX.as_bytes()))
}

/// A room's name, which may be a number in JavaScript.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Name {
    Text(String),
    Number(serde_json::Number),
}

impl Name {
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The recipients of a message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Empty: everyone in the namespace.
    pub rooms: Vec<Name>,
    pub except: Vec<Name>,
    pub flags: Option<Flags>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Flags {
    pub volatile: Option<bool>,
    /// How long to wait for acks, in milliseconds.
    pub timeout: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct Packet<'a> {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    nsp: Option<Cow<'a, str>>,
}

impl Packet<'_> {
    /// The text of an event, which must be for that namespace.
    pub fn event(&self, namespace: &str) -> Result<&str, Refused> {
        if self.nsp.as_deref().unwrap_or("/") != namespace {
            return Err(Refused::OtherNamespace);
        }
        if self.kind != EVENT {
            return Err(Refused::NoEvent);
        }
        let (name, _) = json::split_event(self.data.get())?;
        names::check_event(&name)?;
        Ok(self.data.get())
    }
}

/// An event for clients: the sender's id, the packet, the recipients. Parsed from the JSON that `msgpack` makes of it.
#[derive(Debug, Deserialize)]
pub struct Broadcast<'a>(#[serde(borrow)] pub Cow<'a, str>, #[serde(borrow)] pub Packet<'a>, pub Options);

/// A request of one server to all others.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    #[serde(rename = "type")]
    pub kind: u8,
    #[serde(borrow, default)]
    pub uid: Option<Cow<'a, str>>,
    #[serde(default)]
    pub request_id: Option<String>,
    #[serde(default)]
    pub opts: Option<Options>,
    #[serde(default)]
    pub rooms: Option<Vec<Name>>,
    /// Whether to close the whole connection, with its other namespaces.
    #[serde(default)]
    pub close: Option<bool>,
    #[serde(borrow, default)]
    pub packet: Option<Packet<'a>>,
}

impl Request<'_> {
    pub fn is_ours(&self) -> bool {
        self.uid.as_deref().is_some_and(|uid| uid.starts_with(UID_PREFIX))
    }
}

/// The text of a request, converted from MessagePack if it is not JSON.
pub fn request_text(bytes: &[u8]) -> Result<Cow<'_, str>, Refused> {
    if bytes.first() == Some(&b'{') {
        return Ok(std::str::from_utf8(bytes).map_err(|_| Unreadable::Type)?.into());
    }
    Ok(msgpack::to_json(bytes)?.into())
}

/// A socket as `fetchSockets` returns it.
#[derive(Debug, Serialize)]
pub struct Fetched {
    pub id: String,
    /// Node.js servers require these fields. They are empty, because no other server may see a client's token.
    pub handshake: Handshake,
    pub rooms: Vec<String>,
    pub data: Data,
}

#[derive(Debug, Default, Serialize)]
pub struct Handshake {
    headers: Empty,
    time: &'static str,
    address: &'static str,
    xdomain: bool,
    secure: bool,
    issued: u64,
    url: &'static str,
    query: Empty,
    auth: Empty,
}

#[derive(Debug, Default, Serialize)]
struct Empty {}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// An event for clients of Node.js servers.
#[derive(Debug)]
pub struct Event<'a> {
    pub uid: &'a str,
    pub namespace: &'a str,
    pub rooms: &'a [String],
    pub except: &'a [String],
    pub volatile: bool,
    /// The whole array, `["event",…]`.
    pub text: &'a str,
}

impl Event<'_> {
    /// `[uid, packet, options]`.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut to = Vec::with_capacity(self.text.len() + 128);
        msgpack::write_array(3, &mut to);
        msgpack::write_text(self.uid, &mut to);
        msgpack::write_map(3, &mut to);
        msgpack::write_text("type", &mut to);
        to.push(EVENT);
        msgpack::write_text("data", &mut to);
        msgpack::write_json(self.text, &mut to)?;
        msgpack::write_text("nsp", &mut to);
        msgpack::write_text(self.namespace, &mut to);
        msgpack::write_map(3, &mut to);
        msgpack::write_text("rooms", &mut to);
        msgpack::write_texts(self.rooms, &mut to);
        msgpack::write_text("except", &mut to);
        msgpack::write_texts(self.except, &mut to);
        msgpack::write_text("flags", &mut to);
        msgpack::write_json(if self.volatile { r#"{"volatile":true}"# } else { "{}" }, &mut to)?;
        Ok(to)
    }
}

/// One client's answer to a broadcast. `args` is the array of its arguments, of which Node.js servers use the first.
pub fn ack(request_id: &str, args: &str) -> Result<Vec<u8>, serde_json::Error> {
    let args: Vec<&RawValue> = serde_json::from_str(args)?;
    let mut to = Vec::with_capacity(128);
    msgpack::write_map(3, &mut to);
    msgpack::write_text("type", &mut to);
    to.push(request::ACK);
    msgpack::write_text("requestId", &mut to);
    msgpack::write_text(request_id, &mut to);
    msgpack::write_text("packet", &mut to);
    msgpack::write_json(args.first().map_or("null", |first| first.get()), &mut to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn channels() -> Channels {
        Channels { prefix: "socket.io".into() }
    }

    #[test]
    fn channel_names_match_the_node_adapter() {
        let channels = channels();
        assert_eq!(channels.events("/chat", &["r".into()]), "socket.io#/chat#r#");
        assert_eq!(channels.events("/chat", &["r".into(), "s".into()]), "socket.io#/chat#");
        assert_eq!(channels.parse("socket.io#/chat#a#b#"), Some(Channel::Events { namespace: "/chat", room: "a#b" }));
        assert_eq!(channels.parse("socket.io#/#"), Some(Channel::Events { namespace: "/", room: "" }));
        assert_eq!(channels.parse("socket.io-request#/chat#"), Some(Channel::Requests { namespace: "/chat" }));
        assert_eq!(channels.parse("socket.io-response#/chat#"), None);
        assert_eq!(channels.parse("hubbub:notices"), None);
        assert_eq!(Channels { prefix: "a*[b".into() }.pattern(), r"a\*\[b#*");
    }

    #[test]
    fn an_own_event_is_recognized_by_its_first_bytes_and_parses() {
        let (uid, rooms) = (uid("0123456789ab"), ["r".to_owned()]);
        let event = Event { uid: &uid, namespace: "/chat", rooms: &rooms, except: &[], volatile: true, text: r#"["e",{"n":1}]"# };
        let bytes = event.encode().unwrap();
        assert!(is_ours(&bytes));
        let json = msgpack::to_json(&bytes).unwrap();
        let Broadcast(from, packet, options) = serde_json::from_str(&json).unwrap();
        assert_eq!((&*from, packet.event("/chat").unwrap()), (uid.as_str(), r#"["e",{"n":1}]"#));
        assert!(matches!(packet.event("/"), Err(Refused::OtherNamespace)));
        assert_eq!(options.flags.unwrap().volatile, Some(true));
        assert!(matches!(&options.rooms[..], [Name::Text(room)] if room == "r"));
    }

    #[test]
    fn a_socket_name_is_found_only_on_its_own_node() {
        let name = socket_name(&uid("a"), 7);
        assert_eq!(socket_of(&uid("a"), &name), Some(7));
        assert_eq!(socket_of(&uid("b"), &name), None);
    }

    #[test]
    fn a_broadcast_of_the_emitter_parses_without_optional_fields() {
        let text = r#"["emitter",{"type":2,"data":["e"]},{"rooms":[5]}]"#;
        let Broadcast(_, packet, options) = serde_json::from_str(text).unwrap();
        assert_eq!(packet.event("/").unwrap(), r#"["e"]"#);
        assert_eq!(options.rooms[0].clone().into_text(), "5");
        let reserved = r#"["emitter",{"type":2,"data":["disconnect"]},{}]"#;
        let Broadcast(_, packet, _) = serde_json::from_str(reserved).unwrap();
        assert!(matches!(packet.event("/"), Err(Refused::Name(_))));
    }
}
