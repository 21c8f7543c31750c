//! The claims of a token, read in one pass. Never checks a signature.

mod reader;

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use smallvec::SmallVec;

use super::link::is_link;
use super::{TokenError, User};
use crate::names;
use reader::ReadClaims;

/// The most claims of one token; more are refused as malformed. Duplicates are found by comparing each with all.
const MAX_CLAIMS: usize = 64;

/// The deepest nesting of a token's claims, as of any JSON that reaches a plugin. Deeper claims are refused as malformed.
const MAX_DEPTH: u8 = 64;

/// The most audiences of one token. More are refused as a claim of the wrong type.
const MAX_AUDIENCES: usize = 16;

/// The most roles of one token. More are refused as a claim of the wrong type.
const MAX_ROLES: usize = 64;

/// The first second since 1970 that is too large for a token's time.
const YEAR_10000: u64 = 253_402_300_800;

/// `[auth.claims]`: for each property of a user, the claims to read it from. The first claim that is neither `null` nor empty is
/// used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// The user's id: text or a whole number.
    pub user_id: Vec<String>,
    /// The tenant's id: text or a whole number.
    pub tenant: Vec<String>,
    /// The user's name: text or a whole number.
    pub name: Vec<String>,
    /// The user's email address: text or a whole number.
    pub email: Vec<String>,
    /// The address of the user's picture: http, https or relative. Any other address is left out.
    pub image: Vec<String>,
    /// The user's role: text, a whole number, or a list of at most 64 of them.
    pub role: Vec<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            user_id: list(&["sub", "userId", "id"]),
            tenant: list(&["tenant", "companyId"]),
            name: list(&["name"]),
            email: list(&["email"]),
            image: list(&["image"]),
            role: list(&["role"]),
        }
    }
}

/// The claims that the host uses, borrowed from their text.
#[derive(Default)]
pub(crate) struct Claims<'a> {
    pub(crate) issuer: Option<Cow<'a, str>>,
    pub(crate) audiences: Texts<'a>,
    /// Milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
    /// Milliseconds since 1970.
    pub(crate) not_before_ms: Option<u64>,
    user_id: Field<'a>,
    tenant: Field<'a>,
    name: Field<'a>,
    email: Field<'a>,
    image: Field<'a>,
    role: Field<'a>,
    problem: Option<TokenError>,
}

type Texts<'a> = SmallVec<[Cow<'a, str>; 1]>;

impl<'a> Claims<'a> {
    pub(crate) fn read(text: &'a str, names: &ClaimNames) -> Result<Self, TokenError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let claims = ReadClaims { names }
            .deserialize(&mut json)
            .and_then(|claims| json.end().map(|()| claims))
            .map_err(|_| TokenError::Malformed("the payload is not a JSON object within the limits"))?;
        match claims.problem {
            Some(problem) => Err(problem),
            None => Ok(claims),
        }
    }

    /// The user, if every claim about it is usable. `text` is the text that these claims were read from.
    pub(crate) fn user(&self, text: &str) -> Result<User, TokenError> {
        let id = self.user_id.id("user id")?.ok_or(TokenError::Claim("user id"))?;
        let roles = self.role.texts("role")?;
        Ok(User {
            id: id.as_ref().into(),
            tenant: self.tenant.id("tenant")?.map(|tenant| tenant.as_ref().into()),
            name: self.name.text("name")?,
            email: self.email.text("email")?,
            // Shown to other users, so an address that could run code is left out.
            image: self.image.text("image")?.filter(|image| is_link(image)),
            role: roles.first().cloned(),
            roles,
            claims: text.into(),
        })
    }

    /// Problems are reported at the end, so that their kind is not lost in a parser error.
    fn take(&mut self, names: &ClaimNames, name: &str, value: Value<'a>) {
        let outcome = match name {
            "iss" => value.into_text("issuer").map(|issuer| self.issuer = Some(issuer)),
            "aud" => value.into_texts("audience").map(|audiences| self.audiences = audiences),
            "exp" => value.to_millis("expiry").map(|at| self.expires_ms = Some(at)),
            "nbf" => value.to_millis("beginning").map(|at| self.not_before_ms = Some(at)),
            "iat" => value.to_millis("time of issue").map(drop),
            _ => {
                self.offer(names, name, value);
                Ok(())
            }
        };
        if let Err(problem) = outcome {
            self.problem.get_or_insert(problem);
        }
    }

    fn offer(&mut self, names: &ClaimNames, name: &str, value: Value<'a>) {
        if value.is_empty() {
            return;
        }
        let fields = [
            (&mut self.user_id, &names.user_id),
            (&mut self.tenant, &names.tenant),
            (&mut self.name, &names.name),
            (&mut self.email, &names.email),
            (&mut self.image, &names.image),
            (&mut self.role, &names.role),
        ];
        for (field, list) in fields {
            if let Some(rank) = list.iter().position(|listed| listed == name) {
                field.offer(rank, &value);
            }
        }
    }
}

/// The value of one user property from the best-ranked claim so far.
#[derive(Default)]
struct Field<'a>(Option<(usize, Value<'a>)>);

impl<'a> Field<'a> {
    fn offer(&mut self, rank: usize, value: &Value<'a>) {
        if self.0.as_ref().is_none_or(|(best, _)| rank < *best) {
            self.0 = Some((rank, value.clone()));
        }
    }

    fn text(&self, what: &'static str) -> Result<Option<Arc<str>>, TokenError> {
        match &self.0 {
            None => Ok(None),
            Some((_, Value::Text(text))) => Ok(Some(text.as_ref().into())),
            Some((_, Value::Integer(number))) => Ok(Some(number.to_string().into())),
            Some(_) => Err(TokenError::Claim(what)),
        }
    }

    fn texts(&self, what: &'static str) -> Result<Arc<[Arc<str>]>, TokenError> {
        match &self.0 {
            Some((_, Value::Texts(texts))) => Ok(texts.iter().map(|text| text.as_ref().into()).collect()),
            _ => Ok(self.text(what)?.into_iter().collect()),
        }
    }

    /// Many databases have numbers as ids. Only exact integers are accepted: a number past 64 bits would be rounded, and two
    /// users would become one.
    fn id(&self, what: &'static str) -> Result<Option<Cow<'_, str>>, TokenError> {
        let id: Cow<'_, str> = match &self.0 {
            None => return Ok(None),
            Some((_, Value::Text(text))) => Cow::Borrowed(text.as_ref()),
            Some((_, Value::Integer(number))) => Cow::Owned(number.to_string()),
            Some(_) => return Err(TokenError::Claim(what)),
        };
        names::check(what, &id).map_err(|_| TokenError::Claim(what))?;
        // Two ids that were cut inside different characters would be equal.
        if id.contains(char::REPLACEMENT_CHARACTER) {
            return Err(TokenError::Claim(what));
        }
        Ok(Some(id))
    }
}

/// A claim's value, as far as the host uses it.
#[derive(Clone)]
enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    Texts(Texts<'a>),
    Other,
}

impl<'a> Value<'a> {
    /// Whether it counts as no claim at all.
    fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::Texts(texts) => texts.is_empty(),
            Self::Integer(_) | Self::Float(_) | Self::Other => false,
        }
    }

    fn into_text(self, what: &'static str) -> Result<Cow<'a, str>, TokenError> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(TokenError::Claim(what)),
        }
    }

    fn into_texts(self, what: &'static str) -> Result<Texts<'a>, TokenError> {
        match self {
            Self::Text(text) => Ok(SmallVec::from_iter([text])),
            Self::Texts(texts) => Ok(texts),
            _ => Err(TokenError::Claim(what)),
        }
    }

    /// Seconds since 1970, up to the year 9999. Fractions are accepted: issuers divide their clock's milliseconds.
    fn to_millis(&self, what: &'static str) -> Result<u64, TokenError> {
        let millis = match self {
            Self::Integer(seconds) => u64::try_from(*seconds).ok().filter(|seconds| *seconds < YEAR_10000).map(|at| at * 1000),
            Self::Float(seconds) if (0.0..YEAR_10000 as f64).contains(seconds) => Some((seconds * 1000.0) as u64),
            _ => None,
        };
        millis.ok_or(TokenError::Claim(what))
    }
}

#[cfg(test)]
mod tests;
