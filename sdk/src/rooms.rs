//! Rooms: named sets of sockets within one namespace.
//!
//! A [`Room`] is stated once, as a constant: `#[rooms(..)]` makes the plugin its owner, and its methods join, leave and count. The
//! functions are for rooms with a name or a namespace that is known only at run time. Joins and leaves are effects: they happen when the
//! call succeeds. A socket leaves all its rooms when it disconnects.
//!
//! Limits: 64 rooms a socket; a call that would join one more is refused as `too_large`. A name has 1 to 256 bytes and no control
//! characters. Cost: about 0.2 µs a function, and 1 µs a join when the call succeeds.

use std::borrow::Cow;

use serde::Deserialize;

pub use crate::bindings::hubbub::plugin::rooms::RoomSize;
use crate::{Result, host, namespaces::Namespaces};

/// A room, or a pattern of rooms that differ in one parameter.
///
/// ```
/// # use hubbub_sdk::{Result, emitter::Emits, rooms::Room};
/// const HALL: Room = Room::new("/chat", "hall");
/// const ROOM: Room = Room::new("/chat", "chat:{chatId}");
/// const SAID: Emits<str> = Emits::new("/chat", "said");
///
/// # fn handler(chat_id: &str) -> Result<()> {
/// HALL.join()?;
/// let room = ROOM.of(chat_id);
/// if !room.joined()? {
///     room.join()?;
/// }
/// SAID.to_room(&room, "hello")
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    namespaces: Namespaces,
    pattern: &'static str,
    name: Cow<'static, str>,
}

impl Room {
    /// A room of a namespace. `pattern` is its name, or a literal start and one parameter: `chat:{chatId}`.
    pub const fn new(namespace: &'static str, pattern: &'static str) -> Self {
        Self { namespaces: Namespaces::One(namespace), pattern, name: Cow::Borrowed(pattern) }
    }

    /// A room of the same name in each of several namespaces. The host keeps their members apart.
    pub const fn in_each(namespaces: &'static [&'static str], pattern: &'static str) -> Self {
        Self { namespaces: Namespaces::Each(namespaces), pattern, name: Cow::Borrowed(pattern) }
    }

    /// The room of this pattern with this parameter: `chat:42` for `chat:{chatId}`.
    #[must_use]
    pub fn of(&self, param: &str) -> Self {
        Self { name: Cow::Owned([self.literal(), param].concat()), ..self.clone() }
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter of a room's name, if it is a room of this pattern: `42` for `chat:42`. Empty for a pattern without parameter.
    ///
    /// ```
    /// # use hubbub_sdk::rooms::Room;
    /// const ROOM: Room = Room::new("/chat", "chat:{chatId}");
    /// assert_eq!((ROOM.param("chat:42"), ROOM.param("hall")), (Some("42"), None));
    /// ```
    pub fn param<'a>(&self, name: &'a str) -> Option<&'a str> {
        let literal = self.literal();
        let param = name.strip_prefix(literal)?;
        (param.is_empty() == (literal.len() == self.pattern.len())).then_some(param)
    }

    /// As [`Room::param`], of the room in a message. None also for a room of another namespace.
    pub fn param_of<'a>(&self, counted: &'a Counted) -> Option<&'a str> {
        let namespace = self.namespaces.iter().any(|namespace| namespace == counted.namespace);
        self.param(&counted.room).filter(|_| namespace)
    }

    /// The caller joins the room, in the caller's namespace. Idempotent.
    pub fn join(&self) -> Result<()> {
        join(self)
    }

    /// The caller leaves the room, in the caller's namespace. Idempotent.
    pub fn leave(&self) -> Result<()> {
        leave(self)
    }

    /// Whether the caller is in the room, with this call's own joins and leaves.
    pub fn joined(&self) -> Result<bool> {
        joined(self)
    }

    /// Every socket that the user has in the room's namespaces, on any node, joins the room. A socket that connects later does not.
    pub fn join_user(&self, user: &str) -> Result<()> {
        self.namespaces.iter().try_for_each(|namespace| join_user(namespace, user, self))
    }

    /// Every socket that the user has in the room's namespaces, on any node, leaves the room.
    pub fn leave_user(&self, user: &str) -> Result<()> {
        self.namespaces.iter().try_for_each(|namespace| leave_user(namespace, user, self))
    }

    /// The room's size over all nodes, with this call's own joins and leaves. Sizes in several namespaces are added up: a user in two of
    /// them counts twice.
    pub fn size(&self) -> Result<RoomSize> {
        let mut sum = RoomSize { sockets: 0, users: 0, visitors: 0 };
        for namespace in self.namespaces.iter() {
            let RoomSize { sockets, users, visitors } = size(namespace, self)?;
            sum = RoomSize { sockets: sum.sockets + sockets, users: sum.users + users, visitors: sum.visitors + visitors };
        }
        Ok(sum)
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &'static str> {
        self.namespaces.iter()
    }

    pub(crate) fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// The pattern up to its parameter.
    fn literal(&self) -> &'static str {
        self.pattern.split_once('{').map_or(self.pattern, |(literal, _)| literal)
    }
}

impl AsRef<str> for Room {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// The caller joins a room of its namespace. Idempotent.
pub fn join<R: AsRef<str> + ?Sized>(room: &R) -> Result<()> {
    Ok(host::rooms::join(room.as_ref())?)
}

/// The caller leaves a room of its namespace. Idempotent.
pub fn leave<R: AsRef<str> + ?Sized>(room: &R) -> Result<()> {
    Ok(host::rooms::leave(room.as_ref())?)
}

/// Every socket that a user has in `namespace`, on any node, joins a room. A socket that connects later does not.
pub fn join_user<R: AsRef<str> + ?Sized>(namespace: &str, user: &str, room: &R) -> Result<()> {
    Ok(host::rooms::join_user(namespace, user, room.as_ref())?)
}

/// Every socket that a user has in `namespace`, on any node, leaves a room.
pub fn leave_user<R: AsRef<str> + ?Sized>(namespace: &str, user: &str, room: &R) -> Result<()> {
    Ok(host::rooms::leave_user(namespace, user, room.as_ref())?)
}

/// Whether the caller is in a room, with this call's own joins and leaves.
pub fn joined<R: AsRef<str> + ?Sized>(room: &R) -> Result<bool> {
    Ok(host::rooms::joined(room.as_ref())?)
}

/// The names of the caller's rooms, in no order, without the host's own. With this call's own joins and leaves.
pub fn list() -> Result<Vec<String>> {
    Ok(host::rooms::list()?)
}

/// The size of a room over all nodes, with this call's own joins and leaves.
pub fn size<R: AsRef<str> + ?Sized>(namespace: &str, room: &R) -> Result<RoomSize> {
    Ok(host::rooms::size(namespace, room.as_ref())?)
}

/// The host's message `room.counted`: the new size of a room that the plugin owns. At most two a second for each room; the last
/// change is always reported.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Counted {
    /// The room's namespace, as clients name it.
    pub namespace: String,
    /// The room's name.
    pub room: String,
    /// Sockets in the room.
    pub sockets: u64,
    /// Distinct users among them.
    pub users: u64,
    /// Sockets without a user.
    pub visitors: u64,
}
