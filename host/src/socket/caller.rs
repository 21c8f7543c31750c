//! Converts the host's users and door policies to and from the records of the plugins' interface.

use std::sync::Arc;

use crate::auth::door_policy;
use crate::auth::token::User;
use crate::sandbox::exports;
use crate::sandbox::imports::types;

/// Converts a manifest's door policy for the check in `auth`.
pub fn door_of(door: &exports::Door) -> door_policy::Door {
    door_policy::Door {
        token: match door.token {
            exports::TokenPolicy::Optional => door_policy::TokenPolicy::Optional,
            exports::TokenPolicy::Required => door_policy::TokenPolicy::Required,
        },
        claims: door.claims.clone(),
        roles: door.roles.clone(),
        missing: door.missing.clone(),
        invalid: door.invalid.clone(),
        forbidden: door.forbidden.clone(),
    }
}

/// Converts a user to the record that plugins receive.
pub fn user_record(user: &User) -> types::User {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    types::User {
        id: user.id.to_string(),
        name: text(&user.name),
        email: text(&user.email),
        image: text(&user.image),
        role: text(&user.role),
        tenant: text(&user.tenant),
        claims: user.claims.to_string(),
    }
}
