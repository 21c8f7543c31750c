//! Loads the keys of `[auth]`: checks every entry, and reads secret and PEM files. Key sets are not read here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, KeyConfig};
use super::jwks::{Location, Settings};
use super::keys::{Key, KeyError, material};
use super::token::MAX_KID;
use crate::names;

/// The most entries of `auth.keys`. With more, loading fails.
const MAX_ENTRIES: usize = 64;

/// The shortest `refresh`, so that a typing error does not flood the issuer. With less, loading fails.
const MIN_REFRESH: Duration = Duration::from_millis(100);

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

/// The properties that all keys of one entry share.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) issuer: Option<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) tenant: Option<Arc<str>>,
    namespaces: Vec<String>,
}

impl Entry {
    pub(crate) fn opens(&self, namespace: &str) -> bool {
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

    /// Whether one token could match the keys of both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.overlaps(other)
    }
}

/// Whether a pattern matches a namespace: equal, or with one non-empty part in place of the parameter.
fn matches(pattern: &str, namespace: &str) -> bool {
    match pattern.split_once('{') {
        None => pattern == namespace,
        Some((start, _)) => namespace.strip_prefix(start).is_some_and(|part| !part.is_empty() && !part.contains('/')),
    }
}

/// The source of an entry's keys.
pub(crate) enum Origin {
    Fixed(Key),
    Set(Settings),
}

/// Checks the settings and every entry. Reads secret and PEM files, but no sets.
pub(crate) fn load(config: &Config, dev: bool) -> Result<Vec<(Entry, Origin)>, LoadError> {
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

fn set_location(key: &KeyConfig, dev: bool) -> Result<Option<Location>, KeyError> {
    if let Some(path) = &key.jwks_file {
        return Ok(Some(Location::File(path.clone())));
    }
    key.jwks_url.as_ref().map(|url| Location::url(url, dev).ok_or(KeyError::Url)).transpose()
}

fn set_settings(key: &KeyConfig, location: Location) -> Result<Settings, KeyError> {
    if key.kid.is_some() {
        return Err(KeyError::NotForIt("kid", "a single key"));
    }
    if let Some(algorithm) = key.alg.filter(|algorithm| algorithm.is_symmetric()) {
        return Err(KeyError::Algorithm(algorithm));
    }
    let settings = Settings::new(location, key);
    if settings.refresh < MIN_REFRESH {
        return Err(KeyError::Refresh);
    }
    Ok(settings)
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    std::fs::read(path).map_err(|source| KeyError::File { path: path.to_owned(), source })
}
