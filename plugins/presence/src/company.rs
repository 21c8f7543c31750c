//! The presence of a company's users in `/conversations`, for the users of the same company: online with the first device, offline with
//! the last.

use hubbub_sdk::{
    Message, Result, User,
    emitter::Emits,
    plugin,
    presence::{self, Changed, State, Status},
};
use schemars::JsonSchema;
use serde::{Serialize, de::IgnoredAny};

use crate::Presence;

/// The group of each company, which is a tenant.
const GROUP: &str = "crm";

const ONLINE: Emits<CompanyUser> = Emits::new("/conversations", "status:online");
const OFFLINE: Emits<CompanyUser> = Emits::new("/conversations", "status:offline");

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CompanyUser {
    user_id: String,
}

#[plugin(part, namespace = "/conversations")]
#[emits(ONLINE, OFFLINE)]
impl Presence {
    /// The door policy refuses users without a company.
    #[on_connect]
    fn enter_conversations(user: &User) -> Result<()> {
        if user.tenant.is_none() {
            return Ok(());
        }
        presence::track(GROUP, &user.id, Status::Online, &())
    }

    /// Away counts as online, because these clients send no heartbeats.
    #[on_message("presence.changed")]
    fn company_changed(message: &Message, changed: Changed<IgnoredAny>) -> Result<()> {
        let Some(company) = message.tenant.as_deref().filter(|_| changed.group == GROUP) else { return Ok(()) };
        let event = match (changed.from, changed.to) {
            (State::Offline, _) => ONLINE,
            (_, State::Offline) => OFFLINE,
            _ => return Ok(()),
        };
        event.to_tenant(company, &CompanyUser { user_id: changed.key })
    }
}

#[cfg(test)]
mod tests;
