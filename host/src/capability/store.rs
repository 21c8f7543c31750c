//! `store.wit`: reads go to storage and include the call's own writes; writes are collected.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::sandbox::imports::store::{Entry, Error, Host};
use crate::storage::{Fingerprint, HOST_KEYS, MAX_KEY, Write, counter_value};
use crate::transaction::state::State;

const FIRST_KEY: &str = "\u{1}";
const PAST_KEYS: &str = "\u{10ffff}";

/// The largest value, in bytes.
const MAX_VALUE: usize = 256 << 10;

/// The most entries that one import reads.
const MAX_SCAN: u32 = 1000;

/// Digits that `append` adds to a prefix.
const APPEND_DIGITS: usize = 20;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for State {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.import()?;
        if key.starts_with(HOST_KEYS) {
            return Ok(Err(invalid_key()));
        }
        Ok(self.read(&key).await.map(|value| value.map(Vec::from)))
    }

    async fn get_many(&mut self, keys: Vec<String>) -> Answer<Vec<Option<Vec<u8>>>> {
        // Each key counts as an import, although they are read together.
        for _ in 0..keys.len().max(1) {
            self.import()?;
        }
        if keys.len() > MAX_SCAN as usize {
            return Ok(Err(Error::InvalidKey(format!("at most {MAX_SCAN} keys are read at once"))));
        }
        if keys.iter().any(|key| key.starts_with(HOST_KEYS)) {
            return Ok(Err(invalid_key()));
        }
        Ok(self.read_many(&keys).await.map(|values| values.into_iter().map(|value| value.map(Vec::from)).collect()))
    }

    fn put(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        self.write(key.len() + value.len(), Write::Put { key, value: value.into() })
    }

    fn append(&mut self, prefix: String, value: Vec<u8>) -> Answer<()> {
        self.write(prefix.len() + value.len(), Write::Append { prefix, value: value.into() })
    }

    fn delete(&mut self, key: String) -> Answer<()> {
        self.write(key.len(), Write::Delete { key })
    }

    async fn scan(&mut self, start: String, end: String, limit: u32, reverse: bool) -> Answer<Vec<Entry>> {
        self.import()?;
        let limit = limit.clamp(1, MAX_SCAN) as usize;
        let found = self.read_range(&start, &end, limit, reverse).await;
        Ok(found.map(|found| found.into_iter().map(|(key, value)| Entry { key, value: value.into() }).collect()))
    }

    fn add(&mut self, key: String, delta: i64) -> Answer<()> {
        self.write(key.len() + 8, Write::Add { key, delta })
    }

    async fn counter(&mut self, key: String) -> Answer<i64> {
        self.import()?;
        if key.starts_with(HOST_KEYS) {
            return Ok(Err(invalid_key()));
        }
        let value = self.read(&key).await;
        Ok(value.and_then(|value| counter_value(value.as_deref()).ok_or(Error::NotACounter)))
    }
}

impl State {
    fn write(&mut self, bytes: usize, write: Write) -> Answer<()> {
        if self.effect(bytes)?.is_err() {
            // The interface has no error for this case.
            return Ok(Err(Error::Unavailable));
        }
        let (longest, value) = match &write {
            Write::Put { key, value } => (key.len(), value.len()),
            Write::Append { prefix, value } => (prefix.len() + APPEND_DIGITS, value.len()),
            Write::Delete { key } | Write::Add { key, .. } => (key.len(), 0),
        };
        let named = match &write {
            Write::Append { prefix, .. } => prefix,
            Write::Put { key, .. } | Write::Delete { key } | Write::Add { key, .. } => key,
        };
        if longest == 0 || longest > MAX_KEY || named.starts_with(HOST_KEYS) {
            return Ok(Err(invalid_key()));
        }
        if value > MAX_VALUE {
            return Ok(Err(Error::ValueTooLarge));
        }
        let more = self.call.effects.stored + write.added();
        if more > self.call.effects.stored && !self.profile.usage.has_store_room(more) {
            self.call.over = Some("Too much is stored");
            return Ok(Err(Error::ValueTooLarge));
        }
        self.call.effects.stored = more;
        self.call.effects.writes.push(write);
        Ok(Ok(()))
    }

    pub(super) async fn read(&mut self, key: &str) -> Result<Option<Bytes>, Error> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(invalid_key());
        }
        let stored = self.services.storage.get(&self.profile.name, key).await;
        let stored = stored.map_err(|_| self.unavailable())?;
        self.record_read(key, stored)
    }

    async fn read_many(&mut self, keys: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.iter().any(|key| key.is_empty() || key.len() > MAX_KEY) {
            return Err(invalid_key());
        }
        let stored = self.services.storage.get_many(&self.profile.name, keys).await;
        let stored = stored.map_err(|_| self.unavailable())?;
        // A set: searching all reads for each of a thousand keys would take a fifth of the call's CPU.
        let mut known: HashSet<String> = self.call.effects.reads.iter().map(|(read, _)| read.clone()).collect();
        let see = |(key, stored): (&String, Option<Bytes>)| {
            if known.insert(key.clone()) {
                self.call.effects.reads.push((key.clone(), stored.as_deref().map(Fingerprint::of)));
            }
            self.with_own_writes(key, stored)
        };
        keys.iter().zip(stored).map(see).collect()
    }

    /// Records the read, to be checked at commit. Returns the value with the call's own writes.
    fn record_read(&mut self, key: &str, stored: Option<Bytes>) -> Result<Option<Bytes>, Error> {
        let reads = &mut self.call.effects.reads;
        // The first value that was read is the one that the handler used.
        if !reads.iter().any(|(read, _)| read == key) {
            reads.push((key.to_owned(), stored.as_deref().map(Fingerprint::of)));
        }
        self.with_own_writes(key, stored)
    }

    /// The value of a key for this call.
    fn with_own_writes(&self, key: &str, stored: Option<Bytes>) -> Result<Option<Bytes>, Error> {
        self.call
            .effects
            .writes
            .iter()
            .filter(|write| write.key() == Some(key))
            .try_fold(stored, |value, write| apply(write, value))
    }

    fn unavailable(&mut self) -> Error {
        self.call.storage_away = true;
        Error::Unavailable
    }

    async fn read_range(&mut self, start: &str, end: &str, limit: usize, reverse: bool) -> Result<Vec<(String, Bytes)>, Error> {
        if start.len() > MAX_KEY || end.len() > MAX_KEY || start.starts_with(HOST_KEYS) {
            return Err(invalid_key());
        }
        // The host's own keys come before all others. Empty bounds mean every key.
        let end = if start.is_empty() && end.is_empty() { PAST_KEYS } else { end };
        let start = if start.is_empty() { FIRST_KEY } else { start };
        // Extra entries for those that this call may have deleted.
        let more = limit + self.call.effects.writes.len();
        let found = self.services.storage.scan(&self.profile.name, start, end, more, reverse).await;
        let found = found.map_err(|_| self.unavailable())?;
        let mut entries: BTreeMap<String, Bytes> = found.into_iter().collect();
        let within = |key: &str| key >= start && if end.is_empty() { key.starts_with(start) } else { key < end };
        for write in &self.call.effects.writes {
            let Some(key) = write.key().filter(|key| within(key)) else { continue };
            if let Some(value) = apply(write, entries.remove(key))? {
                entries.insert(key.to_owned(), value);
            }
        }
        Ok(if reverse { entries.into_iter().rev().take(limit).collect() } else { entries.into_iter().take(limit).collect() })
    }
}

/// The value of a key after a pending write.
fn apply(write: &Write, value: Option<Bytes>) -> Result<Option<Bytes>, Error> {
    Ok(match write {
        Write::Put { value, .. } => Some(value.clone()),
        Write::Delete { .. } => None,
        Write::Append { .. } => value,
        Write::Add { delta, .. } => {
            let before = counter_value(value.as_deref()).ok_or(Error::NotACounter)?;
            Some(Bytes::copy_from_slice(&before.saturating_add(*delta).to_le_bytes()))
        }
    })
}

fn invalid_key() -> Error {
    Error::InvalidKey(format!("a key has 1 to {MAX_KEY} bytes, and does not begin with a NUL"))
}
