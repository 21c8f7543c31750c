//! The client that a call is about: its user, as the token gives it, and the number of its socket.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::bindings::hubbub::plugin::types;
pub use crate::bindings::hubbub::plugin::types::User;
use crate::{Refusal, Result};

/// The sentence for a visitor if neither the namespace nor the handler states one.
const NEEDS_USER: &str = "Authentication required";

/// The client that a call is about.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The host's number for this socket.
    pub socket: u64,
    /// The namespace as the client named it: `/course/42` where the description says `/course/{id}`.
    pub namespace: String,
    /// Absent for a visitor: a client without a token, in a namespace with `token = "optional"`.
    pub user: Option<User>,
    place: Place,
}

/// A namespace of the plugin, as its attribute states it.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// `/chat` or `/course/{id}`.
    pub path: &'static str,
    /// The sentence for a visitor where a user is needed.
    pub missing: Option<&'static str>,
}

impl Caller {
    #[doc(hidden)]
    pub fn new(caller: types::Caller, place: Place) -> Self {
        Self { socket: caller.socket, namespace: caller.namespace, user: caller.user, place }
    }

    /// The user, or the refusal `unauthenticated` with the namespace's sentence `missing`.
    pub fn user(&self) -> Result<&User> {
        self.user_or(self.place.missing.unwrap_or(NEEDS_USER))
    }

    /// The user, or the refusal `unauthenticated` with this sentence.
    pub fn user_or(&self, sentence: &str) -> Result<&User> {
        self.user.as_ref().ok_or_else(|| Refusal::unauthenticated(sentence))
    }

    /// The namespace's parameter: `42` in `/course/42` for `/course/{id}`. Empty for a namespace without parameter.
    pub fn param(&self) -> &str {
        let literal = self.place.path.find('{').unwrap_or(self.place.path.len());
        self.namespace.get(literal..).unwrap_or_default()
    }
}

impl User {
    /// The name, or the id if the token gives no name.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    /// Whether the token gives this role: the one that the door policy matched, or any other in its claim `role`.
    pub fn has_role(&self, role: &str) -> bool {
        self.role.as_deref() == Some(role) || self.more_roles().is_some_and(|roles| roles.iter().any(|one| one == role))
    }

    /// The claim `role`, if it is a list. Parsed only if the first comparison fails.
    fn more_roles(&self) -> Option<Vec<Value>> {
        #[derive(Deserialize)]
        struct Roles {
            role: Vec<Value>,
        }
        // Most tokens have no list.
        self.claims.contains('[').then(|| serde_json::from_str::<Roles>(&self.claims).ok()).flatten().map(|claims| claims.role)
    }

    /// All claims of the token as a type of the plugin, or the refusal `forbidden` if they do not fit the type.
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
    fn every_role_of_a_list_is_a_role_of_the_user() {
        let one = user(Some("ADMIN"), r#"{"sub":"u","role":"ADMIN"}"#);
        assert!(one.has_role("ADMIN") && !one.has_role("STUDENT"));
        let several = user(Some("ADMIN"), r#"{"sub":"u","role":["STUDENT",7,"ADMIN"]}"#);
        assert!(several.has_role("ADMIN") && several.has_role("STUDENT") && !several.has_role("x"));
        assert!(!user(None, r#"{"sub":"u","x":[1]}"#).has_role("ADMIN"));
    }
}
