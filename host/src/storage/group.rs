//! The rules of a group of write sets, for every database alike: who conflicts, who sees what, what is to be written in the end.
//! Writes nothing itself, so that a set that fails leaves no trace.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{CommitError, Fingerprint, HandledId, OutboxMessage, Write, WriteSet, counter_value};
use crate::names::PluginName;

pub(super) type Key = (PluginName, String);
type Values = HashMap<Key, Option<Bytes>>;

/// What the database held before the group.
pub(super) trait Before {
    type Error;

    fn value(&self, key: &Key) -> Result<Option<Bytes>, Self::Error>;

    fn is_handled(&self, handled: &HandledId) -> Result<bool, Self::Error>;
}

/// The sets of one transaction, as they are to be written.
pub(super) struct Group<'a, B> {
    before: B,
    /// The next number of appends, messages and letters.
    next: &'a mut u64,
    /// What keys hold after the sets so far; none where deleted. Keys that no set wrote are not in it.
    values: Values,
    handled: HashSet<HandledId>,
    messages: Vec<(u64, OutboxMessage)>,
}

/// What a group comes to.
pub(super) struct Written {
    /// In the order of the tree, so that neighbours are found where the one before was.
    pub(super) values: Vec<(Key, Option<Bytes>)>,
    pub(super) messages: Vec<(u64, OutboxMessage)>,
    pub(super) handled: HashSet<HandledId>,
}

impl<'a, B: Before> Group<'a, B> {
    pub(super) fn new(before: B, next: &'a mut u64) -> Self {
        Self { before, next, values: HashMap::new(), handled: HashSet::new(), messages: Vec::new() }
    }

    pub(super) fn number(&mut self) -> u64 {
        *self.next += 1;
        *self.next - 1
    }

    /// Takes a set in, after those before it, or says why not. An error of the database is the whole group's.
    pub(super) fn add(&mut self, set: WriteSet) -> Result<Result<(), CommitError>, B::Error> {
        for (at, handled) in set.handled.iter().enumerate() {
            // Twice in one set is twice as well: messages that share a commit may have come with one id.
            if set.handled[..at].contains(handled) || self.handled.contains(handled) || self.before.is_handled(handled)? {
                return Ok(Err(CommitError::AlreadyHandled));
            }
        }
        let plugin = set.plugin;
        for (key, read) in set.reads {
            let now = self.value(&(plugin.clone(), key))?;
            if now.as_deref().map(Fingerprint::of) != read {
                return Ok(Err(CommitError::Conflict));
            }
        }
        let values = match self.resolve(&plugin, set.writes)? {
            Ok(values) => values,
            Err(error) => return Ok(Err(error)),
        };
        self.values.extend(values);
        self.handled.extend(set.handled);
        for message in set.messages {
            self.publish(message);
        }
        Ok(Ok(()))
    }

    /// Puts a message behind those so far.
    pub(super) fn publish(&mut self, message: OutboxMessage) {
        let seq = self.number();
        self.messages.push((seq, message));
    }

    pub(super) fn finish(self) -> Written {
        let mut values: Vec<_> = self.values.into_iter().collect();
        values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Written { values, messages: self.messages, handled: self.handled }
    }

    /// What a set leaves in the keys it writes.
    fn resolve(&mut self, plugin: &PluginName, writes: Vec<Write>) -> Result<Result<Values, CommitError>, B::Error> {
        let mut values = Values::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Put { key, value } => drop(values.insert((plugin.clone(), key), Some(value))),
                Write::Delete { key } => drop(values.insert((plugin.clone(), key), None)),
                Write::Append { prefix, value } => {
                    let key = format!("{prefix}{:020}", self.number());
                    values.insert((plugin.clone(), key), Some(value));
                }
                Write::Add { key, delta } => {
                    let key = (plugin.clone(), key);
                    let before = match values.get(&key) {
                        Some(value) => value.clone(),
                        None => self.value(&key)?,
                    };
                    let Some(before) = counter_value(before.as_deref()) else {
                        return Ok(Err(CommitError::NotACounter { key: key.1 }));
                    };
                    let after = before.saturating_add(delta).to_le_bytes();
                    values.insert(key, Some(Bytes::copy_from_slice(&after)));
                }
            }
        }
        Ok(Ok(values))
    }

    fn value(&self, key: &Key) -> Result<Option<Bytes>, B::Error> {
        match self.values.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.before.value(key),
        }
    }
}
