//! Signs tokens for `hubbub token` and for tests. The server itself never signs one.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

/// Why no token was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("`{0}` is not a claim: write name=value")]
    NotAClaim(String),
    #[error("the claim `{0}` is given twice")]
    Twice(String),
    #[error("the secret is empty")]
    NoSecret,
    #[error("cannot sign: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// The claims of a token to sign.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    claims: Map<String, Value>,
}

impl Claims {
    /// For the user `sub`.
    pub fn of(sub: &str) -> Self {
        Self { claims: Map::from_iter([("sub".to_owned(), Value::from(sub))]) }
    }

    /// Adds a claim with a text value, even if it looks like JSON.
    ///
    /// # Errors
    /// If the claim is present already.
    pub fn text(self, name: &str, value: &str) -> Result<Self, SignError> {
        self.add(name, Value::from(value))
    }

    /// Adds a claim written as `name=value`. The value is JSON if it is valid JSON (`42`, `true`, `["a"]`), else text.
    ///
    /// # Errors
    /// Without a name, or if the claim is present already.
    pub fn pair(self, pair: &str) -> Result<Self, SignError> {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                self.add(name, serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)))
            }
            _ => Err(SignError::NotAClaim(pair.to_owned())),
        }
    }

    fn add(mut self, name: &str, value: Value) -> Result<Self, SignError> {
        match self.claims.insert(name.to_owned(), value) {
            Some(_) => Err(SignError::Twice(name.to_owned())),
            None => Ok(self),
        }
    }
}

/// Signs claims with a shared secret, by HS256, for `ttl` from now (in milliseconds since 1970; a token counts whole seconds, so
/// `ttl` is rounded up). `iat` and `exp` among the claims are kept.
///
/// # Errors
/// If the secret is empty.
pub fn sign(secret: &[u8], claims: Claims, ttl: Duration, now_ms: u64) -> Result<String, SignError> {
    if secret.is_empty() {
        return Err(SignError::NoSecret);
    }
    let end_ms = now_ms.saturating_add(crate::duration::millis(ttl));
    let mut claims = claims.claims;
    claims.entry("iat").or_insert_with(|| (now_ms / 1000).into());
    claims.entry("exp").or_insert_with(|| end_ms.div_ceil(1000).into());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::auth::config::{Config, DEV_SECRET};
    use crate::auth::keyring::Keyring;

    const HOUR: Duration = Duration::from_secs(3600);

    fn read(token: &str) -> Value {
        let user = Keyring::load(&Config::default(), true).unwrap().verify(token, "/", 1500).unwrap().user;
        serde_json::from_str(&user.claims).unwrap()
    }

    #[test]
    fn a_signed_token_has_the_given_claims() {
        let claims = Claims::of("u1").text("role", "ADMIN").unwrap().text("name", "42").unwrap();
        let claims = claims.pair("level=3").unwrap().pair("tags=[\"a\"]").unwrap().pair("note=a=b").unwrap();
        let token = sign(DEV_SECRET.as_bytes(), claims, HOUR, 1500).unwrap();
        let wanted = serde_json::json!({
            "sub": "u1", "role": "ADMIN", "name": "42", "level": 3, "tags": ["a"], "note": "a=b", "iat": 1, "exp": 3602
        });
        assert_eq!(read(&token), wanted);
    }

    #[test]
    fn a_given_expiry_is_not_overwritten() {
        let token = sign(DEV_SECRET.as_bytes(), Claims::of("u1").pair("exp=99").unwrap(), HOUR, 1500).unwrap();
        assert_eq!(read(&token)["exp"], 99);
    }

    #[test]
    fn invalid_claims_and_an_empty_secret_are_refused() {
        assert!(matches!(Claims::of("u").pair("admin"), Err(SignError::NotAClaim(_))));
        assert!(matches!(Claims::of("u").pair("=x"), Err(SignError::NotAClaim(_))));
        assert!(matches!(Claims::of("u").pair("sub=v"), Err(SignError::Twice(_))));
        assert!(matches!(sign(b"", Claims::of("u"), HOUR, 0), Err(SignError::NoSecret)));
    }
}
