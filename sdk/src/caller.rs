//! The client that a call is about. Knows what the token said, and nothing of sockets beyond their number.

use serde::de::DeserializeOwned;

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

    /// Whether the token gives this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.role.as_deref() == Some(role)
    }

    /// All claims of the token as a type of the plugin's, or `forbidden` where they do not fit it.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.claims).map_err(|_| Refusal::forbidden("Forbidden"))
    }
}
