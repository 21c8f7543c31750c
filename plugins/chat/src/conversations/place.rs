//! Where a conversation is: in a tenant, or in none. Two tenants' conversations may have the same id, and so may two tenants'
//! users: every key and every room is made here, and none of a tenant's is without its tenant.

use hubbub_sdk::{
    Message, Result, User,
    emitter::Emits,
    payload::Id,
    store::{self, key},
};
use serde::{Deserialize, Serialize};

use super::{members::Stored, not_authorized};
use crate::tenants;

/// The room of all users without a tenant.
pub(super) const EVERYONE: &str = "everyone";

/// The host's limits of one emit.
const ROOMS_OF_AN_EMIT: usize = 64;
const USERS_OF_AN_EMIT: usize = 1000;

/// A conversation's tenant and id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    id: Id,
}

/// Whom a conversation is for. The two have different rooms: where one for everyone is given a member list, who has joined it
/// before and is no member hears nothing more, and its members join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
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

pub(super) fn tenant_of(user: &User) -> Option<&str> {
    user.tenant.as_deref().filter(|tenant| !tenant.is_empty())
}

/// Every room that a user may have joined for an id: of the user's own tenant's conversation, or of one without a tenant.
pub(super) fn rooms_of(user: &User, id: &Id) -> impl Iterator<Item = String> + use<> {
    let kinds = [Reach::Members, Reach::Everyone];
    candidates(user, id).into_iter().flat_map(move |place| kinds.map(|reach| place.room(reach)))
}

/// The places that a user may mean by an id, the own tenant's first.
fn candidates(user: &User, id: &Id) -> Vec<Place> {
    let without = Place { tenant: None, id: id.clone() };
    match tenant_of(user) {
        Some(tenant) => vec![Place { tenant: Some(tenant.to_owned()), id: id.clone() }, without],
        None => vec![without],
    }
}

impl Place {
    /// The place that a message speaks of: in the tenant that its data names, or the bus's.
    pub(super) fn published(id: &Id, named: Option<Id>, message: &Message) -> Self {
        let tenant = named.map(Id::into_string).or_else(|| message.tenant.clone()).filter(|tenant| !tenant.is_empty());
        Self { tenant, id: id.clone() }
    }

    /// The conversation that a user means by an id and may take part in, or "Not authorized".
    pub(super) fn of_user(user: &User, id: &Id) -> Result<(Self, Stored)> {
        for place in candidates(user, id) {
            if let Some(stored) = place.stored()?.filter(|stored| place.admits(stored, user)) {
                return Ok((place, stored));
            }
        }
        Err(not_authorized())
    }

    /// The conversation that a message about a user's doing means: one without a tenant where the tenant has none of that id, and
    /// the user is its member.
    pub(super) fn about(self, user: Option<&Id>) -> Result<(Self, Option<Stored>)> {
        if let Some(stored) = self.stored()? {
            return Ok((self, Some(stored)));
        }
        if let (Some(_), Some(user)) = (&self.tenant, user) {
            let without = Self { tenant: None, id: self.id.clone() };
            if let Some(stored) = without.stored()?.filter(|stored| stored.member(user).is_some()) {
                return Ok((without, Some(stored)));
            }
        }
        Ok((self, None))
    }

    fn admits(&self, stored: &Stored, user: &User) -> bool {
        match stored.reach() {
            Reach::Members => stored.member(&user.id).is_some(),
            Reach::Everyone => self.tenant() == tenant_of(user),
        }
    }

    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    pub(super) fn stored(&self) -> Result<Option<Stored>> {
        Ok(store::get(&self.key("conversation"))?)
    }

    pub(super) fn put(&self, stored: &Stored) -> Result<()> {
        Ok(store::put(&self.key("conversation"), stored)?)
    }

    /// The key of what there is one of.
    pub(super) fn key(&self, kind: &str) -> String {
        key(["teams", self.tenant().unwrap_or_default(), &self.id, kind])
    }

    /// The key of one of many: a message, a member.
    pub(super) fn key_of(&self, kind: &str, one: &str) -> String {
        key(["teams", self.tenant().unwrap_or_default(), &self.id, kind, one])
    }

    /// An id with a `/` and no tenant gets an empty tenant, which is nobody's: it must not read like a tenant and its id.
    pub(super) fn room(&self, reach: Reach) -> String {
        match self.tenant() {
            Some(tenant) => tenants::room(reach.kind(), tenant, &self.id),
            None if self.id.contains('/') => tenants::room(reach.kind(), "", &self.id),
            None => format!("{}:{}", reach.kind(), self.id),
        }
    }

    /// How many users one emit reaches.
    pub(super) fn users_of_an_emit(&self) -> usize {
        if self.tenant.is_some() { ROOMS_OF_AN_EMIT } else { USERS_OF_AN_EMIT }
    }

    /// To all devices of the users: in a tenant those of the tenant's users alone, whoever else has the same ids.
    pub(super) fn to_users<T: Serialize>(&self, event: Emits<T>, users: &[&Id], payload: &T) -> Result<()> {
        for users in users.chunks(self.users_of_an_emit()) {
            match self.tenant() {
                Some(tenant) => {
                    let rooms: Vec<String> = users.iter().map(|user| tenants::room("member", tenant, user)).collect();
                    event.to_rooms(&rooms, &[], payload)?;
                }
                None => event.to_users(&users.iter().map(ToString::to_string).collect::<Vec<_>>(), payload)?,
            }
        }
        Ok(())
    }

    /// To everyone in the tenant, or everyone without one.
    pub(super) fn to_everyone<T: Serialize>(&self, event: Emits<T>, payload: &T) -> Result<()> {
        match self.tenant() {
            Some(tenant) => Ok(event.to_tenant(tenant, payload)?),
            None => Ok(event.to_room(EVERYONE, payload)?),
        }
    }
}
