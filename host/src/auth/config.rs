//! The section `[auth]`. Never shows a secret, in an error or in a log.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::algorithm::Algorithm;
use super::token::ClaimNames;
use crate::duration;

/// The secret that `hubbub dev` signs with. In no other place is it accepted.
pub const DEV_SECRET: &str = "dev-secret";

/// The shortest admin token and API key that `serve` takes, in bytes: 128 bits, where it is random.
pub const LEAST_SECRET: usize = 16;

/// The section `[auth]`. Durations are written `30s`, `15m`, `1h`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The keys, in no order: a token's issuer and key id choose among them. At most 64. Default: none, which `serve` refuses.
    pub keys: Vec<KeyConfig>,
    /// How far the clocks of issuers and this server may differ, when `exp` and `nbf` are checked. Default `30s`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub leeway: Duration,
    /// Whether a token without `exp` is refused. Default `false`: nothing obliges an issuer to set it, and
    /// `session_without_exp` ends such sessions all the same. Set it where every issuer is known to set `exp`.
    pub require_exp: bool,
    /// How long a connection lasts on a token without `exp` before the token must be shown again. Default `24h`.
    #[serde(deserialize_with = "duration::deserialize")]
    pub session_without_exp: Duration,
    /// The longest token, in bytes. A longer one is refused unread. Default 8192.
    pub max_token_bytes: usize,
    /// The shortest secret of an HS256, HS384 or HS512 key, in bytes. A shorter one fails loading, but in dev. Default 8, which is what
    /// old systems have; one under 32 can be guessed from a single token, offline, and is warned of at every start.
    pub min_secret_bytes: usize,
    /// Which claims say who the user is.
    pub claims: ClaimNames,
    /// The tenant of whatever names none: tokens, visitors, messages, and calls of `/api`. Default: none, so that these are users and
    /// rooms without a tenant. What is stored for users without a tenant is not the default tenant's until it is moved.
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

/// Under so many bytes, a secret can be guessed from a token.
const STRONG_SECRET: usize = 32;

impl Config {
    /// Warns of secrets that can be guessed. One in a file is not looked at here.
    pub fn warn_of_weak_secrets(&self) {
        for key in &self.keys {
            let name = key.name.as_deref().unwrap_or("auth.keys");
            if key.secret.as_ref().is_some_and(|secret| secret.expose().len() < STRONG_SECRET) {
                tracing::warn!(key = name, "a secret has less than {STRONG_SECRET} bytes: it can be guessed from a single token");
            }
        }
    }

    /// A secret for signing HS256 tokens, for the demo page of `dev`.
    pub fn signing_secret(&self) -> Option<Secret> {
        let signs = |key: &&KeyConfig| key.alg.is_none_or(|alg| alg == Algorithm::HS256);
        self.keys.iter().filter(signs).find_map(|key| key.secret.clone())
    }

    /// Adds a secret that came from elsewhere, such as `JWT_SECRET`: pinned to HS256, for every namespace and issuer.
    pub fn add_secret(&mut self, name: &str, secret: &str) {
        self.keys.push(KeyConfig {
            name: Some(name.to_owned()),
            secret: Some(Secret(secret.to_owned())),
            ..KeyConfig::default()
        });
    }
}

/// One entry of `[[auth.keys]]`: a secret, a public key, or a set of public keys. Exactly one of `secret`, `secret_file`,
/// `public_key_file`, `jwks_file` and `jwks_url` is set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// What errors and logs call it. Default `auth.keys[N]`, counted from 0.
    pub name: Option<String>,
    /// The key's id. A token that names another one is not checked with this key; one that names none is. Not for a JWKS,
    /// whose keys bring theirs. At most 128 bytes. Default: none, so it answers for any id that no other key has.
    pub kid: Option<String>,
    /// The issuer it answers for: tokens of other issuers are not checked with it. An issuer named by any key is answered for
    /// by the keys that name it, alone. Default: none, so it answers for all that no key names.
    pub iss: Option<String>,
    /// The one algorithm. Default: HS256 for a secret; what the key's type says for a public key (RS256, ES256, EdDSA). For a
    /// JWKS it lets in only the set's keys of that algorithm.
    pub alg: Option<Algorithm>,
    /// A shared secret, as text.
    pub secret: Option<Secret>,
    /// A file that holds a shared secret; one line end at its end is not part of it.
    pub secret_file: Option<PathBuf>,
    /// A PEM file with one public key: RSA of 2048 to 8192 bits, P-256 or Ed25519.
    pub public_key_file: Option<PathBuf>,
    /// A file with a JSON Web Key Set, read again when it changes.
    pub jwks_file: Option<PathBuf>,
    /// Where to fetch a JSON Web Key Set. `https`, or `http` to a loopback address. Redirects are not followed.
    pub jwks_url: Option<String>,
    /// The namespaces that a token of this key opens: `/hub`, or with one parameter as the last part `/course/{id}`. Default:
    /// all.
    pub namespaces: Vec<String>,
    /// The tenant that its tokens are for. A token that names another one is refused, and one that names none is this tenant's.
    /// Default: whatever tenant the token names.
    pub tenant: Option<String>,
    /// The audiences that a token must name one of. Default: any token, whatever audience it names.
    pub aud: Vec<String>,
    /// For a JWKS: how often to look again. Default `10s` for a file (its time and size are looked at), `10m` for a url. At
    /// least `100ms`.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub refresh: Option<Duration>,
    /// For a JWKS: how long fetching may take; past it, it has failed, and the last good set stays. Default `5s`.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub timeout: Option<Duration>,
    /// For a JWKS: its largest size in bytes. A larger one is refused, and the last good set stays. Default 256 KiB.
    pub max_bytes: Option<usize>,
    /// For a JWKS: how long after a refresh for an unknown key id the next unknown one is refused without another. Default
    /// `30s`.
    #[serde(deserialize_with = "duration::deserialize_some")]
    pub cooldown: Option<Duration>,
}

/// A text that is not shown.
#[derive(Clone, Deserialize)]
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
