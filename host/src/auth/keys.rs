//! The keys that verify tokens. A key's algorithm is pinned when it is loaded; nothing in a token changes it. Never prints a
//! secret, in an error or in a log.

use std::path::PathBuf;

use jsonwebtoken::DecodingKey;

use super::algorithm::Algorithm;
use super::token::MAX_KID;

pub(crate) mod material;

/// Why a key is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("must have exactly one of secret, secret_file, public_key_file, jwks_file and jwks_url, and has {0}")]
    Sources(usize),
    #[error("has `{0}`, which is for {1} only")]
    NotForIt(&'static str, &'static str),
    #[error("has the secret of `hubbub dev`, which everyone knows")]
    DevSecret,
    #[error("has a secret of {length} bytes: auth.min_secret_bytes is {least}")]
    WeakSecret { length: usize, least: usize },
    #[error("has a PEM text as its secret: give it as public_key_file, or anyone who has the public key could sign")]
    PemSecret,
    #[error("is pinned to {0:?}, which does not fit its type")]
    Algorithm(Algorithm),
    #[error("has a key id that is empty or over {MAX_KID} bytes")]
    Kid,
    #[error("opens `{0}`, which is neither a path such as `/hub` nor one with a last parameter, `/course/{{id}}`")]
    Namespace(String),
    #[error("has a tenant that is empty, over 256 bytes, or has control characters")]
    Tenant,
    #[error("has a `refresh` under 100ms")]
    Refresh,
    #[error("cannot be read from {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("is a private key: only the public one belongs here")]
    PrivateKey,
    #[error("is no usable public key: {0}")]
    PublicKey(&'static str),
    #[error("has a jwks_url that is not https (http only to a loopback address)")]
    Url,
    #[error("has a set that cannot be used: {0}")]
    Set(#[from] SetError),
    #[error("cannot be fetched: {0}")]
    Client(String),
    #[error("is one of more than {0} keys that a token without a key id would have to be tried with: give them a kid or an iss")]
    TooManyAlike(usize),
}

/// Why a set is refused.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("it is over {0} bytes")]
    TooLarge(usize),
    #[error("it has more than {0} keys")]
    TooManyKeys(usize),
    #[error("it is no JSON Web Key Set")]
    NotASet,
    #[error("none of its keys can be used ({0})")]
    NoUsableKey(String),
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Fetch(#[from] reqwest::Error),
    #[error("its server answered with status {0}")]
    Status(u16),
    #[error("it took longer than the timeout")]
    Timeout,
}

/// A key, ready to check signatures.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
}

impl Key {
    /// Whether `signature` (base64url) is this key's signature of `signed`, by the pinned algorithm.
    pub(crate) fn signed(&self, signed: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.decoding, self.algorithm.into()).unwrap_or(false)
    }
}
