//! Tokens as a product's backend would sign them, and their check as an ordinary server does it. It must never be lax: a rival that
//! skips the check would win the connects.

use jsonwebtoken::errors::Result;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

pub(crate) const SECRET: &str = "dev-secret";
/// 2100-01-01: later than any run.
const EXPIRES: u64 = 4_102_444_800;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) name: String,
    pub(crate) exp: u64,
}

/// The name a client of the bench goes by.
pub(crate) fn user(index: usize) -> String {
    format!("bench-user-{index}")
}

pub(crate) fn sign(index: usize) -> Result<String> {
    let claims = Claims { sub: user(index), name: format!("Bench {index}"), exp: EXPIRES };
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

/// The check of the native rival, its key made once.
pub(crate) struct Checker {
    key: DecodingKey,
    validation: Validation,
}

impl Checker {
    pub(crate) fn new() -> Self {
        Self { key: DecodingKey::from_secret(SECRET.as_bytes()), validation: Validation::new(Algorithm::HS256) }
    }

    pub(crate) fn check(&self, token: &str) -> Result<Claims> {
        Ok(decode::<Claims>(token, &self.key, &self.validation)?.claims)
    }
}
