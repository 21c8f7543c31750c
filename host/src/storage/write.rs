//! What is written: write sets, bus messages, dead letters, and their limits. Knows no database and no plugin's rules.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use crate::json::{self, InvalidJson};
use crate::names::{self, InvalidName, PluginName};

/// The longest key, in bytes, with an append's digits.
pub const MAX_KEY: usize = 512;

/// Keys that begin with this are the host's. They are stored among the plugin's own, so that one transaction writes both.
pub const HOST_KEYS: char = '\0';

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 256 << 10;

/// Writes and messages of one set.
pub const MAX_SET_WRITES: usize = 256;

/// Bytes of one set: keys, values, topics and data.
pub const MAX_SET_BYTES: usize = 1 << 20;

/// Keys that one set has read.
pub const MAX_READS: usize = 4096;

/// The largest of the host's named values, in bytes.
pub const MAX_BLOB: usize = 64 << 20;

/// Digits that an append adds to its prefix.
pub const APPEND_DIGITS: usize = 20;

/// Everything one call writes, and what it rests on.
#[derive(Debug, Clone)]
pub struct WriteSet {
    pub plugin: PluginName,
    /// Every key that was read, with what it held; none where the key was absent.
    pub reads: Vec<(String, Option<Fingerprint>)>,
    /// In the order made.
    pub writes: Vec<Write>,
    /// For the outbox, in the order made.
    pub messages: Vec<OutboxMessage>,
    /// The bus messages that this set handles: mostly one. If any was handled before, nothing of the set is written.
    pub handled: Vec<HandledId>,
    /// Told when the set's group begins to be written, where somebody asks.
    pub begun: Option<Arc<OnceLock<Instant>>>,
}

/// One change of a plugin's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Put {
        key: String,
        value: Bytes,
    },
    /// A new key: the prefix and 20 digits that grow with every append, in commit order, and are never used twice.
    Append {
        prefix: String,
        value: Bytes,
    },
    Delete {
        key: String,
    },
    /// Adds to a counter, saturating. An absent key is 0.
    Add {
        key: String,
        delta: i64,
    },
}

/// A message on its way to the plugins that want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    pub id: String,
    pub topic: String,
    pub key: Option<String>,
    pub tenant: Option<String>,
    /// JSON as text.
    pub data: String,
    /// How many messages led to this one.
    pub hops: u8,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The `traceparent` of what published it, where that is traced.
    pub trace: Option<String>,
}

/// A message with its place in the order of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub seq: u64,
    pub message: OutboxMessage,
}

/// The id of a bus message, as one plugin has handled it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HandledId {
    pub plugin: PluginName,
    pub id: String,
}

/// Rows that move from one plugin to another: all of them or none. Those that the second plugin has already stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    pub from: PluginName,
    pub to: PluginName,
    /// Keys, with their values.
    pub keys: Vec<String>,
    /// Ids of handled messages with their times in milliseconds since 1970. The first plugin keeps them, too.
    pub handled: Vec<(String, u64)>,
    /// Dead letters, by their sequence numbers.
    pub letters: Vec<u64>,
    /// Rows of the outbox that are addressed to the first plugin, and their bare topics.
    pub messages: Vec<(u64, String)>,
}

/// A message that a plugin could not handle, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub plugin: PluginName,
    pub message: OutboxMessage,
    pub error: String,
}

/// A dead letter as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    pub seq: u64,
    /// When it was given up, in milliseconds since 1970.
    pub at_ms: u64,
    pub letter: DeadLetter,
}

/// A value that was read, to be compared at commit. Good within one process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    len: usize,
}

impl Fingerprint {
    pub fn of(value: &[u8]) -> Self {
        // Keyed at random, so that no plugin can write a value that passes for another.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self { hash: KEY.get_or_init(RandomState::new).hash_one(value), len: value.len() }
    }
}

/// What a counter holds: 8 bytes, little endian; an absent key is 0; anything else is no counter.
pub fn counter_value(value: Option<&[u8]>) -> Option<i64> {
    match value {
        None => Some(0),
        Some(value) => value.try_into().ok().map(i64::from_le_bytes),
    }
}

impl HandOver {
    pub fn new(from: PluginName, to: PluginName) -> Self {
        Self { from, to, keys: Vec::new(), handled: Vec::new(), letters: Vec::new(), messages: Vec::new() }
    }

    /// The messages' topics as the second plugin is addressed.
    pub(super) fn topics(&self) -> impl Iterator<Item = (u64, String)> {
        self.messages.iter().map(|(seq, topic)| (*seq, names::scoped(Some(self.to.as_str()), topic)))
    }

    pub(super) fn bytes(&self) -> usize {
        let keys: usize = self.keys.iter().map(String::len).sum();
        let ids: usize = self.handled.iter().map(|(id, _)| id.len() + 8).sum();
        let topics: usize = self.messages.iter().map(|(_, topic)| topic.len() + 8).sum();
        keys + ids + topics + 8 * self.letters.len()
    }
}

/// A write set over a limit. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("a key has 1 to {MAX_KEY} bytes")]
    Key,
    #[error("a value has at most {MAX_VALUE} bytes")]
    Value,
    #[error("a call makes at most {MAX_SET_WRITES} writes and messages")]
    Writes,
    #[error("a call writes at most {MAX_SET_BYTES} bytes")]
    Bytes,
    #[error("a call that writes reads at most {MAX_READS} keys")]
    Reads,
}

impl Write {
    /// The key that is changed; an append's is not known before the commit.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Add { key, .. } => Some(key),
            Self::Append { .. } => None,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        let (key, value) = match self {
            Self::Put { key, value } => (key.len(), value.len()),
            // The prefix may be empty: the digits make a key.
            Self::Append { prefix, value } => (prefix.len() + APPEND_DIGITS, value.len()),
            Self::Delete { key } | Self::Add { key, .. } => (key.len(), 0),
        };
        match () {
            () if key == 0 || key > MAX_KEY => Err(Invalid::Key),
            () if value > MAX_VALUE => Err(Invalid::Value),
            () => Ok(()),
        }
    }

    /// Bytes by which it may enlarge the store.
    pub fn added(&self) -> u64 {
        let bytes = match self {
            Self::Append { prefix, value } => prefix.len() + APPEND_DIGITS + value.len(),
            Self::Delete { .. } => 0,
            Self::Put { .. } | Self::Add { .. } => self.bytes(),
        };
        bytes as u64
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Append { prefix, value } => prefix.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::Add { key, .. } => key.len() + 8,
        }
    }
}

/// A message that cannot be published, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Data(#[from] InvalidJson),
    #[error("a message has at most {MAX_SET_BYTES} bytes of topic, key and data")]
    Bytes,
}

impl OutboxMessage {
    /// Checks what comes from outside, by whichever way.
    ///
    /// # Errors
    /// Names the first part that does not hold.
    pub fn check(&self) -> Result<(), BadMessage> {
        names::check_topic(&self.topic)?;
        self.key.iter().try_for_each(|key| names::check("key", key))?;
        self.tenant.iter().try_for_each(|tenant| names::check("tenant", tenant))?;
        names::check("id", &self.id)?;
        if self.bytes() > MAX_SET_BYTES {
            return Err(BadMessage::Bytes);
        }
        Ok(json::check(&self.data)?)
    }

    /// For this reader alone, whoever else listens to the topic. No name that is checked can look like it.
    #[must_use]
    pub fn addressed(mut self, reader: &PluginName) -> Self {
        self.topic = names::scoped(Some(reader.as_str()), &self.topic);
        self
    }

    /// The only reader that it is for, if it is addressed; and its topic.
    pub fn address(&self) -> (Option<&str>, &str) {
        names::unscoped(&self.topic)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.data.len() + self.key.as_ref().map_or(0, String::len)
    }
}

impl WriteSet {
    /// A set that writes nothing yet.
    pub fn new(plugin: PluginName) -> Self {
        Self { plugin, reads: Vec::new(), writes: Vec::new(), messages: Vec::new(), handled: Vec::new(), begun: None }
    }

    /// Its bytes, as [`MAX_SET_BYTES`] counts them.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).chain(self.messages.iter().map(OutboxMessage::bytes)).sum()
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// Names the first limit that the set is over.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.writes.len() + self.messages.len() > MAX_SET_WRITES {
            return Err(Invalid::Writes);
        }
        if self.reads.len() > MAX_READS {
            return Err(Invalid::Reads);
        }
        self.writes.iter().try_for_each(Write::check)?;
        if self.bytes() > MAX_SET_BYTES { Err(Invalid::Bytes) } else { Ok(()) }
    }
}
