//! Tokens signed as a product's backend would, and their check as in an ordinary server. It must never be lax: a rival without
//! the check would win the connects.

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
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(rename = "companyId", skip_serializing_if = "Option::is_none")]
    company: Option<String>,
}

/// The user id of a client of the bench.
pub(crate) fn user(index: usize) -> String {
    format!("{USER}{index}")
}

pub(crate) const USER: &str = "bench-user-";

pub(crate) fn sign(index: usize) -> Result<String> {
    sign_claims(&claims(index))
}

/// A token with a role and a company.
pub(crate) fn sign_as(index: usize, role: &str, company: &str) -> Result<String> {
    sign_claims(&Claims { role: Some(role.to_owned()), company: Some(company.to_owned()), ..claims(index) })
}

fn claims(index: usize) -> Claims {
    Claims { sub: user(index), name: format!("Bench {index}"), exp: EXPIRES, role: None, company: None }
}

fn sign_claims(claims: &Claims) -> Result<String> {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

/// The check of the native rival, with its key created once.
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
