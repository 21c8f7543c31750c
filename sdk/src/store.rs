//! The plugin's own durable keys, ordered by their bytes. Values are JSON.
//!
//! Writes are effects: they are stored when the call succeeds, all or none, before any other effect. Every key that was read is
//! checked then: if another call has changed it, this call's effects are dropped and the handler runs again (5 times, then the
//! client is refused as `unavailable`). Reads see the call's own writes, except appends. Entries of a scan are not checked.
//!
//! Limits: a key has 1 to 512 bytes, a value at most 256 KiB, and a plugin at most 10 GiB (`quota.store_bytes`). Cost: a read 1–3 µs
//! from memory; a call that writes waits for one sync of the disk, which it shares with the calls that arrived meanwhile. Storage
//! that does not answer is the refusal `unavailable`; any other error is a mistake of the plugin, and so `internal`.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Refusal, Result, bindings::hubbub::plugin::store as contract, host};

/// A key of several parts, joined by `/`. A `/` or `%` inside a part is escaped, so that an id from a client never names
/// another id's keys.
///
/// ```
/// use hubbub_sdk::store::key;
/// assert_eq!(key(["own", "chat1", "u1"]), "own/chat1/u1");
/// assert_eq!(key(["own", "chat1/u1", ""]), "own/chat1%2Fu1/");
/// ```
pub fn key<const N: usize>(parts: [&str; N]) -> String {
    join(String::with_capacity(length(&parts)), &parts)
}

/// A key of a tenant: `%t/`, the tenant, and the parts. Without a tenant, [`key`] of the parts. Keys of two tenants are never equal,
/// and a tenant's key never equals one without a tenant, because in the latter `%` comes only before `25` and `2F`.
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

/// As [`tenant_key`], for a key that is made already: `key_of_tenant(tenant, &key(parts))` equals `tenant_key(tenant, parts)`.
pub fn key_of_tenant(tenant: Option<&str>, key: &str) -> String {
    let mut whole = of_tenant(tenant, key.len());
    whole.push_str(key);
    whole
}

/// The start of a tenant's keys, with capacity for the rest.
fn of_tenant(tenant: Option<&str>, rest: usize) -> String {
    let Some(tenant) = tenant else { return String::with_capacity(rest) };
    let mut key = String::with_capacity(TENANT.len() + tenant.len() + 1 + rest);
    key.push_str(TENANT);
    push(&mut key, tenant);
    key.push('/');
    key
}

/// Marks a tenant's keys.
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
    // Bytes are faster than characters here, and both of these are ASCII.
    if part.bytes().any(|byte| matches!(byte, b'/' | b'%')) {
        key.push_str(&part.replace('%', "%25").replace('/', "%2F"));
    } else {
        key.push_str(part);
    }
}

/// The value of a key; absent if there is none.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    host::store::get(key)?.map(|value| decode(key, &value)).transpose()
}

/// The values of several keys (1–1000), in the order of the keys; absent where there is none. Storage is read once for all of
/// them, which matters on PostgreSQL: a call that reads keys one by one waits for an answer each time.
///
/// ```
/// # use hubbub_sdk::{Result, store};
/// # fn names(ids: &[&str]) -> Result<()> {
/// let keys: Vec<_> = ids.iter().map(|id| store::key(["name", id])).collect();
/// let names: Vec<Option<String>> = store::get_many(&keys)?;
/// # Ok(()) }
/// ```
pub fn get_many<T: DeserializeOwned>(keys: &[String]) -> Result<Vec<Option<T>>> {
    let values = host::store::get_many(keys)?;
    let decoded = keys.iter().zip(values).map(|(key, value)| value.map(|value| decode(key, &value)).transpose());
    decoded.collect()
}

/// The value of a key as JSON text, for types that borrow from the text.
pub fn text(key: &str) -> Result<Option<String>> {
    host::store::get(key)?.map(|value| utf8(key, value)).transpose()
}

/// As [`text`], of several keys at once.
pub fn texts(keys: &[String]) -> Result<Vec<Option<String>>> {
    let values = keys.iter().zip(host::store::get_many(keys)?);
    values.map(|(key, value)| value.map(|value| utf8(key, value)).transpose()).collect()
}

fn utf8(key: &str, value: Vec<u8>) -> Result<String> {
    String::from_utf8(value).map_err(|error| wrong_value(key, &error))
}

/// Writes a key. The last write of a call to a key wins.
pub fn put<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<()> {
    Ok(host::store::put(key, &encode(key, value)?)?)
}

/// Writes a new key: `prefix` and 20 digits that grow in the order in which calls are committed. Emits are sent in the same order, so
/// a scan of `prefix` gives the messages in the order in which a room received them.
pub fn append<T: Serialize + ?Sized>(prefix: &str, value: &T) -> Result<()> {
    Ok(host::store::append(prefix, &encode(prefix, value)?)?)
}

/// Deletes a key. Idempotent.
pub fn delete(key: &str) -> Result<()> {
    Ok(host::store::delete(key)?)
}

/// Adds to a counter; an absent counter is 0. Calls that add to the same counter never conflict.
pub fn add(key: &str, delta: i64) -> Result<()> {
    Ok(host::store::add(key, delta)?)
}

/// The value of a counter; an absent counter is 0. It is checked like any key that was read: a call that only adds does not read
/// it.
pub fn counter(key: &str) -> Result<i64> {
    Ok(host::store::counter(key)?)
}

/// The entries with keys that begin with `prefix`, from the lowest. See [`Scan`].
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
    /// Starts at this key, which must begin with the prefix.
    pub fn from(mut self, key: &'a str) -> Self {
        self.from = Some(key);
        self
    }

    /// Ends before this key, which must begin with the prefix.
    pub fn before(mut self, key: &'a str) -> Self {
        self.before = Some(key);
        self
    }

    /// From the highest key down.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Reads at most `limit` entries (1–1000), without a check for conflicts.
    pub fn read<T: DeserializeOwned>(self, limit: u32) -> Result<Vec<Entry<T>>> {
        let entries = self.entries(limit)?.into_iter();
        entries.map(|entry| Ok(Entry { value: decode(&entry.key, &entry.value)?, key: entry.key })).collect()
    }

    /// Reads at most `limit` counters (1–1000), without a check for conflicts: a call that only shows counters never runs again.
    pub fn counters(self, limit: u32) -> Result<Vec<Entry<i64>>> {
        let entries = self.entries(limit)?.into_iter();
        entries.map(|entry| Ok(Entry { value: count(&entry.value)?, key: entry.key })).collect()
    }

    fn entries(self, limit: u32) -> Result<Vec<contract::Entry>> {
        let start = self.from.unwrap_or(self.prefix);
        // The contract's empty end means "up to the last key with the prefix `start`".
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
        // The next scalar value. Surrogates are none.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            return format!("{}{next}", chars.as_str());
        }
    }
    String::new()
}

fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| wrong_value(key, &error))
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| wrong_value(key, &error))
}

#[cold]
fn wrong_value(key: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::internal(format_args!("the stored value does not fit its type: {key}: {error}"))
}

/// A counter's value: 8 bytes, little endian.
fn count(value: &[u8]) -> Result<i64> {
    value.try_into().map(i64::from_le_bytes).map_err(|_| contract::Error::NotACounter.into())
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
