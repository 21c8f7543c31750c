//! The client that a call is about. Knows what the token said, and nothing of sockets beyond their number.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::bindings::hubbub::plugin::types;
pub use crate::bindings::hubbub::plugin::types::User;
use crate::{Refusal, Result};

/// The sentence for a visitor where neither the namespace nor the handler has one.
const NEEDS_USER: &str = "Authentication required";

/// The client that a call is about.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The host's number of this client's connection to this namespace.
    pub socket: u64,
    /// The namespace as the client named it: `/course/42` where the description says `/course/{id}`.
    pub namespace: String,
    /// Absent for a visitor: a client without a token, in a namespace whose door lets it in.
    pub user: Option<User>,
    place: Place,
}

/// A namespace of the description, as the attribute wrote it down.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// `/chat` or `/course/{id}`.
    pub path: &'static str,
    /// The door's sentence for no token.
    pub missing: Option<&'static str>,
}

impl Caller {
    #[doc(hidden)]
    pub fn new(caller: types::Caller, place: Place) -> Self {
        Self { socket: caller.socket, namespace: caller.namespace, user: caller.user, place }
    }

    /// The user, or the refusal `unauthenticated` with the sentence that the door has for no token.
    pub fn user(&self) -> Result<&User> {
        self.user_or(self.place.missing.unwrap_or(NEEDS_USER))
    }

    /// The user, or the refusal `unauthenticated` with this sentence.
    pub fn user_or(&self, sentence: &str) -> Result<&User> {
        self.user.as_ref().ok_or_else(|| Refusal::unauthenticated(sentence))
    }

    /// The namespace's parameter: `42` in `/course/42`, where the description says `/course/{id}`. Empty where it has none.
    pub fn param(&self) -> &str {
        let literal = self.place.path.find('{').unwrap_or(self.place.path.len());
        self.namespace.get(literal..).unwrap_or_default()
    }
}

impl User {
    /// The name, or the id of a user whose token has none.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// Whether the token gives this role: as the one that opened the door, or as any other in its claim `role`.
    pub fn has_role(&self, role: &str) -> bool {
        self.role.as_deref() == Some(role) || self.more_roles().is_some_and(|roles| roles.iter().any(|one| one == role))
    }

    /// The claim `role` if it is a list. It is parsed only when the first comparison fails.
    fn more_roles(&self) -> Option<Vec<Value>> {
        #[derive(Deserialize)]
        struct Roles {
            role: Vec<Value>,
        }
        // Most tokens have one role, and no list.
        self.claims.contains('[').then(|| serde_json::from_str::<Roles>(&self.claims).ok()).flatten().map(|claims| claims.role)
    }

    /// All claims of the token as a type of the plugin's, or `forbidden` where they do not fit it.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.claims).map_err(|_| Refusal::forbidden("Forbidden"))
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    fn user(role: Option<&str>, claims: &str) -> User {
        let role = role.map(str::to_owned);
        User { id: "u".into(), name: None, email: None, image: None, role, tenant: None, claims: claims.to_owned() }
    }

    #[test]
    fn a_user_has_each_role_of_a_list() {
        let one = user(Some("ADMIN"), r#"{"sub":"u","role":"ADMIN"}"#);
        assert!(one.has_role("ADMIN") && !one.has_role("STUDENT"));
        let several = user(Some("ADMIN"), r#"{"sub":"u","role":["STUDENT",7,"ADMIN"]}"#);
        assert!(several.has_role("ADMIN") && several.has_role("STUDENT") && !several.has_role("x"));
        assert!(!user(None, r#"{"sub":"u","x":[1]}"#).has_role("ADMIN"));
    }
}
