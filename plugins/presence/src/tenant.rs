//! The presence of a tenant's users in `/`, for the users of the same tenant. Visitors and users without a tenant are not tracked:
//! sending the presence of all to all would grow with the square of their number.

use hubbub_sdk::{
    Message, Result, User,
    emitter::Emits,
    plugin,
    presence::{self, Changed, State, Status},
};
use schemars::JsonSchema;
use serde::{Serialize, de::IgnoredAny};

use crate::Presence;

/// The group of each tenant.
const GROUP: &str = "tenant";

const ONLINE: Emits<TenantUser> = Emits::new("/", "user_online");
const OFFLINE: Emits<TenantUser> = Emits::new("/", "user_offline");

#[derive(Serialize, JsonSchema)]
struct TenantUser {
    user_id: String,
}

#[plugin(part, namespace = "/")]
#[emits(ONLINE, OFFLINE)]
impl Presence {
    #[on_connect]
    fn enter(user: Option<&User>) -> Result<()> {
        match user {
            Some(user) if user.tenant.is_some() => presence::track(GROUP, &user.id, Status::Online, &()),
            _ => Ok(()),
        }
    }

    /// Away counts as online, because these clients send no heartbeats.
    #[on_message("presence.changed")]
    fn tenant_changed(message: &Message, changed: Changed<IgnoredAny>) -> Result<()> {
        let Some(tenant) = message.tenant.as_deref().filter(|_| changed.group == GROUP) else { return Ok(()) };
        let event = match (changed.from, changed.to) {
            (State::Offline, _) => ONLINE,
            (_, State::Offline) => OFFLINE,
            _ => return Ok(()),
        };
        event.to_tenant(tenant, &TenantUser { user_id: changed.key })
    }
}

#[cfg(test)]
mod tests;
