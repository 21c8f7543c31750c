//! Events to clients. Every emit is sent when the call has succeeded, in the order made, and not at all where it has not.
//!
//! [`Emits`] is an event with its namespace and its payload's type: declared once, listed in `#[emits(..)]`, and then
//! `MESSAGE.to_room(&room, &message)?`. The functions are for events whose name is known only at run time.

use std::{fmt, marker::PhantomData};

use serde::Serialize;

use crate::{EffectError, bindings::hubbub::plugin::emitter::Delivery, host, json::args};

type Answer = Result<(), EffectError>;

/// An event that the plugin emits: its namespace, its name and its payload's type.
///
/// ```
/// # use hubbub_sdk::{Result, emitter::Emits};
/// # #[derive(serde::Serialize)] struct Typing { user_id: String }
/// const TYPING: Emits<Typing> = Emits::new("/chat", "chat:typing");
/// # fn handler(typing: Typing) -> Result<()> {
/// TYPING.except_caller().volatile().to_room("chat:42", &typing)?;
/// # Ok(()) }
/// ```
pub struct Emits<T: ?Sized> {
    namespace: &'static str,
    event: &'static str,
    how: Delivery,
    payload: PhantomData<fn(&T)>,
}

impl<T: ?Sized> Clone for Emits<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Emits<T> {}

impl<T: ?Sized> fmt::Debug for Emits<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.event, self.namespace)
    }
}

impl<T: ?Sized> Emits<T> {
    /// An event of a namespace. A namespace with a parameter is written as in the description (`/course/{id}`); such an event
    /// is sent by [`Emits::within`].
    pub const fn new(namespace: &'static str, event: &'static str) -> Self {
        Self { namespace, event, how: Delivery::empty(), payload: PhantomData }
    }

    /// The namespace, as the description has it.
    pub const fn namespace(&self) -> &'static str {
        self.namespace
    }

    /// The event's name.
    pub const fn event(&self) -> &'static str {
        self.event
    }

    /// To all but the caller's own socket. Without a caller it changes nothing.
    #[must_use]
    pub fn except_caller(mut self) -> Self {
        self.how |= Delivery::EXCEPT_CALLER;
        self
    }

    /// May be dropped for a client whose queue is more than half full, instead of counting against it.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.how |= Delivery::VOLATILE;
        self
    }
}

impl<T: Serialize + ?Sized> Emits<T> {
    /// To the caller's socket alone.
    pub fn to_caller(self, payload: &T) -> Answer {
        host::emitter::to_caller(self.event, &args(payload)?)
    }

    /// To the members of a room.
    pub fn to_room(self, room: &str, payload: &T) -> Answer {
        self.within(self.namespace).to_room(room, payload)
    }

    /// To the members of any of the rooms, each once, but those in a room of `except`. At most 64 rooms.
    pub fn to_rooms(self, rooms: &[String], except: &[String], payload: &T) -> Answer {
        self.within(self.namespace).to_rooms(rooms, except, payload)
    }

    /// To every socket that the user has in the namespace.
    pub fn to_user(self, user: &str, payload: &T) -> Answer {
        self.within(self.namespace).to_users(&[user.to_owned()], payload)
    }

    /// To every socket that the users have in the namespace. At most 1000 users.
    pub fn to_users(self, users: &[String], payload: &T) -> Answer {
        self.within(self.namespace).to_users(users, payload)
    }

    /// To every socket in the namespace whose user belongs to the tenant.
    pub fn to_tenant(self, tenant: &str, payload: &T) -> Answer {
        self.within(self.namespace).to_tenant(tenant, payload)
    }

    /// To everyone in the namespace. Denied where the plugin has tenants.
    pub fn to_namespace(self, payload: &T) -> Answer {
        self.within(self.namespace).to_namespace(payload)
    }

    /// The same event in one namespace of a pattern: `/course/42` for `/course/{id}`.
    pub fn within(self, namespace: &str) -> Within<'_, T> {
        Within { namespace, event: self.event, how: self.how, payload: PhantomData }
    }
}

/// An event in a namespace whose name is known only at run time. From [`event`] or [`Emits::within`].
#[derive(Debug)]
#[must_use = "nothing is sent before it is said to whom"]
pub struct Within<'a, T: ?Sized> {
    namespace: &'a str,
    event: &'a str,
    how: Delivery,
    payload: PhantomData<fn(&T)>,
}

/// An event whose name or namespace is known only at run time.
pub fn event<'a, T: Serialize + ?Sized>(namespace: &'a str, event: &'a str) -> Within<'a, T> {
    Within { namespace, event, how: Delivery::empty(), payload: PhantomData }
}

impl<T: Serialize + ?Sized> Within<'_, T> {
    /// To all but the caller's own socket. Without a caller it changes nothing.
    pub fn except_caller(mut self) -> Self {
        self.how |= Delivery::EXCEPT_CALLER;
        self
    }

    /// May be dropped for a client whose queue is more than half full, instead of counting against it.
    pub fn volatile(mut self) -> Self {
        self.how |= Delivery::VOLATILE;
        self
    }

    /// To the members of a room.
    pub fn to_room(self, room: &str, payload: &T) -> Answer {
        host::emitter::to_room(self.namespace, room, self.event, &args(payload)?, self.how)
    }

    /// To the members of any of the rooms, each once, but those in a room of `except`. At most 64 rooms.
    pub fn to_rooms(self, rooms: &[String], except: &[String], payload: &T) -> Answer {
        host::emitter::to_rooms(self.namespace, rooms, except, self.event, &args(payload)?, self.how)
    }

    /// To every socket that the users have in the namespace. At most 1000 users.
    pub fn to_users(self, users: &[String], payload: &T) -> Answer {
        host::emitter::to_users(self.namespace, users, self.event, &args(payload)?, self.how)
    }

    /// To every socket in the namespace whose user belongs to the tenant.
    pub fn to_tenant(self, tenant: &str, payload: &T) -> Answer {
        host::emitter::to_tenant(self.namespace, tenant, self.event, &args(payload)?, self.how)
    }

    /// To everyone in the namespace. Denied where the plugin has tenants.
    pub fn to_namespace(self, payload: &T) -> Answer {
        host::emitter::to_namespace(self.namespace, self.event, &args(payload)?, self.how)
    }
}

/// To the caller's socket alone, under any name.
pub fn to_caller<T: Serialize + ?Sized>(event: &str, payload: &T) -> Answer {
    host::emitter::to_caller(event, &args(payload)?)
}

/// To the members of a room, under any name.
pub fn to_room<T: Serialize + ?Sized>(namespace: &str, room: &str, name: &str, payload: &T) -> Answer {
    event(namespace, name).to_room(room, payload)
}

/// To every socket that the user has in the namespace, under any name.
pub fn to_user<T: Serialize + ?Sized>(namespace: &str, user: &str, name: &str, payload: &T) -> Answer {
    event(namespace, name).to_users(&[user.to_owned()], payload)
}
