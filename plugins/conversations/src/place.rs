//! A conversation's place: its tenant, if any, and its id. Conversations and users of two tenants may have equal ids: every key is made
//! here and names its tenant, and the host keeps rooms and users apart by the call's tenant.

use hubbub_sdk::{
    Message, Result, User, bus,
    emitter::Emits,
    payload::Id,
    rooms::Room,
    store::{self, key},
};
use serde::{Deserialize, Serialize};

use crate::{NAMESPACE, conversations::not_authorized, members::Stored};

/// The room of all users of a tenant, or of all users without one.
pub(crate) const EVERYONE: Room = Room::new(NAMESPACE, "everyone");

pub(crate) const MEMBERS: Room = Room::new(NAMESPACE, "conversation:{id}");
pub(crate) const OPEN: Room = Room::new(NAMESPACE, "open:{id}");

/// The host's limit of one emit.
pub(crate) const USERS_OF_AN_EMIT: usize = 1000;

/// A message of the plugin to itself, with the tenant where the host reads it.
#[derive(Serialize)]
struct Scoped<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(flatten)]
    data: &'a T,
}

/// A conversation's tenant and id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    id: Id,
}

/// The audience of a conversation. Each kind has its own room: if a conversation for everyone gets a member list, sockets in the old room
/// get no further events, and members join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    Members,
    Everyone,
}

/// The rooms that a user may have joined for an id.
pub(crate) fn rooms_of(id: &Id) -> [Room; 2] {
    [MEMBERS.of(id), OPEN.of(id)]
}

/// Sends to all devices of the users, within the call's tenant.
pub(crate) fn to_users<T: Serialize>(event: Emits<T>, users: &[&Id], payload: &T) -> Result<()> {
    for users in users.chunks(USERS_OF_AN_EMIT) {
        event.to_users(&users.iter().map(ToString::to_string).collect::<Vec<_>>(), payload)?;
    }
    Ok(())
}

impl Place {
    /// The place of a published conversation, in the message's tenant.
    pub(crate) fn published(id: &Id, message: &Message) -> Self {
        Self { tenant: message.tenant.clone(), id: id.clone() }
    }

    /// The conversation of this id in the user's tenant, or the refusal "Not authorized" if the user does not take part in it.
    pub(crate) fn of_user(user: &User, id: &Id) -> Result<(Self, Stored)> {
        let place = Self { tenant: user.tenant.clone(), id: id.clone() };
        let stored = place.stored()?.filter(|stored| stored.has(&user.id));
        stored.map(|stored| (place, stored)).ok_or_else(not_authorized)
    }

    /// Publishes a message of the plugin to itself again, if the place's tenant is not the message's: a call reaches only the rooms and
    /// users of its message's tenant. The plugin `chat`, which had the conversations before, wrote the tenant only into the place.
    /// Returns whether it did.
    pub(crate) fn republished<T: Serialize>(&self, message: &Message, data: &T) -> Result<bool> {
        if self.tenant == message.tenant {
            return Ok(false);
        }
        bus::publish_keyed(&message.topic, &self.id, &Scoped { tenant: self.tenant.as_deref(), data })?;
        Ok(true)
    }

    pub(crate) fn id(&self) -> &Id {
        &self.id
    }

    pub(crate) fn stored(&self) -> Result<Option<Stored>> {
        store::get(&self.key("conversation"))
    }

    pub(crate) fn put(&self, stored: &Stored) -> Result<()> {
        store::put(&self.key("conversation"), stored)
    }

    /// The key of a single value of the conversation.
    pub(crate) fn key(&self, kind: &str) -> String {
        key(["teams", self.tenant.as_deref().unwrap_or_default(), &self.id, kind])
    }

    /// The key of one value of many, such as a message or a member.
    pub(crate) fn key_of(&self, kind: &str, one: &str) -> String {
        key(["teams", self.tenant.as_deref().unwrap_or_default(), &self.id, kind, one])
    }

    pub(crate) fn room(&self, audience: Audience) -> Room {
        match audience {
            Audience::Members => MEMBERS.of(&self.id),
            Audience::Everyone => OPEN.of(&self.id),
        }
    }
}
