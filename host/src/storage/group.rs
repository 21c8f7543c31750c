//! The rules of a group of write sets, for every database: conflicts, visibility, and the resulting writes. Writes nothing
//! itself, so a failed set leaves no trace.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{CommitError, Fingerprint, FirstReply, HandledId, OutboxMessage, Write, WriteSet, counter_value};
use crate::names::PluginName;

pub(super) type Key = (PluginName, String);
type Values = HashMap<Key, Option<Bytes>>;

/// The database's state before the group.
pub(super) trait Before {
    type Error;

    fn value(&self, key: &Key) -> Result<Option<Bytes>, Self::Error>;

    fn is_handled(&self, handled: &HandledId) -> Result<bool, Self::Error>;

    /// Whether an earlier reply is stored, and not too old.
    fn is_replied(&self, reply: &FirstReply) -> Result<bool, Self::Error>;
}

/// The sets of one transaction, before they are written.
pub(super) struct Group<'a, B> {
    before: B,
    /// The next number of appends, messages and letters.
    next: &'a mut u64,
    /// The values of keys after the sets so far; none if deleted. Contains only keys that a set wrote.
    values: Values,
    handled: HashSet<HandledId>,
    first_replies: Vec<(PluginName, FirstReply)>,
    /// Their owners and keys.
    replied: HashSet<(String, String)>,
    messages: Vec<(u64, OutboxMessage)>,
}

/// The result of a group.
pub(super) struct Written {
    /// In key order, so that neighbouring keys are written together.
    pub(super) values: Vec<(Key, Option<Bytes>)>,
    pub(super) messages: Vec<(u64, OutboxMessage)>,
    pub(super) handled: HashSet<HandledId>,
    /// In the order of their sets.
    pub(super) first_replies: Vec<(PluginName, FirstReply)>,
}

impl<'a, B: Before> Group<'a, B> {
    pub(super) fn new(before: B, next: &'a mut u64) -> Self {
        let (values, handled, replied) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { before, next, values, handled, first_replies: Vec::new(), replied, messages: Vec::new() }
    }

    pub(super) fn number(&mut self) -> u64 {
        *self.next += 1;
        *self.next - 1
    }

    /// Adds a set after those before it, or returns why it fails. An error of the database fails the whole group.
    pub(super) fn add(&mut self, set: WriteSet) -> Result<Result<(), CommitError>, B::Error> {
        for (at, handled) in set.handled.iter().enumerate() {
            // Within one set as well: messages that share a commit may have the same id.
            if set.handled[..at].contains(handled) || self.handled.contains(handled) || self.before.is_handled(handled)? {
                return Ok(Err(CommitError::AlreadyHandled));
            }
        }
        let replied = set.first_reply.as_ref().map(|reply| (reply.owner.clone(), reply.key.clone()));
        if let (Some(reply), Some(names)) = (&set.first_reply, &replied)
            && (self.replied.contains(names) || self.before.is_replied(reply)?)
        {
            return Ok(Err(CommitError::Conflict));
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
        self.replied.extend(replied);
        self.first_replies.extend(set.first_reply.map(|reply| (plugin, reply)));
        for message in set.messages {
            self.publish(message);
        }
        Ok(Ok(()))
    }

    /// Appends a message to the group's messages.
    pub(super) fn publish(&mut self, message: OutboxMessage) {
        let seq = self.number();
        self.messages.push((seq, message));
    }

    pub(super) fn finish(self) -> Written {
        let mut values: Vec<_> = self.values.into_iter().collect();
        values.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Written { values, messages: self.messages, handled: self.handled, first_replies: self.first_replies }
    }

    /// The values that a set writes.
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
