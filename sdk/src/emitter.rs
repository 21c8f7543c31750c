//! Events to clients.
//!
//! An event is stated once, as a constant of type [`Emits`]: `#[emits(..)]` lists it in the description, and its methods send it.
//! The functions are for events with a name or a namespace that is known only at run time.
//!
//! An emit is an effect: it is sent when the call succeeds, in the order made. A client gets its events in order and at most once; a
//! client that is not connected at that moment does not get the event. Cost: about 0.3 µs an emit, 0.2 µs for each member, and one system
//! call for each member that is written to.

use std::{fmt, marker::PhantomData};

use serde::Serialize;

use crate::{EffectError, Result, bindings::hubbub::plugin::emitter::Delivery, host, json::args, namespaces::Namespaces};

/// An event that the plugin emits: its namespaces, its name and its payload's type.
///
/// ```
/// # use hubbub_sdk::{Result, emitter::Emits, rooms::Room};
/// # #[derive(serde::Serialize)] struct Typing { user_id: String }
/// const ROOM: Room = Room::new("/chat", "chat:{chatId}");
/// const TYPING: Emits<Typing> = Emits::new("/chat", "chat:typing");
///
/// # fn handler(typing: Typing) -> Result<()> {
/// TYPING.except_caller().volatile().to_room(&ROOM.of("42"), &typing)
/// # }
/// ```
pub struct Emits<T: ?Sized> {
    namespaces: Namespaces,
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
        write!(f, "{} in {:?}", self.event, self.namespaces)
    }
}

impl<T: ?Sized> Emits<T> {
    /// An event of a namespace. A namespace with a parameter is written as in the description (`/course/{id}`); its event is sent
    /// by [`Emits::within`].
    pub const fn new(namespace: &'static str, event: &'static str) -> Self {
        Self { namespaces: Namespaces::One(namespace), event, how: Delivery::empty(), payload: PhantomData }
    }

    /// The same event in several namespaces. Each `to_` method sends it in all of them, and makes one effect for each.
    ///
    /// ```
    /// # use hubbub_sdk::emitter::Emits;
    /// const ENDED: Emits<str> = Emits::in_each(&["/hub", "/portal"], "chat:ended");
    /// ```
    pub const fn in_each(namespaces: &'static [&'static str], event: &'static str) -> Self {
        Self { namespaces: Namespaces::Each(namespaces), event, how: Delivery::empty(), payload: PhantomData }
    }

    /// The namespaces, as the description has them.
    pub fn namespaces(&self) -> impl Iterator<Item = &'static str> + use<T> {
        self.namespaces.iter()
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

    /// The event is dropped for a client with a full queue. Other events count against the queue's limit.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.how |= Delivery::VOLATILE;
        self
    }

    /// The same event in one namespace that is known only at run time: `/course/42` for `/course/{id}`.
    pub fn within(self, namespace: &str) -> Within<'_, T> {
        Within { namespace, event: self.event, how: self.how, payload: PhantomData }
    }
}

impl<T: Serialize + ?Sized> Emits<T> {
    /// To the caller's socket alone.
    pub fn to_caller(self, payload: &T) -> Result<()> {
        to_caller(self.event, payload)
    }

    /// To the members of a room.
    pub fn to_room<R: AsRef<str> + ?Sized>(self, room: &R, payload: &T) -> Result<()> {
        self.send(payload, |namespace, args| host::emitter::to_room(namespace, room.as_ref(), self.event, args, self.how))
    }

    /// To the members of `rooms`, each once, except the members of a room in `except`. At most 64 rooms.
    pub fn to_rooms(self, rooms: &[String], except: &[String], payload: &T) -> Result<()> {
        self.send(payload, |namespace, args| host::emitter::to_rooms(namespace, rooms, except, self.event, args, self.how))
    }

    /// To every socket that the user has in the namespace.
    pub fn to_user(self, user: &str, payload: &T) -> Result<()> {
        self.to_users(&[user.to_owned()], payload)
    }

    /// To every socket that the users have in the namespace. At most 1000 users.
    pub fn to_users(self, users: &[String], payload: &T) -> Result<()> {
        self.send(payload, |namespace, args| host::emitter::to_users(namespace, users, self.event, args, self.how))
    }

    /// To every socket of the tenant's users in the namespace.
    pub fn to_tenant(self, tenant: &str, payload: &T) -> Result<()> {
        self.send(payload, |namespace, args| host::emitter::to_tenant(namespace, tenant, self.event, args, self.how))
    }

    /// To every socket in the namespace. Denied unless the plugin's tenancy is `none`.
    pub fn to_namespace(self, payload: &T) -> Result<()> {
        self.send(payload, |namespace, args| host::emitter::to_namespace(namespace, self.event, args, self.how))
    }

    /// Serializes the payload once, and sends it in each namespace.
    fn send(self, payload: &T, send: impl Fn(&str, &str) -> std::result::Result<(), EffectError>) -> Result<()> {
        let args = args(payload)?;
        for namespace in self.namespaces.iter() {
            send(namespace, &args)?;
        }
        Ok(())
    }
}

/// An event in one namespace that is known only at run time. Made by [`event`] or [`Emits::within`].
#[derive(Debug)]
#[must_use = "nothing is sent before a `to_` method is called"]
pub struct Within<'a, T: ?Sized> {
    namespace: &'a str,
    event: &'a str,
    how: Delivery,
    payload: PhantomData<fn(&T)>,
}

/// An event with a name or a namespace that is known only at run time.
pub fn event<'a, T: Serialize + ?Sized>(namespace: &'a str, event: &'a str) -> Within<'a, T> {
    Within { namespace, event, how: Delivery::empty(), payload: PhantomData }
}

impl<T: Serialize + ?Sized> Within<'_, T> {
    /// To all but the caller's own socket. Without a caller it changes nothing.
    pub fn except_caller(mut self) -> Self {
        self.how |= Delivery::EXCEPT_CALLER;
        self
    }

    /// The event is dropped for a client with a full queue. Other events count against the queue's limit.
    pub fn volatile(mut self) -> Self {
        self.how |= Delivery::VOLATILE;
        self
    }

    /// To the members of a room.
    pub fn to_room<R: AsRef<str> + ?Sized>(self, room: &R, payload: &T) -> Result<()> {
        Ok(host::emitter::to_room(self.namespace, room.as_ref(), self.event, &args(payload)?, self.how)?)
    }

    /// To the members of `rooms`, each once, except the members of a room in `except`. At most 64 rooms.
    pub fn to_rooms(self, rooms: &[String], except: &[String], payload: &T) -> Result<()> {
        Ok(host::emitter::to_rooms(self.namespace, rooms, except, self.event, &args(payload)?, self.how)?)
    }

    /// To every socket that the user has in the namespace.
    pub fn to_user(self, user: &str, payload: &T) -> Result<()> {
        self.to_users(&[user.to_owned()], payload)
    }

    /// To every socket that the users have in the namespace. At most 1000 users.
    pub fn to_users(self, users: &[String], payload: &T) -> Result<()> {
        Ok(host::emitter::to_users(self.namespace, users, self.event, &args(payload)?, self.how)?)
    }

    /// To every socket of the tenant's users in the namespace.
    pub fn to_tenant(self, tenant: &str, payload: &T) -> Result<()> {
        Ok(host::emitter::to_tenant(self.namespace, tenant, self.event, &args(payload)?, self.how)?)
    }

    /// To every socket in the namespace. Denied unless the plugin's tenancy is `none`.
    pub fn to_namespace(self, payload: &T) -> Result<()> {
        Ok(host::emitter::to_namespace(self.namespace, self.event, &args(payload)?, self.how)?)
    }
}

/// To the caller's socket alone, under any name.
pub fn to_caller<T: Serialize + ?Sized>(event: &str, payload: &T) -> Result<()> {
    Ok(host::emitter::to_caller(event, &args(payload)?)?)
}

/// To the members of a room, under any name.
pub fn to_room<T: Serialize + ?Sized, R: AsRef<str> + ?Sized>(namespace: &str, room: &R, name: &str, payload: &T) -> Result<()> {
    event(namespace, name).to_room(room, payload)
}

/// To every socket that the user has in the namespace, under any name.
pub fn to_user<T: Serialize + ?Sized>(namespace: &str, user: &str, name: &str, payload: &T) -> Result<()> {
    event(namespace, name).to_user(user, payload)
}
