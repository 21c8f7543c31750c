//! Durable keys, the plugin's own, ordered by their bytes; values are JSON. Nothing is written before the call has succeeded, and
//! every key that was read is checked then, so a handler must depend on nothing but its arguments and its imports.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::{bindings::hubbub::plugin::store as contract, host};

/// Why the store refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The key is empty or over 512 bytes, or there are over 1000 of them.
    InvalidKey(String),
    /// The value is over 256 KiB.
    ValueTooLarge,
    /// `add` or `counter` of a key whose value is not a counter.
    NotACounter,
    /// Storage does not answer.
    Unavailable,
    /// The value does not fit the type. Names the key.
    WrongValue(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey(why) => write!(f, "invalid store key: {why}"),
            Self::ValueTooLarge => f.write_str("the value is too large for the store"),
            Self::NotACounter => f.write_str("the stored value is not a counter"),
            Self::Unavailable => f.write_str("storage does not answer"),
            Self::WrongValue(why) => write!(f, "the stored value does not fit its type: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<contract::Error> for Error {
    #[cold]
    fn from(error: contract::Error) -> Self {
        match error {
            contract::Error::InvalidKey(why) => Self::InvalidKey(why),
            contract::Error::ValueTooLarge => Self::ValueTooLarge,
            contract::Error::NotACounter => Self::NotACounter,
            contract::Error::Unavailable => Self::Unavailable,
        }
    }
}

/// A key of several parts, joined by `/`. A `/` or `%` inside a part is escaped, so that no id of a client's can reach into
/// another's keys.
///
/// ```
/// use hubbub_sdk::store::key;
/// assert_eq!(key(["own", "chat1", "u1"]), "own/chat1/u1");
/// assert_eq!(key(["own", "chat1/u1", ""]), "own/chat1%2Fu1/");
/// ```
pub fn key<const N: usize>(parts: [&str; N]) -> String {
    join(String::with_capacity(length(&parts)), &parts)
}

/// A key of what belongs to a tenant: `%t/`, the tenant, and the parts. Without a tenant exactly [`key`] of the parts. No two
/// tenants' keys are equal, and no tenant's key is ever one without a tenant: in those, `%` stands only before `25` and `2F`.
///
/// ```
/// use hubbub_sdk::store::tenant_key;
/// assert_eq!(tenant_key(Some("acme"), ["threads", "1"]), "%t/acme/threads/1");
/// assert_eq!(tenant_key(None, ["threads", "1"]), "threads/1");
/// assert_ne!(tenant_key(Some("acme"), ["threads", "1"]), tenant_key(None, ["%t", "acme", "threads", "1"]));
/// ```
pub fn tenant_key<const N: usize>(tenant: Option<&str>, parts: [&str; N]) -> String {
    join(of_tenant(tenant, length(&parts)), &parts)
}

/// As [`tenant_key`], of a key that exists already: `key_of_tenant(tenant, &key(parts))` is `tenant_key(tenant, parts)`.
pub fn key_of_tenant(tenant: Option<&str>, key: &str) -> String {
    let mut whole = of_tenant(tenant, key.len());
    whole.push_str(key);
    whole
}

/// What a tenant's key begins with, with room for the rest.
fn of_tenant(tenant: Option<&str>, rest: usize) -> String {
    let Some(tenant) = tenant else { return String::with_capacity(rest) };
    let mut key = String::with_capacity(TENANT.len() + tenant.len() + 1 + rest);
    key.push_str(TENANT);
    push(&mut key, tenant);
    key.push('/');
    key
}

/// The beginning of a tenant's keys.
const TENANT: &str = "%t/";

fn length(parts: &[&str]) -> usize {
    parts.iter().map(|part| part.len() + 1).sum()
}

fn join(mut key: String, parts: &[&str]) -> String {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push('/');
        }
        push(&mut key, part);
    }
    key
}

fn push(key: &mut String, part: &str) {
    // Bytes, not characters: this is on the way of every message, and both are ASCII.
    if part.bytes().any(|byte| matches!(byte, b'/' | b'%')) {
        key.push_str(&part.replace('%', "%25").replace('/', "%2F"));
    } else {
        key.push_str(part);
    }
}

/// The value of a key; absent if there is none. Sees this call's own writes.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    host::store::get(key)?.map(|value| decode(key, &value)).transpose()
}

/// The values of several keys (1–1000), in the order of the keys; absent where there is none. Storage is read once for all of
/// them: on PostgreSQL a call that reads them one by one waits for an answer as often.
///
/// ```
/// # use hubbub_sdk::{Result, store};
/// # fn names(ids: &[&str]) -> Result<()> {
/// let keys: Vec<_> = ids.iter().map(|id| store::key(["name", id])).collect();
/// let names: Vec<Option<String>> = store::get_many(&keys)?;
/// # Ok(()) }
/// ```
pub fn get_many<T: DeserializeOwned>(keys: &[String]) -> Result<Vec<Option<T>>, Error> {
    let values = host::store::get_many(keys)?;
    let decoded = keys.iter().zip(values).map(|(key, value)| value.map(|value| decode(key, &value)).transpose());
    decoded.collect()
}

/// The value of a key as its JSON text, to be read by a type that borrows from it.
pub fn text(key: &str) -> Result<Option<String>, Error> {
    host::store::get(key)?.map(|value| utf8(key, value)).transpose()
}

/// As [`text`], of several keys at once.
pub fn texts(keys: &[String]) -> Result<Vec<Option<String>>, Error> {
    let values = keys.iter().zip(host::store::get_many(keys)?);
    values.map(|(key, value)| value.map(|value| utf8(key, value)).transpose()).collect()
}

fn utf8(key: &str, value: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(value).map_err(|error| Error::WrongValue(format!("{key}: {error}")))
}

/// Writes a key when the call succeeds.
pub fn put<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    Ok(host::store::put(key, &encode(key, value)?)?)
}

/// Writes a new key when the call succeeds: `prefix` and 20 digits that grow in the order in which calls are committed, which
/// is the order in which their emits are sent. So a scan of `prefix` replays what a room saw.
pub fn append<T: Serialize + ?Sized>(prefix: &str, value: &T) -> Result<(), Error> {
    Ok(host::store::append(prefix, &encode(prefix, value)?)?)
}

/// Deletes a key when the call succeeds. Idempotent.
pub fn delete(key: &str) -> Result<(), Error> {
    Ok(host::store::delete(key)?)
}

/// Adds to a counter when the call succeeds; an absent one is 0. Never a conflict, however many add at once.
pub fn add(key: &str, delta: i64) -> Result<(), Error> {
    Ok(host::store::add(key, delta)?)
}

/// The value of a counter; an absent one is 0. Sees this call's own `add`s.
pub fn counter(key: &str) -> Result<i64, Error> {
    Ok(host::store::counter(key)?)
}

/// The entries whose keys begin with `prefix`, from the lowest. See [`Scan`].
pub fn prefix(prefix: &str) -> Scan<'_> {
    Scan { prefix, from: None, before: None, reverse: false }
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<T> {
    /// The whole key.
    pub key: String,
    /// The value.
    pub value: T,
}

/// A range of keys, made by [`prefix`].
///
/// ```
/// # use hubbub_sdk::{Result, store};
/// # fn page(cursor: &str) -> Result<()> {
/// let newest = store::prefix("messages/chat1/").before(cursor).reverse().read::<String>(50)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing is read before `read`"]
pub struct Scan<'a> {
    prefix: &'a str,
    from: Option<&'a str>,
    before: Option<&'a str>,
    reverse: bool,
}

impl<'a> Scan<'a> {
    /// Only keys from this one on. It must begin with the prefix.
    pub fn from(mut self, key: &'a str) -> Self {
        self.from = Some(key);
        self
    }

    /// Only keys before this one. It must begin with the prefix.
    pub fn before(mut self, key: &'a str) -> Self {
        self.before = Some(key);
        self
    }

    /// From the highest key down.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// At most `limit` entries (1–1000), which are not checked for conflicts.
    pub fn read<T: DeserializeOwned>(self, limit: u32) -> Result<Vec<Entry<T>>, Error> {
        let entries = self.entries(limit)?.into_iter();
        entries.map(|entry| Ok(Entry { value: decode(&entry.key, &entry.value)?, key: entry.key })).collect()
    }

    /// At most `limit` counters (1–1000), which are not checked for conflicts: for who only shows what others add to.
    pub fn counters(self, limit: u32) -> Result<Vec<Entry<i64>>, Error> {
        let entries = self.entries(limit)?.into_iter();
        entries.map(|entry| Ok(Entry { value: count(&entry.value)?, key: entry.key })).collect()
    }

    fn entries(self, limit: u32) -> Result<Vec<contract::Entry>, Error> {
        let start = self.from.unwrap_or(self.prefix);
        // The contract's empty end is "while `start` is the prefix", which is right only where they are the same.
        let end = match (self.before, self.from) {
            (Some(before), _) => before.to_owned(),
            (None, None) => String::new(),
            (None, Some(_)) => after_all(self.prefix),
        };
        Ok(host::store::scan(start, &end, limit, self.reverse)?)
    }
}

/// The lowest key above every key with this prefix.
fn after_all(prefix: &str) -> String {
    let mut chars = prefix.chars();
    while let Some(last) = chars.next_back() {
        // The next scalar value; the gap of the surrogates has none.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            return format!("{}{next}", chars.as_str());
        }
    }
    String::new()
}

fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::WrongValue(format!("{key}: {error}")))
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| Error::WrongValue(format!("{key}: {error}")))
}

/// A counter's value: 8 bytes, little endian.
fn count(value: &[u8]) -> Result<i64, Error> {
    value.try_into().map(i64::from_le_bytes).map_err(|_| Error::NotACounter)
}

#[cfg(test)]
mod tests {
    use super::after_all;

    #[test]
    fn the_end_of_a_prefix_is_above_all_its_keys() {
        assert_eq!(after_all("messages/a/"), "messages/a0");
        assert_eq!(after_all("a\u{10ffff}"), "b");
        assert_eq!(after_all("\u{d7ff}"), "\u{e000}");
    }
}
