//! Where a conversation is: in a tenant, or in none. Two tenants' conversations may have the same id, and so may two tenants'
//! users: every key is made here and names its tenant, and the host keeps rooms and users apart by the tenant of the call.

use hubbub_sdk::{
    Message, Result, User, bus,
    emitter::Emits,
    payload::Id,
    store::{self, key},
};
use serde::{Deserialize, Serialize};

use crate::{conversations::not_authorized, members::Stored};

/// The room of all users of a tenant, and of all without one.
pub(crate) const EVERYONE: &str = "everyone";

/// The host's limit of one emit.
pub(crate) const USERS_OF_AN_EMIT: usize = 1000;

/// One of the plugin's own messages, with its tenant where the host reads it.
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

/// The audience of a conversation. The two have different rooms: where one for everyone is given a member list, sockets that have
/// joined it before hear nothing more, and its members join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Members,
    Everyone,
}

impl Reach {
    fn kind(self) -> &'static str {
        match self {
            Self::Members => "conversation",
            Self::Everyone => "open",
        }
    }
}

/// The rooms that a user may have joined for an id. The host keeps those of tenants apart.
pub(crate) fn rooms_of(id: &Id) -> [String; 2] {
    [Reach::Members, Reach::Everyone].map(|reach| room(id, reach))
}

fn room(id: &Id, reach: Reach) -> String {
    format!("{}:{id}", reach.kind())
}

impl Place {
    /// The place that a message is about: in the message's tenant.
    pub(crate) fn published(id: &Id, message: &Message) -> Self {
        Self { tenant: message.tenant.clone(), id: id.clone() }
    }

    /// The conversation that a user means by an id and may take part in, or "Not authorized". Never one of another tenant, or of
    /// none where the user has one.
    pub(crate) fn of_user(user: &User, id: &Id) -> Result<(Self, Stored)> {
        let place = Self { tenant: user.tenant.clone(), id: id.clone() };
        let stored = place.stored()?.filter(|stored| stored.has(&user.id));
        stored.map(|stored| (place, stored)).ok_or_else(not_authorized)
    }

    /// Publishes one of the plugin's own messages again, with the tenant where the host reads it, if it is not the message's yet: a
    /// call reaches the rooms and users of its message's tenant alone. The plugin `chat`, which had the conversations before, wrote
    /// the tenant into the place alone.
    pub(crate) fn sent_on<T: Serialize>(&self, message: &Message, data: &T) -> Result<bool> {
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
        Ok(store::get(&self.key("conversation"))?)
    }

    pub(crate) fn put(&self, stored: &Stored) -> Result<()> {
        Ok(store::put(&self.key("conversation"), stored)?)
    }

    /// The key of what there is one of.
    pub(crate) fn key(&self, kind: &str) -> String {
        key(["teams", self.tenant.as_deref().unwrap_or_default(), &self.id, kind])
    }

    /// The key of one of many: a message, a member.
    pub(crate) fn key_of(&self, kind: &str, one: &str) -> String {
        key(["teams", self.tenant.as_deref().unwrap_or_default(), &self.id, kind, one])
    }

    pub(crate) fn room(&self, reach: Reach) -> String {
        room(&self.id, reach)
    }

    /// To all devices of the users: in a tenant those of the tenant's users alone, though others have the same ids.
    pub(crate) fn to_users<T: Serialize>(&self, event: Emits<T>, users: &[&Id], payload: &T) -> Result<()> {
        for users in users.chunks(USERS_OF_AN_EMIT) {
            event.to_users(&users.iter().map(ToString::to_string).collect::<Vec<_>>(), payload)?;
        }
        Ok(())
    }

    /// To everyone in the tenant, or everyone without one.
    pub(crate) fn to_everyone<T: Serialize>(&self, event: Emits<T>, payload: &T) -> Result<()> {
        Ok(event.to_room(EVERYONE, payload)?)
    }
}
