//! The identity of a client of the harness: the claims of a checked token, or none.

use serde_json::{Map, Value};

use crate::caller::User;
use crate::payload::is_link;

/// A token's claims, or none for a visitor. Made by [`user`] or [`visitor`].
#[derive(Debug, Clone)]
pub struct Identity(Option<Claims>);

#[derive(Debug, Clone)]
struct Claims {
    id: String,
    all: Map<String, Value>,
}

/// A user with this id.
pub fn user(id: &str) -> Identity {
    let mut all = Map::new();
    all.insert("sub".into(), id.into());
    Identity(Some(Claims { id: id.to_owned(), all }))
}

/// A client without a token.
pub fn visitor() -> Identity {
    Identity(None)
}

impl Identity {
    /// The claim `name`.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.claim("name", name)
    }

    /// The claim `email`.
    #[must_use]
    pub fn email(self, email: &str) -> Self {
        self.claim("email", email)
    }

    /// The claim `image`.
    #[must_use]
    pub fn image(self, image: &str) -> Self {
        self.claim("image", image)
    }

    /// The claim `role` with one role. [`Identity::claim`] gives a list.
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        self.claim("role", role)
    }

    /// The claim `tenant`.
    #[must_use]
    pub fn tenant(self, tenant: &str) -> Self {
        self.claim("tenant", tenant)
    }

    /// Any claim. Does nothing for a visitor.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Some(claims) = &mut self.0 {
            claims.all.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The user as the server gives it to a plugin.
    pub(super) fn into_user(self) -> Option<User> {
        let Claims { id, all } = self.0?;
        let text = |names: &[&str]| names.iter().find_map(|name| said(all.get(*name)?));
        Some(User {
            id,
            name: text(&["name"]),
            email: text(&["email"]),
            image: text(&["image"]).filter(|image| is_link(image)),
            role: roles(&all).into_iter().next(),
            tenant: text(&["tenant", "companyId"]),
            claims: Value::Object(all.clone()).to_string(),
        })
    }
}

/// The text of a claim. Absent if it is `null` or empty.
fn said(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

/// The roles of a token: one, or a list of them.
pub(super) fn roles(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("role") {
        Some(Value::Array(list)) => list.iter().filter_map(said).collect(),
        Some(one) => said(one).into_iter().collect(),
        None => Vec::new(),
    }
}
