//! The section `[auth]`. Never prints a secret, in an error or in a log.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::algorithm::Algorithm;
use super::token::ClaimNames;
use crate::duration;

/// The secret that `hubbub dev` signs with. `serve` refuses it.
pub const DEV_SECRET: &str = "dev-secret";

/// The shortest admin token and API key that `serve` accepts, in bytes: 128 bits, if it is random.
pub const LEAST_SECRET: usize = 16;

/// `[auth]`: how tokens are checked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The keys that tokens are checked with, at most 64, in any order. `serve` does not start without a key. See
    /// `[[auth.keys]]`.
    pub keys: Vec<KeyConfig>,
    /// How far the clocks of the issuers and of this server may differ when `exp` and `nbf` are checked.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub leeway: Duration,
    /// Whether a token without `exp` is refused. If it is accepted, `session_without_exp` limits its session.
    pub require_exp: bool,
    /// How long a connection may use a token without `exp`. Past it the token has expired.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub session_without_exp: Duration,
    /// Bytes of a token. Past it the token is refused without being read.
    pub max_token_bytes: usize,
    /// Bytes that the secret of an HS256, HS384 or HS512 key must have at least. A shorter one is refused, except in `dev`. A
    /// secret of less than 32 bytes can be guessed from one token, and the log warns at each start.
    pub min_secret_bytes: usize,
    pub claims: ClaimNames,
    /// The tenant of tokens, visitors, messages and API calls that name none. A change needs a restart, which moves the stored
    /// data of users without a tenant to it. Default: none, so that they have no tenant.
    pub default_tenant: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            leeway: Duration::from_secs(30),
            require_exp: false,
            session_without_exp: Duration::from_secs(24 * 60 * 60),
            max_token_bytes: 8192,
            min_secret_bytes: 8,
            claims: ClaimNames::default(),
            default_tenant: None,
        }
    }
}

/// A shorter secret, in bytes, can be guessed from a token.
const STRONG_SECRET: usize = 32;

impl Config {
    /// Warns of secrets that can be guessed. Does not check secrets in files.
    pub fn warn_of_weak_secrets(&self) {
        for key in &self.keys {
            let name = key.name.as_deref().unwrap_or("auth.keys");
            if key.secret.as_ref().is_some_and(|secret| secret.expose().len() < STRONG_SECRET) {
                tracing::warn!(key = name, "a secret has less than {STRONG_SECRET} bytes: it can be guessed from a single token");
            }
        }
    }

    /// A secret to sign HS256 tokens with, for the demo page of `dev`.
    pub fn signing_secret(&self) -> Option<Secret> {
        let signs = |key: &&KeyConfig| key.alg.is_none_or(|alg| alg == Algorithm::HS256);
        self.keys.iter().filter(signs).find_map(|key| key.secret.clone())
    }

    /// Adds a secret from outside the section, such as `JWT_SECRET`: pinned to HS256, for every namespace and issuer.
    pub fn add_secret(&mut self, name: &str, secret: &str) {
        self.keys.push(KeyConfig {
            name: Some(name.to_owned()),
            secret: Some(Secret(secret.to_owned())),
            ..KeyConfig::default()
        });
    }
}

/// `[[auth.keys]]`: one key, or a set of keys. Exactly one of `secret`, `secret_file`, `public_key_file`, `jwks_file` and
/// `jwks_url` is set.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// The key's name in errors and in the log. Default: `auth.keys[N]`, counted from 0.
    pub name: Option<String>,
    /// The key's id, at most 128 bytes. A token with another `kid` is not checked with this key; a token without a `kid` is. Not
    /// allowed for a JWKS, where each key has its own. Default: none, so that the key serves every id that no other key has.
    pub kid: Option<String>,
    /// The issuer of the tokens. An issuer that some keys name is served by these keys only. Default: every issuer that no key
    /// names.
    pub iss: Option<String>,
    /// The only accepted algorithm: HS256, HS384, HS512, RS256, ES256 or EdDSA. For a JWKS, keys of other algorithms are ignored.
    /// Default: HS256 for a secret; the algorithm of the public key's type.
    pub alg: Option<Algorithm>,
    /// A shared secret, as text.
    pub secret: Option<Secret>,
    /// A file with a shared secret. One line end at its end is ignored.
    pub secret_file: Option<PathBuf>,
    /// A PEM file with one public key: RSA with 2048 to 8192 bits, P-256 or Ed25519.
    pub public_key_file: Option<PathBuf>,
    /// A file with a JSON Web Key Set. It is read again after a change.
    pub jwks_file: Option<PathBuf>,
    /// The address of a JSON Web Key Set: `https`, or `http` to a loopback address. Redirects are not followed.
    pub jwks_url: Option<String>,
    /// The namespaces that a token of this key may connect to, such as `/hub`, or `/course/{id}`. Default: all.
    pub namespaces: Vec<String>,
    /// The tenant of this key's tokens. A token that names another tenant is refused; a token without a tenant gets this one.
    /// Default: the tenant that the token names.
    pub tenant: Option<String>,
    /// The accepted audiences; the token must name one of them. Default: any token.
    pub aud: Vec<String>,
    /// JWKS: the time between two reads, at least `100ms`. Default: `10s` for a file, whose time and size are checked; `10m` for
    /// a url.
    #[serde(deserialize_with = "duration::deserialize_some")]
    #[schemars(with = "Option<crate::duration::Text>")]
    pub refresh: Option<Duration>,
    /// JWKS: how long a read may take. Past it the last good set stays in use. Default: `5s`.
    #[serde(deserialize_with = "duration::deserialize_some")]
    #[schemars(with = "Option<crate::duration::Text>")]
    pub timeout: Option<Duration>,
    /// JWKS: bytes of the set. Past it the set is refused, and the last good one stays in use. Default: 256 KiB.
    pub max_bytes: Option<usize>,
    /// JWKS: the shortest time between two reads that an unknown key id causes; until then, tokens with unknown ids are refused
    /// without a read. Default: `30s`.
    #[serde(deserialize_with = "duration::deserialize_some")]
    #[schemars(with = "Option<crate::duration::Text>")]
    pub cooldown: Option<Duration>,
}

/// A text that is never printed.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
