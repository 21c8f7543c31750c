//! Durable storage: plugins' keys, the outbox, dead letters, and the host's own named values, behind one trait. Never
//! acknowledges a write that is not on the disk, and never shows callers which database is used.

mod applier;
mod config;
pub mod embedded;
mod group;
mod none;
pub mod postgres;
mod queue;
mod stats;
#[cfg(test)]
pub(crate) mod suite;
mod write;
mod writing;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::names::PluginName;

pub use config::{Config, Url};
pub use embedded::{Embedded, OpenError};
pub use none::NoStorage;
pub use postgres::Postgres;
pub use stats::{Stats, SyncTimes};
pub use write::{
    APPEND_DIGITS, BadMessage, DeadLetter, DeadLetterRow, Fingerprint, FirstReply, FirstReplyBounds, HOST_KEYS, HandOver,
    HandledId, Invalid, MAX_BLOB, MAX_KEY, MAX_READS, MAX_SET_BYTES, MAX_SET_WRITES, MAX_VALUE, OutboxMessage, OutboxRow, Write,
    WriteSet, counter_value,
};

/// A boxed future, as an object-safe trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The effects of a commit, which run once it is on the disk. Other commits' effects wait for them, so they must not wait for a
/// commit.
pub type Effects = BoxFuture<'static, ()>;

/// The most bytes of keys and values that one read of several keys returns. A larger read fails as [`Unavailable`]: a shortened
/// answer would look like the end of the range.
pub const MAX_SCAN_BYTES: usize = 16 << 20;

/// Storage does not answer, or refuses. The reason is for the log, never for a client. A commit that fails so may have been
/// written; its effects were not run.
#[derive(Debug, Clone, thiserror::Error)]
#[error("storage is unavailable: {0}")]
pub struct Unavailable(Arc<str>);

impl Unavailable {
    pub(crate) fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

/// Why a write set took no effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A key that was read has changed, or the set's first reply is stored already. Run the handler again.
    #[error("a key that was read has changed")]
    Conflict,
    /// The bus message was handled before, by a write set that was committed.
    #[error("the message was handled before")]
    AlreadyHandled,
    /// `Add` to a key whose value is not 8 bytes.
    #[error("`{key}` does not hold a counter")]
    NotACounter { key: String },
    /// Over a limit; nothing was attempted.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The disk or the queue refuses. A later attempt may succeed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Durable storage for everything that outlives a process.
///
/// Keys are ordered by their bytes, and every plugin has its own. Every later read sees the writes of a resolved commit. Dropping
/// a future of this trait never undoes or reorders anything: the work continues.
pub trait Storage: Send + Sync + 'static {
    /// The value of a plugin's key.
    fn get<'a>(&'a self, plugin: &'a PluginName, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>>;

    /// The values of several of a plugin's keys, in the order of the keys, at one moment. At most [`MAX_SCAN_BYTES`].
    fn get_many<'a>(
        &'a self,
        plugin: &'a PluginName,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Unavailable>>;

    /// The entries with `start <= key < end`, at most `limit`, in ascending order, or descending if `reverse`. An empty `end`
    /// means the last key with the prefix `start`. At most [`MAX_SCAN_BYTES`].
    fn scan<'a>(
        &'a self,
        plugin: &'a PluginName,
        start: &'a str,
        end: &'a str,
        limit: usize,
        reverse: bool,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, Unavailable>>;

    /// The keys that begin with `prefix` and are above `after`, in order, at most `limit`, without their values.
    fn keys<'a>(
        &'a self,
        plugin: &'a PluginName,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, Unavailable>>;

    /// The ids above `after` of messages that a plugin has handled, in order, with their times, at most `limit`.
    fn handled_after<'a>(
        &'a self,
        plugin: &'a PluginName,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, u64)>, Unavailable>>;

    /// The first reply to an event of this owner, unless it was stored before `since_ms`.
    fn first_reply<'a>(
        &'a self,
        owner: &'a str,
        key: &'a str,
        since_ms: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>>;

    /// Moves rows from one plugin to another, all or none. Idempotent. The first plugin must not be called meanwhile: a
    /// concurrent commit of it may leave a key behind.
    fn hand_over(&self, all: HandOver) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Bytes of all keys and values of a plugin, as of the last commit. Reads all of them: call it seldom, and never during a
    /// call.
    fn size<'a>(&'a self, plugin: &'a PluginName) -> BoxFuture<'a, Result<u64, Unavailable>>;

    /// Writes a set, all or nothing, then runs its effects, then resolves.
    ///
    /// Sets and their effects take effect in the order of the calls of this function (not of the first polls). A set sees the
    /// writes of those before it. A set that fails drops its effects and does not affect the others. An effect that panics is
    /// counted; its set stays written.
    fn commit(&self, set: WriteSet, effects: Effects) -> BoxFuture<'_, Result<(), CommitError>>;

    /// Outbox rows with a sequence number over `seq`, in order, at most `limit`. A row that is committed later has a higher number
    /// than every row that could be read before.
    fn outbox_after(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<OutboxRow>, Unavailable>>;

    /// Removes the outbox rows up to and including `seq`. Idempotent, and free if there is nothing to remove.
    fn outbox_done(&self, seq: u64) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// The number of outbox rows of a topic with a sequence number over `seq`, counted up to `most`. Reads these rows: call it
    /// seldom, and never during a call.
    fn outbox_waiting<'a>(&'a self, topic: &'a str, seq: u64, most: usize) -> BoxFuture<'a, Result<u64, Unavailable>>;

    /// Stores a message that a plugin cannot handle, once for each plugin. Over the configured number, the oldest letter is
    /// removed and counted.
    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Dead letters with a sequence number over `seq`, oldest first, at most `limit`.
    fn dead_letters(&self, seq: u64, limit: usize) -> BoxFuture<'_, Result<Vec<DeadLetterRow>, Unavailable>>;

    /// Removes one dead letter; false if it does not exist.
    fn remove_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Appends a dead letter's message to the outbox, for its plugin alone, and removes the letter: both or neither. False if it
    /// does not exist.
    fn revive_dead_letter(&self, seq: u64) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// One of the host's own named values: a component, a release, a pointer to the active one.
    fn blob<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Unavailable>>;

    /// Writes a named value of at most [`MAX_BLOB`] bytes, all or nothing.
    fn put_blob(&self, name: String, value: Bytes) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Writes several named values, and removes those without a value: all or none.
    fn put_blobs(&self, values: Vec<(String, Option<Bytes>)>) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Removes a named value; false if it does not exist.
    fn remove_blob(&self, name: String) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// The names that begin with `prefix`, in order, at most `limit`.
    fn blobs<'a>(&'a self, prefix: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<String>, Unavailable>>;

    /// Whether storage answers now: one cheap read, without waiting for an outage to end.
    fn health(&self) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Whether storage can be written now, or the reason why not: a full disk, a read-only database. Cheap even if called often,
    /// and returns within seconds.
    fn writable(&self) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Notified when another node may have committed to the outbox. None without other nodes.
    fn published(&self) -> Option<Arc<Notify>> {
        None
    }

    /// Metrics since the start.
    fn stats(&self) -> Stats;

    /// Refuses new work, finishes accepted work with its effects, and closes the database.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The first key after all keys with a prefix; none if there is no such key.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn a_prefix_ends_at_the_next_key_without_it() {
        assert_eq!(prefix_end(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(prefix_end(b"a\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
