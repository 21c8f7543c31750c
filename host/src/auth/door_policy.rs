//! Decides which clients a door policy admits, and which sentence the others receive: one pure function for every namespace. It
//! never waits, never runs a plugin, and never sends a client more than the door's own sentences.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::token::{ClaimNames, TokenError, User, Verified};
use crate::error::Code;

/// A namespace's door, as its owner describes it (`plugin.wit`, record `door`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    pub token: TokenPolicy,
    /// Claims that a token must have, and not empty: `null`, `""`, `[]` and `{}` are empty. A claim that names the user or the
    /// tenant (see [`ClaimNames`]) is present if any other claim of its list is.
    pub claims: Vec<String>,
    /// The admitted roles; empty: any. One matching role of the token is enough.
    pub roles: Vec<String>,
    /// The sentence for a client without a token.
    pub missing: String,
    /// The sentence for a token that is invalid or lacks a claim.
    pub invalid: String,
    /// The sentence for a token without an admitted role.
    pub forbidden: String,
}

/// Whether a namespace requires a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPolicy {
    /// Without a token the client is a visitor. An invalid token is still refused. A door with roles admits no visitor.
    Optional,
    Required,
}

/// The token that a client sends, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented<'a> {
    None,
    Token(Cow<'a, str>),
    /// A token that is not text, or an `auth` that is not an object: refused like a forged token.
    Malformed,
}

impl<'a> Presented<'a> {
    /// Finds the token: `token` in `auth` (a JSON text) if it is not empty, else `Authorization: Bearer`. A leading `Bearer ` is
    /// removed in both. A header of another scheme is ignored: it is meant for a proxy.
    pub fn find(auth: Option<&'a str>, authorization: Option<&'a str>) -> Self {
        match auth.map(Auth::parse) {
            Some(None) => return Self::Malformed,
            Some(Some(Auth { token: Some(Text(token)) })) => match token {
                Cow::Borrowed(text) if !bare(text).is_empty() => return Self::Token(Cow::Borrowed(bare(text))),
                Cow::Owned(text) if !bare(&text).is_empty() => return Self::Token(Cow::Owned(bare(&text).to_owned())),
                _ => {}
            },
            Some(Some(_)) | None => {}
        }
        match authorization.and_then(after_bearer) {
            Some(token) if !token.is_empty() => Self::Token(Cow::Borrowed(token)),
            _ => Self::None,
        }
    }
}

/// A token without a leading `Bearer `.
pub fn bare(token: &str) -> &str {
    after_bearer(token).unwrap_or(token)
}

/// The text after `Bearer`, in upper or lower case.
fn after_bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_at_checked(SCHEME.len())?;
    let is_one = scheme.eq_ignore_ascii_case(SCHEME) && (token.is_empty() || token.starts_with(' '));
    is_one.then(|| token.trim())
}

const SCHEME: &str = "Bearer";

/// The client's `auth` without its token and what is about recovery, for `authorize`. `{}` if there is no usable one.
pub fn without_token(auth: Option<&str>) -> String {
    let parse = |auth| serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(auth).ok();
    let mut members = auth.and_then(parse).unwrap_or_default();
    members.retain(|name, _| !["token", "pid", "offset"].contains(&&**name));
    // Cannot fail: these names and texts have just been parsed.
    serde_json::to_string(&members).unwrap_or_else(|_| "{}".to_owned())
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    token: Option<Text<'a>>,
}

impl<'a> Auth<'a> {
    fn parse(json: &'a str) -> Option<Self> {
        // A derived `Deserialize` would accept an array as well.
        if !json.trim_start().starts_with('{') {
            return None;
        }
        serde_json::from_str(json).ok()
    }
}

/// Text, borrowed if it has no escapes: a token has none, so it is not copied.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An admitted client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    Visitor,
    User(Verified),
}

/// A refused client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused<'d> {
    pub code: Code,
    /// For the client.
    pub sentence: &'d str,
    /// For logs and metrics, never for the client.
    pub cause: Cause,
}

/// Why a client was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    #[error("no token")]
    NoToken,
    #[error("the token is refused: {0}")]
    Token(#[from] TokenError),
    #[error("the token lacks the claim {0}")]
    Claim(String),
    #[error("the role is not admitted")]
    Role,
}

impl Cause {
    /// The label in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Token(error) => error.reason(),
            Self::Claim(_) => "missing_claim",
            Self::Role => "role",
        }
    }
}

impl Door {
    /// Admits or refuses a client. `checked` is the keyring's result for its token, if it sent one.
    ///
    /// # Errors
    /// The sentence for the client, and the cause for the log.
    pub fn admit(&self, checked: Option<Result<Verified, TokenError>>, names: &ClaimNames) -> Result<Admitted, Refused<'_>> {
        let mut verified = match checked {
            // A visitor has no role, so a door with roles refuses visitors, whatever its token policy.
            None if self.token == TokenPolicy::Required || !self.roles.is_empty() => {
                return Err(Refused { code: Code::Unauthenticated, sentence: &self.missing, cause: Cause::NoToken });
            }
            None => return Ok(Admitted::Visitor),
            Some(checked) => checked.map_err(|error| self.invalid(error.into()))?,
        };
        if let Some(missing) = self.missing_claim(&verified.user, names) {
            return Err(self.invalid(Cause::Claim(missing.to_owned())));
        }
        if !self.roles.is_empty() {
            let opens = |role: &&Arc<str>| self.roles.iter().any(|allowed| **allowed == ***role);
            let Some(role) = verified.user.roles.iter().find(opens).cloned() else {
                return Err(Refused { code: Code::Forbidden, sentence: &self.forbidden, cause: Cause::Role });
            };
            verified.user.role = Some(role);
        }
        Ok(Admitted::User(verified))
    }

    fn invalid(&self, cause: Cause) -> Refused<'_> {
        Refused { code: Code::Unauthenticated, sentence: &self.invalid, cause }
    }

    /// Parses the claims once more. Doors without required claims skip it.
    fn missing_claim(&self, user: &User, names: &ClaimNames) -> Option<&str> {
        if self.claims.is_empty() {
            return None;
        }
        let claims: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(&user.claims).unwrap_or_default();
        let has = |name: &String| {
            names.user_id.contains(name)
                || (names.tenant.contains(name) && user.tenant.as_deref().is_some_and(|tenant| !tenant.is_empty()))
                || claims.get(name.as_str()).is_some_and(|value| !is_empty(value.get()))
        };
        self.claims.iter().find(|name| !has(name)).map(String::as_str)
    }
}

fn is_empty(json: &str) -> bool {
    let is_blank = |inner: &str| inner.trim_ascii().is_empty();
    let inside = |open, close| json.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    json == "null" || json == "\"\"" || inside('[', ']').is_some_and(is_blank) || inside('{', '}').is_some_and(is_blank)
}

#[cfg(test)]
mod tests;
