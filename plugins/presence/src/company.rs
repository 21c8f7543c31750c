//! Who of a company is there, for its users alone: first device on, last device off. Never an event to another company, which may
//! have a user of the same id.

use hubbub_sdk::{
    Message, Result, User,
    emitter::Emits,
    presence::{self, Changed, State, Status},
};
use schemars::JsonSchema;
use serde::Serialize;

const NAMESPACE: &str = "/conversations";

/// The group of each company, which is a tenant.
const GROUP: &str = "crm";

pub(crate) const ONLINE: Emits<UserId> = Emits::new(NAMESPACE, "status:online");
pub(crate) const OFFLINE: Emits<UserId> = Emits::new(NAMESPACE, "status:offline");

/// `{userId}`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserId {
    user_id: String,
}

/// The door lets nobody in without a company.
pub(crate) fn enter(user: &User) -> Result<()> {
    if user.tenant.is_none() {
        return Ok(());
    }
    Ok(presence::track(GROUP, &user.id, Status::Online, &())?)
}

/// Who is away is still there: these clients send no heartbeats.
pub(crate) fn changed<T>(message: &Message, changed: &Changed<T>) -> Result<()> {
    let Some(company) = message.tenant.as_deref().filter(|_| changed.group == GROUP) else { return Ok(()) };
    let event = match (changed.from, changed.to) {
        (State::Offline, _) => ONLINE,
        (_, State::Offline) => OFFLINE,
        _ => return Ok(()),
    };
    Ok(event.to_tenant(company, &UserId { user_id: changed.key.clone() })?)
}

#[cfg(test)]
mod tests;
