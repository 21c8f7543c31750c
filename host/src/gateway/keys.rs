//! The section `[auth]` and the keys that tokens are checked with. A key pins its algorithm when it is loaded; nothing that a
//! token says may change it. Never shows a secret, in an error or in a log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use schemars::JsonSchema;
use serde::Deserialize;

use super::token::{ClaimNames, MAX_KID};
use crate::duration;
use crate::names;

pub(super) mod material;

/// The secret that `hubbub dev` signs with. In no other place is it accepted.
pub const DEV_SECRET: &str = "dev-secret";

/// The shortest admin token and API key that `serve` takes, in bytes: 128 bits, where it is random.
pub const LEAST_SECRET: usize = 16;

/// The most entries of `auth.keys`. More fails loading.
const MAX_ENTRIES: usize = 64;

/// The shortest `refresh`, so that a typing error does not become an attack on the issuer. Less fails loading.
const MIN_REFRESH: Duration = Duration::from_millis(100);

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

/// The algorithms of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    ES256,
    EdDSA,
}

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            "RS256" => Self::RS256,
            "ES256" => Self::ES256,
            "EdDSA" => Self::EdDSA,
            _ => return None,
        })
    }

    pub(crate) fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::HS384 => Self::HS384,
            Algorithm::HS512 => Self::HS512,
            Algorithm::RS256 => Self::RS256,
            Algorithm::ES256 => Self::ES256,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// A text that is not shown.
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

/// Why the keys cannot be loaded. Names the key.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("no key to check tokens with: set JWT_SECRET or add one to auth.keys")]
    NoKeys,
    #[error("auth.{0}")]
    Setting(&'static str),
    #[error("the key {name} {why}")]
    Key { name: String, why: KeyError },
}

/// What is wrong with a key.
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
    #[error("is pinned to {0:?}, which does not fit what it is made of")]
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
    Set(#[from] super::jwks::SetError),
    #[error("cannot be fetched: {0}")]
    Client(String),
    #[error("is one of more than {0} keys that a token without a key id would have to be tried with: give them a kid or an iss")]
    TooManyAlike(usize),
}

/// A key, ready to check signatures.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// Whether `signature` (base64url) is this key's over `signed`, by the algorithm that the key is pinned to.
    pub(super) fn signed(&self, signed: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.decoding, self.algorithm.into()).unwrap_or(false)
    }
}

/// What all keys of one entry have in common.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    pub(super) issuer: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) tenant: Option<Arc<str>>,
    namespaces: Vec<String>,
}

impl Entry {
    pub(super) fn opens(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|pattern| matches(pattern, namespace))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.namespaces.is_empty()
            || other.namespaces.is_empty()
            || self
                .namespaces
                .iter()
                .any(|own| other.namespaces.iter().any(|its| own == its || matches(own, its) || matches(its, own)))
    }

    /// Whether one token could be for the keys of both.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.overlaps(other)
    }
}

/// Whether a namespace is meant by a pattern: the same, or with one non-empty part where the parameter is.
fn matches(pattern: &str, namespace: &str) -> bool {
    match pattern.split_once('{') {
        None => pattern == namespace,
        Some((start, _)) => namespace.strip_prefix(start).is_some_and(|part| !part.is_empty() && !part.contains('/')),
    }
}

/// Where an entry's keys come from.
pub(super) enum Origin {
    Fixed(Key),
    Set(super::jwks::Settings),
}

/// Checks the settings and every entry. Reads secret and PEM files; sets are only described.
pub(super) fn load(config: &Config, dev: bool) -> Result<Vec<(Entry, Origin)>, LoadError> {
    check_settings(config)?;
    let load_entry = |(index, key): (usize, &KeyConfig)| {
        let name = key.name.clone().unwrap_or_else(|| format!("auth.keys[{index}]"));
        let origin = load_origin(key, if dev { None } else { Some(config.min_secret_bytes) }, dev);
        let origin = origin.and_then(|origin| check_namespaces(&key.namespaces).map(|()| origin));
        let origin = origin.map_err(|why| LoadError::Key { name: name.clone(), why })?;
        let entry = Entry {
            name: name.into(),
            issuer: key.iss.clone(),
            audiences: key.aud.clone(),
            tenant: key.tenant.as_deref().map(Into::into),
            namespaces: key.namespaces.clone(),
        };
        Ok((entry, origin))
    };
    config.keys.iter().enumerate().map(load_entry).collect()
}

fn check_settings(config: &Config) -> Result<(), LoadError> {
    if config.keys.is_empty() {
        return Err(LoadError::NoKeys);
    }
    if config.keys.len() > MAX_ENTRIES {
        return Err(LoadError::Setting("keys has more than 64 entries"));
    }
    if config.max_token_bytes == 0 {
        return Err(LoadError::Setting("max_token_bytes is 0: no token would be accepted"));
    }
    if config.default_tenant.as_ref().is_some_and(|tenant| names::check("tenant", tenant).is_err()) {
        return Err(LoadError::Setting("default_tenant is empty, over 256 bytes, or has control characters"));
    }
    if config.claims.user_id.is_empty() {
        return Err(LoadError::Setting("claims.user_id is empty: no token would have a user"));
    }
    Ok(())
}

fn check_namespaces(patterns: &[String]) -> Result<(), KeyError> {
    let is_path = |path: &str| path.starts_with('/') && !path.contains(['{', '}', ',', '?']);
    let is_pattern = |pattern: &str| match pattern.split_once('{') {
        None => is_path(pattern),
        Some((start, parameter)) => {
            let name = parameter.strip_suffix('}').unwrap_or_default();
            is_path(start) && start.ends_with('/') && !name.is_empty() && !name.contains(['{', '}', '/'])
        }
    };
    match patterns.iter().find(|pattern| !is_pattern(pattern)) {
        Some(wrong) => Err(KeyError::Namespace(wrong.clone())),
        None => Ok(()),
    }
}

fn load_origin(key: &KeyConfig, least_secret: Option<usize>, dev: bool) -> Result<Origin, KeyError> {
    let sources = [
        key.secret.is_some(),
        key.secret_file.is_some(),
        key.public_key_file.is_some(),
        key.jwks_file.is_some(),
        key.jwks_url.is_some(),
    ];
    let count = sources.iter().filter(|set| **set).count();
    if count != 1 {
        return Err(KeyError::Sources(count));
    }
    if key.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
        return Err(KeyError::Kid);
    }
    if key.tenant.as_ref().is_some_and(|tenant| names::check("tenant", tenant).is_err()) {
        return Err(KeyError::Tenant);
    }
    if let Some(location) = set_location(key, dev)? {
        return set_settings(key, location).map(Origin::Set);
    }
    let for_sets = [
        ("refresh", key.refresh.is_some()),
        ("timeout", key.timeout.is_some()),
        ("max_bytes", key.max_bytes.is_some()),
        ("cooldown", key.cooldown.is_some()),
    ];
    if let Some((setting, _)) = for_sets.into_iter().find(|(_, set)| *set) {
        return Err(KeyError::NotForIt(setting, "a JWKS"));
    }
    let (algorithm, decoding) = match (&key.secret, &key.secret_file, &key.public_key_file) {
        (Some(secret), ..) => material::secret(secret.expose().as_bytes(), key.alg, least_secret)?,
        (None, Some(path), _) => material::secret(material::without_line_end(&read(path)?), key.alg, least_secret)?,
        (None, None, Some(path)) => material::public_pem(&read(path)?, key.alg)?,
        (None, None, None) => return Err(KeyError::Sources(0)),
    };
    Ok(Origin::Fixed(Key { kid: key.kid.clone(), algorithm, decoding }))
}

fn set_location(key: &KeyConfig, dev: bool) -> Result<Option<super::jwks::Location>, KeyError> {
    use super::jwks::Location;
    if let Some(path) = &key.jwks_file {
        return Ok(Some(Location::File(path.clone())));
    }
    key.jwks_url.as_ref().map(|url| Location::url(url, dev).ok_or(KeyError::Url)).transpose()
}

fn set_settings(key: &KeyConfig, location: super::jwks::Location) -> Result<super::jwks::Settings, KeyError> {
    if key.kid.is_some() {
        return Err(KeyError::NotForIt("kid", "a single key"));
    }
    if let Some(algorithm) = key.alg.filter(|algorithm| algorithm.is_symmetric()) {
        return Err(KeyError::Algorithm(algorithm));
    }
    let settings = super::jwks::Settings::new(location, key);
    if settings.refresh < MIN_REFRESH {
        return Err(KeyError::Refresh);
    }
    Ok(settings)
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    std::fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })
}
