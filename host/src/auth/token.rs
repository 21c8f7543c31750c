//! Parses tokens, strictly and in one pass. Does not verify them: that is the keyring's task.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub use claims::ClaimNames;
pub(crate) use claims::Claims;

use super::algorithm::Algorithm;
use crate::json;

mod claims;
mod link;

/// The largest header of a token, in bytes of base64url. Larger ones carry certificates, which are never used; they are refused
/// as malformed.
const MAX_HEADER: usize = 1024;

/// The longest key id, in bytes. A token with a longer one is refused as malformed; a key with one is not loaded.
pub(crate) const MAX_KID: usize = 128;

/// The user that a token names. Cheap to clone: all sockets of a connection share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// 1–256 bytes, no control characters.
    pub id: Arc<str>,
    pub name: Option<Arc<str>>,
    pub email: Option<Arc<str>>,
    pub image: Option<Arc<str>>,
    /// The role that plugins see: the token's first, or the one that a door policy admitted.
    pub role: Option<Arc<str>>,
    /// All roles, in the token's order.
    pub roles: Arc<[Arc<str>]>,
    /// 1–256 bytes, no control characters.
    pub tenant: Option<Arc<str>>,
    /// Every claim, as the token's own JSON text: an object without duplicate members, nested at most 64 levels.
    pub claims: Arc<str>,
}

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub user: User,
    /// The claim `iss`. A fresh token for the same socket must have the same.
    pub issuer: Option<Arc<str>>,
    /// When its sockets need a fresh token, in milliseconds since 1970: the claim `exp` (without the leeway), or
    /// `session_without_exp` from now.
    pub expires_at_ms: u64,
    /// The name of the key that signed it, for logs: during a rotation it shows when the old key is no longer used.
    pub key: Arc<str>,
}

/// Why a token was refused, for logs and metrics. The client receives the door's sentence, never this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("longer than auth.max_token_bytes")]
    TooLarge,
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("its header has `crit`, which asks for extensions that are not understood here")]
    Critical,
    #[error("its algorithm is not the one that the key is pinned to")]
    Algorithm,
    #[error("no key answers for its issuer and key id")]
    UnknownKey,
    #[error("the keys of its issuer have not been loaded yet")]
    KeysUnavailable,
    #[error("its signature is wrong")]
    Signature,
    #[error("its key does not open this namespace")]
    Namespace,
    #[error("it is for another tenant than its key")]
    Tenant,
    #[error("it is meant for another audience")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYetValid,
    #[error("it has no `exp`, and auth.require_exp is set")]
    NoExpiry,
    #[error("a claim occurs twice")]
    DuplicateClaim,
    #[error("the claim for the {0} is missing, empty, of the wrong type, or no usable name")]
    Claim(&'static str),
}

impl TokenError {
    /// The label in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Critical => "critical",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Signature => "signature",
            Self::Namespace => "namespace",
            Self::Tenant => "tenant",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoExpiry => "no_expiry",
            Self::DuplicateClaim => "duplicate_claim",
            Self::Claim(_) => "claim",
        }
    }

    /// Whether newer keys could change the result.
    pub(crate) fn may_be_stale(&self) -> bool {
        matches!(self, Self::UnknownKey | Self::KeysUnavailable)
    }
}

/// The three parts of a token, not decoded yet.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'t> {
    /// The signed text.
    pub(crate) signed: &'t str,
    header: &'t str,
    payload: &'t str,
    pub(crate) signature: &'t str,
}

impl<'t> Parts<'t> {
    pub(crate) fn split(token: &'t str) -> Result<Self, TokenError> {
        let malformed = TokenError::Malformed("not three parts");
        let Some((signed, signature)) = token.rsplit_once('.') else { return Err(malformed) };
        let Some((header, payload)) = signed.split_once('.') else { return Err(malformed) };
        // Five parts are an encrypted token; an empty signature is what `alg: none` looks like.
        if payload.contains('.') || header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(malformed);
        }
        Ok(Self { signed, header, payload, signature })
    }

    /// Parses the header. It only helps to choose a key: the algorithm is the key's, and embedded keys or addresses of keys
    /// (`jwk`, `jku`, `x5u`, `x5c`) are ignored.
    pub(crate) fn header(&self) -> Result<Header, TokenError> {
        if self.header.len() > MAX_HEADER {
            return Err(TokenError::Malformed("the header is over 1 KiB"));
        }
        let mut buffer = [0; MAX_HEADER];
        let length = URL_SAFE_NO_PAD
            .decode_slice(self.header, &mut buffer)
            .map_err(|_| TokenError::Malformed("the header is not base64url"))?;
        let json = &buffer[..length];
        // A derived `Deserialize` would accept an array as well.
        if json.first() != Some(&b'{') {
            return Err(TokenError::Malformed("the header is not a JSON object"));
        }
        let raw: RawHeader<'_> =
            serde_json::from_slice(json).map_err(|_| TokenError::Malformed("the header is not a JSON object"))?;
        if raw.crit.0 {
            return Err(TokenError::Critical);
        }
        if raw.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(TokenError::Malformed("the key id is over 128 bytes"));
        }
        let algorithm = Algorithm::from_name(&raw.alg).ok_or(TokenError::Algorithm)?;
        Ok(Header { algorithm, kid: raw.kid })
    }

    /// The payload's text. An unpaired surrogate in it becomes U+FFFD, which no id may contain.
    pub(crate) fn payload(&self) -> Result<String, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| TokenError::Malformed("the payload is not base64url"))?;
        let text = String::from_utf8(bytes).map_err(|_| TokenError::Malformed("the payload is not UTF-8"))?;
        Ok(json::into_well_formed(text))
    }
}

/// The header fields that the host uses.
pub(crate) struct Header {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
}

/// Duplicates of these members are refused; all other members are skipped.
#[derive(Deserialize)]
struct RawHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Present,
}

/// Whether a member is present, even as `null`.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Self(true))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(json: &str) -> Result<Header, TokenError> {
        let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(json));
        Parts::split(&token).unwrap().header()
    }

    #[test]
    fn a_token_has_three_nonempty_parts() {
        for token in ["", ".", "..", "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", "a.b.c.d.e"] {
            assert!(Parts::split(token).is_err(), "{token}");
        }
        assert_eq!(Parts::split("a.b.c").unwrap().signed, "a.b");
    }

    #[test]
    fn a_header_is_an_object_with_a_known_algorithm() {
        assert_eq!(header(r#"{"alg":"RS256","kid":"k","typ":"JWT"}"#).unwrap().kid.unwrap(), "k");
        for json in [r#"{"alg":"none"}"#, r#"{"alg":"None"}"#, r#"{"alg":"hs256"}"#, r#"{"alg":"RS512"}"#, r#"{"alg":""}"#] {
            assert_eq!(header(json).err(), Some(TokenError::Algorithm), "{json}");
        }
        for json in ["1", r#"["HS256"]"#, "{}", r#"{"alg":1}"#, r#"{"alg":null}"#, r#"{"alg":"HS256","kid":7}"#] {
            assert!(matches!(header(json), Err(TokenError::Malformed(_))), "{json}");
        }
    }

    #[test]
    fn critical_duplicate_and_oversized_header_members_are_refused() {
        assert_eq!(header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#).err(), Some(TokenError::Critical));
        assert_eq!(header(r#"{"alg":"HS256","crit":null}"#).err(), Some(TokenError::Critical));
        assert!(header(r#"{"alg":"none","alg":"HS256"}"#).is_err());
        assert!(header(r#"{"alg":"HS256","kid":"a","kid":"b"}"#).is_err());
        assert!(header(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(129))).is_err());
        assert!(header(&format!(r#"{{"alg":"HS256","x5c":"{}"}}"#, "c".repeat(1024))).is_err());
    }
}
