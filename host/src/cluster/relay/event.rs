//! An event as nodes publish and log it, and the names of the channels.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::redis::Redis;
use crate::names::SocketId;

/// The line before the packet's text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header<'a> {
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    /// Counts the node's events: one that arrives over two channels is delivered once.
    pub seq: u64,
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    pub to: Recipients,
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub except: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_socket: Option<SocketId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipients {
    /// A socket of the node that sends, for the log alone.
    Socket(SocketId),
    Rooms(Vec<String>),
    TenantInRoom {
        tenant: String,
        room: String,
    },
    Users(Vec<String>),
    /// All sockets of a user join or leave a room.
    Join {
        user: String,
        room: String,
    },
    Leave {
        user: String,
        room: String,
    },
}

impl Recipients {
    /// The user and the room of a move, and whether the user joins.
    pub fn as_move(&self) -> Option<(&str, &str, bool)> {
        match self {
            Self::Join { user, room } => Some((user, room, true)),
            Self::Leave { user, room } => Some((user, room, false)),
            Self::Socket(_) | Self::Rooms(_) | Self::TenantInRoom { .. } | Self::Users(_) => None,
        }
    }
}

/// The channel of notices.
pub fn notice_channel(link: &Redis) -> String {
    link.name(format_args!("notices"))
}

/// The channel of a node's sockets that were taken to another one.
pub fn taken_channel(link: &Redis, node: &str) -> String {
    link.name(format_args!("taken:{node}"))
}

/// The channel of a room.
pub fn room_channel(link: &Redis, namespace: &str, room: &str) -> String {
    link.name(format_args!("room:{namespace}:{room}"))
}

/// The channel of a user in a namespace.
pub fn user_channel(link: &Redis, namespace: &str, user: &str) -> String {
    link.name(format_args!("user:{namespace}:{user}"))
}

/// Parses a published event. None for any other message on the channel.
pub fn parse(bytes: &Bytes) -> Option<(Header<'_>, String)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header = serde_json::from_slice(&bytes[..end]).ok()?;
    let text = std::str::from_utf8(&bytes[end + 1..]).ok()?.to_owned();
    Some((header, text))
}

/// The log of a node: its name as a number.
pub fn log_of(node: &str) -> u64 {
    u64::from_str_radix(node, 16).unwrap_or_default()
}
