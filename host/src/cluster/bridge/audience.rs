//! Maps the recipients in Node.js servers' messages to this node's rooms, users and sockets. They never include the host's own
//! rooms or sockets of another node, because each node delivers to its own sockets.

use std::collections::HashSet;

use super::wire::{self, Data, Fetched, Handshake, Name, Options};
use crate::names::{self, SocketId};
use crate::rooms::members::{Members, is_hosts};

/// The prefix of users' rooms. They belong to the host: plugins and Node.js servers send to them, but cannot join sockets to them.
pub const USER: &str = "user:";

/// The meaning of one room name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    Room(String),
    User(String),
    Socket(SocketId),
    /// No room, user or socket of this node can have that name.
    Unknown,
}

/// The recipients of a message.
#[derive(Debug)]
pub struct Audience {
    /// Empty: everyone.
    recipients: Vec<Recipient>,
    except: Vec<Recipient>,
}

/// How to deliver: by the adapter's own operations if it has one for the audience.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    Everyone {
        except: Vec<String>,
    },
    Rooms {
        rooms: Vec<String>,
        except: Vec<String>,
    },
    /// One by one.
    Sockets,
}

impl Recipient {
    /// Parses a room name that was sent to the server `uid`.
    pub fn parse(uid: &str, name: String) -> Self {
        let (tenant, bare) = names::unscoped(&name);
        let is_name = names::check("room", bare).is_ok() && tenant.is_none_or(is_tenant);
        match wire::socket_of(uid, &name) {
            _ if !is_name => Self::Unknown,
            Some(socket) => Self::Socket(socket),
            None => match name.strip_prefix(USER) {
                Some(user) => Self::User(user.to_owned()),
                None => Self::Room(name),
            },
        }
    }

    fn has(&self, members: &Members, socket: SocketId) -> bool {
        match self {
            Self::Room(room) => members.is_in(socket, room),
            Self::User(user) => members.sockets_of(user).contains(&socket),
            Self::Socket(one) => *one == socket,
            Self::Unknown => false,
        }
    }

    /// Whether any socket of this node is a recipient.
    pub fn is_here(&self, members: &Members) -> bool {
        match self {
            Self::Room(room) => members.count(room) > 0,
            Self::User(user) => !members.sockets_of(user).is_empty(),
            Self::Socket(socket) => members.socket(*socket).is_some(),
            Self::Unknown => false,
        }
    }
}

/// Whether a name's part before the separator can be a tenant. It may begin with `user:`.
fn is_tenant(tenant: &str) -> bool {
    names::check("tenant", tenant.strip_prefix(USER).unwrap_or(tenant)).is_ok()
}

impl Audience {
    pub fn new(uid: &str, options: Options) -> Self {
        let recipients = |names: Vec<Name>| names.into_iter().map(|name| Recipient::parse(uid, name.into_text())).collect();
        Self { recipients: recipients(options.rooms), except: recipients(options.except) }
    }

    /// The cheapest way to deliver: by rooms if no user or single socket is named.
    pub fn delivery(&self) -> Delivery {
        // An unknown name excludes no socket.
        let except: Option<Vec<String>> = rooms(self.except.iter().filter(|recipient| **recipient != Recipient::Unknown));
        match (except, rooms(self.recipients.iter().filter(|recipient| **recipient != Recipient::Unknown))) {
            (Some(except), _) if self.recipients.is_empty() => Delivery::Everyone { except },
            (Some(except), Some(rooms)) => Delivery::Rooms { rooms, except },
            _ => Delivery::Sockets,
        }
    }

    /// The sockets, each once. Checks all sockets of the namespace if a room or everyone is addressed.
    pub fn sockets(&self, members: &Members) -> Vec<SocketId> {
        let mut found = HashSet::new();
        for recipient in &self.recipients {
            match recipient {
                Recipient::Room(_) => {}
                Recipient::User(user) => found.extend(members.sockets_of(user)),
                Recipient::Socket(socket) => found.extend(members.socket(*socket).map(|_| *socket)),
                Recipient::Unknown => {}
            }
        }
        if self.recipients.is_empty()
            || self.recipients.iter().any(|recipient| matches!(recipient, Recipient::Room(_)) && recipient.is_here(members))
        {
            let is_meant = |socket: &SocketId| {
                self.recipients.is_empty() || self.recipients.iter().any(|recipient| recipient.has(members, *socket))
            };
            found.extend(members.sockets().filter(is_meant));
        }
        found.into_iter().filter(|socket| !self.except.iter().any(|recipient| recipient.has(members, *socket))).collect()
    }
}

/// The names, if all recipients are rooms.
fn rooms<'a>(recipients: impl Iterator<Item = &'a Recipient>) -> Option<Vec<String>> {
    recipients
        .map(|recipient| match recipient {
            Recipient::Room(room) => Some(room.clone()),
            _ => None,
        })
        .collect()
}

/// A socket as `fetchSockets` returns it, with the room names that Node.js servers can send to.
pub fn fetched(uid: &str, members: &Members, socket: SocketId) -> Fetched {
    let id = wire::socket_name(uid, socket);
    let user = members.user_of(socket);
    let rooms = members.rooms_of(socket).filter(|room| !is_hosts(room)).map(|room| room.to_string());
    let rooms = [id.clone()].into_iter().chain(user.map(|user| format!("{USER}{user}"))).chain(rooms).collect();
    let (tenant, user_id) = user.map(|user| names::unscoped(user)).unzip();
    let data = Data { user_id: user_id.map(str::to_owned), tenant: tenant.flatten().map(str::to_owned) };
    Fetched { id, handshake: Handshake::default(), rooms, data }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rooms::members::{Recovery, unconnected};

    fn members() -> Members {
        let mut members = Members::default();
        for (socket, user) in [(1, "ana"), (2, "bia"), (3, "acme\u{1f}caio")] {
            members.add(socket, unconnected(), Some(user.into()), Recovery::Off);
            members.join(socket, "\u{1e}", 9, 1);
        }
        members.join(1, "r", 9, 1);
        members.join(2, "r", 9, 1);
        members
    }

    fn audience(rooms: &[&str], except: &[&str]) -> Audience {
        let names = |names: &[&str]| names.iter().map(|name| Name::Text((*name).to_owned())).collect();
        Audience::new("hubbub-n", Options { rooms: names(rooms), except: names(except), flags: None })
    }

    fn sockets(rooms: &[&str], except: &[&str]) -> Vec<SocketId> {
        let mut sockets = audience(rooms, except).sockets(&members());
        sockets.sort_unstable();
        sockets
    }

    #[test]
    fn each_socket_is_found_once_by_room_user_or_id() {
        assert_eq!(sockets(&[], &[]), [1, 2, 3]);
        assert_eq!(sockets(&["r", "user:ana", "hubbub-n-2"], &[]), [1, 2]);
        assert_eq!(sockets(&["r"], &["user:ana"]), [2]);
        assert_eq!(sockets(&[], &["hubbub-n-3", "hubbub-other-1"]), [1, 2]);
        assert_eq!(sockets(&["user:acme\u{1f}caio"], &[]), [3]);
        assert_eq!(sockets(&["user:caio"], &[]), [0; 0], "a user without a tenant is another");
    }

    #[test]
    fn an_unknown_name_reaches_no_socket() {
        for name in ["\u{1e}", "", "r\u{1e}1", "\u{1f}", "hubbub-n-99"] {
            assert_eq!(sockets(&[name], &[]), [0; 0], "{name:?}");
            assert!(!matches!(audience(&[name], &[]).delivery(), Delivery::Everyone { .. }), "{name:?}");
        }
    }

    #[test]
    fn only_an_audience_of_rooms_is_delivered_by_room() {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(audience(&[], &["x"]).delivery(), Delivery::Everyone { except: strings(&["x"]) });
        assert_eq!(audience(&["a", "b"], &[]).delivery(), Delivery::Rooms { rooms: strings(&["a", "b"]), except: Vec::new() });
        assert_eq!(audience(&["a", "user:ana"], &[]).delivery(), Delivery::Sockets);
        assert_eq!(audience(&[], &["user:ana"]).delivery(), Delivery::Sockets);
    }

    #[test]
    fn a_fetched_socket_has_no_rooms_of_the_host() {
        let members = members();
        let ana = serde_json::to_value(fetched("hubbub-n", &members, 1)).unwrap();
        assert_eq!(ana["rooms"], serde_json::json!(["hubbub-n-1", "user:ana", "r"]));
        assert_eq!(ana["data"], serde_json::json!({"userId": "ana"}));
        assert_eq!(ana["handshake"]["auth"], serde_json::json!({}));
        let caio = serde_json::to_value(fetched("hubbub-n", &members, 3)).unwrap();
        assert_eq!(caio["data"], serde_json::json!({"userId": "caio", "tenant": "acme"}));
    }
}
