//! The store: writes are effects, and reads see them at once.

use std::collections::BTreeMap;

use crate::{
    bindings::hubbub::plugin::store::{Entry, Error},
    harness::{
        World,
        call::{self, Call, Effect},
    },
};

/// The host's limits.
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 256 * 1024;
const MAX_ENTRIES: u32 = 1000;
const POSITION_DIGITS: usize = 20;

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    check(key.len())?;
    read(|call, world| Ok(current(call, world, key)))
}

pub(crate) fn get_many(keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    if keys.len() > MAX_ENTRIES as usize {
        return Err(Error::InvalidKey(format!("at most {MAX_ENTRIES} keys are read at once")));
    }
    keys.iter().map(|key| get(key)).collect()
}

pub(crate) fn put(key: &str, value: &[u8]) -> Result<(), Error> {
    write(key.len(), value.len(), Effect::Put { key: key.to_owned(), value: value.to_owned() })
}

pub(crate) fn append(prefix: &str, value: &[u8]) -> Result<(), Error> {
    let effect = Effect::Append { prefix: prefix.to_owned(), value: value.to_owned() };
    write(prefix.len() + POSITION_DIGITS, value.len(), effect)
}

pub(crate) fn delete(key: &str) -> Result<(), Error> {
    write(key.len(), 0, Effect::Delete { key: key.to_owned() })
}

pub(crate) fn add(key: &str, delta: i64) -> Result<(), Error> {
    counter(key)?;
    write(key.len(), 8, Effect::Add { key: key.to_owned(), delta })
}

pub(crate) fn counter(key: &str) -> Result<i64, Error> {
    check(key.len())?;
    read(|call, world| number(current(call, world, key)))
}

pub(crate) fn scan(start: &str, end: &str, limit: u32, reverse: bool) -> Result<Vec<Entry>, Error> {
    read(|call, world| {
        let within = |key: &str| key >= start && if end.is_empty() { key.starts_with(start) } else { key < end };
        let mut found: BTreeMap<&String, Vec<u8>> = BTreeMap::new();
        let written = call.effects.iter().filter_map(|effect| match effect {
            Effect::Put { key, .. } | Effect::Delete { key } | Effect::Add { key, .. } => Some(key),
            _ => None,
        });
        for key in world.store.keys().chain(written).filter(|key| within(key)) {
            if let Some(value) = current(call, world, key) {
                found.insert(key, value);
            }
        }
        let entry = |(key, value): (&String, Vec<u8>)| Entry { key: key.clone(), value };
        let limit = limit.clamp(1, MAX_ENTRIES) as usize;
        Ok(if reverse {
            found.into_iter().rev().take(limit).map(entry).collect()
        } else {
            found.into_iter().take(limit).map(entry).collect()
        })
    })
}

fn read<T>(act: impl FnOnce(&Call, &World) -> Result<T, Error>) -> Result<T, Error> {
    call::import(|call, world| {
        if world.storage_down || !call.transaction {
            return Err(Error::Unavailable);
        }
        act(call, world)
    })
}

fn write(key: usize, value: usize, effect: Effect) -> Result<(), Error> {
    call::import(|call, world| {
        check(key)?;
        if value > MAX_VALUE {
            return Err(Error::ValueTooLarge);
        }
        if world.storage_down {
            return Err(Error::Unavailable);
        }
        call.collect(effect).map_err(|_| Error::Unavailable)
    })
}

fn check(bytes: usize) -> Result<(), Error> {
    match bytes {
        0 => Err(Error::InvalidKey("a key is not empty".into())),
        1..=MAX_KEY => Ok(()),
        _ => Err(Error::InvalidKey(format!("a key has at most {MAX_KEY} bytes"))),
    }
}

/// The value of a key, with the call's own writes.
fn current(call: &Call, world: &World, key: &str) -> Option<Vec<u8>> {
    let mut value = world.store.get(key).cloned();
    for effect in &call.effects {
        value = after(value, effect, key);
    }
    value
}

/// The value of a key after an effect.
pub(crate) fn after(value: Option<Vec<u8>>, effect: &Effect, wanted: &str) -> Option<Vec<u8>> {
    match effect {
        Effect::Put { key, value } if key == wanted => Some(value.clone()),
        Effect::Delete { key } if key == wanted => None,
        Effect::Add { key, delta } if key == wanted => {
            Some(number(value).unwrap_or_default().saturating_add(*delta).to_le_bytes().to_vec())
        }
        _ => value,
    }
}

fn number(value: Option<Vec<u8>>) -> Result<i64, Error> {
    let Some(value) = value else { return Ok(0) };
    let bytes: [u8; 8] = value.try_into().map_err(|_| Error::NotACounter)?;
    Ok(i64::from_le_bytes(bytes))
}
