//! Signed tokens, valid and invalid. Must never use the server's own signing code: independent code proves more.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

/// The secret of `hubbub dev`.
pub const DEV_SECRET: &str = "dev-secret";

/// Builds a token. [`sign`](Token::sign), or a function that accepts an [`Auth`](crate::Auth), turns it into text.
#[derive(Clone, Debug)]
pub struct Token {
    claims: Map<String, Value>,
    header: Value,
    secret: Vec<u8>,
}

/// A token of the user `sub`, valid for an hour, as the dev server accepts it.
pub fn token(sub: &str) -> Token {
    let mut claims = Map::new();
    claims.insert("sub".into(), sub.into());
    Token { claims, header: json!({"alg": "HS256", "typ": "JWT"}), secret: DEV_SECRET.into() }.expires_in(3600)
}

impl Token {
    pub fn name(self, name: &str) -> Self {
        self.claim("name", name)
    }

    pub fn role(self, role: &str) -> Self {
        self.claim("role", role)
    }

    pub fn claim(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(key.into(), value.into());
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.claims.remove(key);
        self
    }

    /// Sets the expiry to this many seconds from now. Negative: it has expired that long ago.
    #[expect(clippy::disallowed_methods, reason = "the server that checks the token goes by the same clock")]
    pub fn expires_in(self, seconds: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.claim("exp", i64::try_from(now).unwrap() + seconds)
    }

    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = secret.into();
        self
    }

    /// A member of the JOSE header, such as `alg` or `kid`. The signature stays HS256, whatever `alg` says.
    pub fn header(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.header[key] = value.into();
        self
    }

    /// `alg: none` and no signature.
    pub fn unsigned(self) -> String {
        format!("{}.", self.header("alg", "none").signed_part())
    }

    pub fn sign(&self) -> String {
        self.sign_part(&self.signed_part())
    }

    fn sign_part(&self, text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    /// Signs these claims, as JSON that no `Value` can hold.
    pub fn sign_text(&self, claims: &str) -> String {
        self.sign_part(&format!("{}.{}", URL_SAFE_NO_PAD.encode(self.header.to_string()), URL_SAFE_NO_PAD.encode(claims)))
    }

    fn signed_part(&self) -> String {
        let claims = Value::Object(self.claims.clone());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(self.header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
    }
}
