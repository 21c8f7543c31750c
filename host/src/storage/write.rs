//! The data that is written: write sets, bus messages, dead letters, and their limits. Independent of databases and plugins.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use crate::json::{self, InvalidJson};
use crate::names::{self, InvalidName, PluginName};

/// The longest key, in bytes, including an append's digits.
pub const MAX_KEY: usize = 512;

/// The prefix of the host's keys. They are stored with the plugin's own, so that one transaction writes both.
pub const HOST_KEYS: char = '\0';

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 256 << 10;

/// The most writes and messages of one set.
pub const MAX_SET_WRITES: usize = 256;

/// The most bytes of one set: keys, values, topics and data.
pub const MAX_SET_BYTES: usize = 1 << 20;

/// The most keys that one set has read.
pub const MAX_READS: usize = 4096;

/// The largest of the host's named values, in bytes.
pub const MAX_BLOB: usize = 64 << 20;

/// Digits that an append adds to its prefix.
pub const APPEND_DIGITS: usize = 20;

/// All writes of one call, and the reads that they depend on.
#[derive(Debug, Clone)]
pub struct WriteSet {
    pub plugin: PluginName,
    /// Every key that was read, with its value's fingerprint; none if the key was absent.
    pub reads: Vec<(String, Option<Fingerprint>)>,
    /// In the order of the calls.
    pub writes: Vec<Write>,
    /// For the outbox, in the order of the calls.
    pub messages: Vec<OutboxMessage>,
    /// The bus messages that this set handles, usually one. If any was handled before, nothing of the set is written.
    pub handled: Vec<HandledId>,
    /// The reply that the event of this set gets, for repeats of the event. If one is stored already, the set is a conflict.
    pub first_reply: Option<FirstReply>,
    /// Set to the time at which the set's group begins to be written, if the caller asks.
    pub begun: Option<Arc<OnceLock<Instant>>>,
}

/// One change of a plugin's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Put {
        key: String,
        value: Bytes,
    },
    /// A new key: the prefix and 20 digits that grow with every append, in commit order, and are never reused.
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
    /// The number of messages that led to this one.
    pub hops: u8,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The `traceparent` of the publisher, if it is traced.
    pub trace: Option<String>,
}

/// A message with its number in commit order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub seq: u64,
    pub message: OutboxMessage,
}

/// The id of a bus message that a plugin has handled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HandledId {
    pub plugin: PluginName,
    pub id: String,
}

/// The reply to an event that takes effect once. It belongs to the host, and counts for no plugin's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstReply {
    /// The user, within the tenant.
    pub owner: String,
    /// The event and its idempotency key. Unique for each owner.
    pub key: String,
    pub reply: Bytes,
    pub bounds: FirstReplyBounds,
}

/// How many replies are kept. Past a limit of bytes the oldest are deleted, except the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstReplyBounds {
    /// Replies that were stored before are as good as absent, and are deleted. From `Clock::before_ms`.
    pub since_ms: u64,
    /// Of one owner.
    pub owner_bytes: u64,
    /// Of all owners, for the events of one plugin.
    pub plugin_bytes: u64,
}

impl FirstReply {
    /// The bytes that a row takes besides its texts: numbers and indexes.
    const ROW_BYTES: usize = 128;

    /// Its bytes, as limited by its bounds.
    pub fn bytes(&self) -> u64 {
        (Self::ROW_BYTES + self.owner.len() + self.key.len() + self.reply.len()) as u64
    }
}

/// Rows to move from one plugin to another: all or none. Rows that the second plugin already has are not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    pub from: PluginName,
    pub to: PluginName,
    /// Keys, moved with their values.
    pub keys: Vec<String>,
    /// Ids of handled messages with their times in milliseconds since 1970. The first plugin keeps them as well.
    pub handled: Vec<(String, u64)>,
    /// Dead letters, by their sequence numbers.
    pub letters: Vec<u64>,
    /// Rows of the outbox that are addressed to the first plugin, with their bare topics.
    pub messages: Vec<(u64, String)>,
}

/// A message that a plugin could not handle, with the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub plugin: PluginName,
    pub message: OutboxMessage,
    pub error: String,
}

/// A stored dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRow {
    pub seq: u64,
    /// When it became a dead letter, in milliseconds since 1970.
    pub at_ms: u64,
    pub letter: DeadLetter,
}

/// A fingerprint of a value that was read, compared at commit. Valid only within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    hash: u64,
    len: usize,
}

impl Fingerprint {
    pub fn of(value: &[u8]) -> Self {
        // Keyed at random, so that no plugin can construct a value with the same hash.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self { hash: KEY.get_or_init(RandomState::new).hash_one(value), len: value.len() }
    }
}

/// The value of a counter: 8 bytes, little endian; an absent key is 0; any other value is not a counter.
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

    /// The messages' topics, addressed to the second plugin.
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

/// A write set that exceeds a limit. Nothing of it was written.
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
    /// The key that is changed; the key of an append is not known before the commit.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Add { key, .. } => Some(key),
            Self::Append { .. } => None,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        let (key, value) = match self {
            Self::Put { key, value } => (key.len(), value.len()),
            // The prefix may be empty: the digits form the key.
            Self::Append { prefix, value } => (prefix.len() + APPEND_DIGITS, value.len()),
            Self::Delete { key } | Self::Add { key, .. } => (key.len(), 0),
        };
        match () {
            () if key == 0 || key > MAX_KEY => Err(Invalid::Key),
            () if value > MAX_VALUE => Err(Invalid::Value),
            () => Ok(()),
        }
    }

    /// The most bytes by which it may enlarge the store.
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

/// Why a message cannot be published.
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
    /// Checks a message from outside.
    ///
    /// # Errors
    /// Contains the first part that is not valid.
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

    /// Addresses the message to this reader alone. No checked name can look like an address.
    #[must_use]
    pub fn addressed(mut self, reader: &PluginName) -> Self {
        self.topic = names::scoped(Some(reader.as_str()), &self.topic);
        self
    }

    /// The reader to which it is addressed, if any, and its topic.
    pub fn address(&self) -> (Option<&str>, &str) {
        names::unscoped(&self.topic)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.data.len() + self.key.as_ref().map_or(0, String::len)
    }
}

impl WriteSet {
    /// An empty set.
    pub fn new(plugin: PluginName) -> Self {
        let (reads, writes, messages, handled) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { plugin, reads, writes, messages, handled, first_reply: None, begun: None }
    }

    /// Its bytes, as limited by [`MAX_SET_BYTES`].
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).chain(self.messages.iter().map(OutboxMessage::bytes)).sum()
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// Contains the first limit that the set exceeds.
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
