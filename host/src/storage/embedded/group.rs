//! The rules of a group of write sets: who conflicts, who sees what, what is written in the end. Writes nothing before the whole
//! group is known, so that a set that fails leaves no trace.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rusqlite::Result;

use super::super::{CommitError, Fingerprint, HandledId, OutboxMessage, Write, WriteSet, counter_value};
use super::rows::{Rows, Sequence};
use crate::names::PluginName;

type Key = (PluginName, String);
type Values = HashMap<Key, Option<Bytes>>;

/// The sets of one transaction, as they will be written.
pub(super) struct Group<'a> {
    rows: Rows<'a>,
    sequence: &'a mut Sequence,
    /// What keys hold after the sets so far; none where deleted. Keys that no set wrote are not in it.
    values: Values,
    handled: HashSet<HandledId>,
    messages: Vec<(u64, OutboxMessage)>,
}

impl<'a> Group<'a> {
    pub(super) fn new(rows: Rows<'a>, sequence: &'a mut Sequence) -> Self {
        Self { rows, sequence, values: HashMap::new(), handled: HashSet::new(), messages: Vec::new() }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.sequence.take()
    }

    /// Takes a set in, after those before it, or says why not. An error of the disk is the whole group's.
    pub(super) fn add(&mut self, set: WriteSet) -> Result<std::result::Result<(), CommitError>> {
        for handled in &set.handled {
            if self.handled.contains(handled) || self.rows.is_handled(handled)? {
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
            let seq = self.sequence.take();
            self.messages.push((seq, message));
        }
        Ok(Ok(()))
    }

    /// What a set leaves in the keys it writes.
    fn resolve(&mut self, plugin: &PluginName, writes: Vec<Write>) -> Result<std::result::Result<Values, CommitError>> {
        let mut values = Values::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Put { key, value } => drop(values.insert((plugin.clone(), key), Some(value))),
                Write::Delete { key } => drop(values.insert((plugin.clone(), key), None)),
                Write::Append { prefix, value } => {
                    let key = format!("{prefix}{:020}", self.sequence.take());
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

    fn value(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.values.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.rows.get(&key.0, &key.1),
        }
    }

    /// Writes what the sets have come to. Ids that were handled before `forget_ms` may be forgotten.
    pub(super) fn write(self, now_ms: u64, forget_ms: u64) -> Result<Option<u64>> {
        let mut values: Vec<_> = self.values.into_iter().collect();
        // In the order of the tree, neighbours are found where the one before was.
        values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for ((plugin, key), value) in &values {
            match value {
                Some(value) => self.rows.put(plugin, key, value)?,
                None => self.rows.delete(plugin, key)?,
            }
        }
        for (seq, message) in &self.messages {
            self.rows.put_message(*seq, message)?;
        }
        for handled in &self.handled {
            self.rows.put_handled(handled, now_ms)?;
        }
        if !self.handled.is_empty() {
            self.rows.sweep_handled(forget_ms)?;
        }
        self.rows.reserve(self.sequence)
    }
}
