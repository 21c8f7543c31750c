//! Who of a tenant is there, for its users in `/`. Never of visitors, nor of users without a tenant: to tell everybody of
//! everybody would be their number squared.

use hubbub_sdk::{
    Caller, Message, Result,
    emitter::Emits,
    presence::{self, Changed, State, Status},
};
use schemars::JsonSchema;
use serde::Serialize;

const NAMESPACE: &str = "/";

/// The group of each tenant.
const GROUP: &str = "tenant";

pub(crate) const ONLINE: Emits<UserId> = Emits::new(NAMESPACE, "user_online");
pub(crate) const OFFLINE: Emits<UserId> = Emits::new(NAMESPACE, "user_offline");

/// `{user_id}`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct UserId {
    user_id: String,
}

pub(crate) fn enter(caller: &Caller) -> Result<()> {
    let Some(user) = &caller.user else { return Ok(()) };
    if user.tenant.is_none() {
        return Ok(());
    }
    Ok(presence::track(GROUP, &user.id, Status::Online, &())?)
}

/// Who is away is still there: these clients send no heartbeats.
pub(crate) fn changed<T>(message: &Message, changed: &Changed<T>) -> Result<()> {
    let Some(tenant) = message.tenant.as_deref().filter(|_| changed.group == GROUP) else { return Ok(()) };
    let event = match (changed.from, changed.to) {
        (State::Offline, _) => ONLINE,
        (_, State::Offline) => OFFLINE,
        _ => return Ok(()),
    };
    Ok(event.to_tenant(tenant, &UserId { user_id: changed.key.clone() })?)
}

#[cfg(test)]
mod tests;
