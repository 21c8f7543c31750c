//! `[storage]`: every limit of the embedded storage, with its default. Knows nothing of what the limits guard.

use std::time::Duration;

use serde::Deserialize;

/// `[storage]`: limits of the embedded storage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Commits that wait to be written. Past it a commit waits `queue_wait`. Default 4096.
    pub queue: usize,
    /// Bytes of all commits that wait to be written or to take effect. Past it a commit waits `queue_wait`. Default 64 MiB.
    pub queue_bytes: usize,
    /// How long a commit waits for room in the queue before it is refused as unavailable. Default 1 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub queue_wait: Duration,
    /// Commits that share one sync; the others wait for the next. Default 1024.
    pub group: usize,
    /// Bytes of the commits that share one sync; a larger one goes alone. Default 8 MiB.
    pub group_bytes: usize,
    /// Bytes of memory for pages of the database, half of them the writer's. Default 64 MiB.
    pub cache: usize,
    /// Connections that read, and share the other half of the cache; a fifth reader waits, for microseconds. Default 4.
    pub readers: usize,
    /// Bytes of the log after which it is copied into the database. More of it makes writing cheaper, and a start after a crash
    /// slower: about 20 ms for the default of 16 MiB.
    pub log: usize,
    /// Bytes the database may grow to; past it commits are refused as unavailable until something is deleted. Default 0, which
    /// means as many as the disk has.
    pub size: u64,
    /// How long the id of a handled bus message is remembered, at least. Default 24 h.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub handled_for: Duration,
    /// Dead letters that are kept; past it the oldest goes. Default 10 000.
    pub dead_letters: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue: 4096,
            queue_bytes: 64 << 20,
            queue_wait: Duration::from_secs(1),
            group: 1024,
            group_bytes: 8 << 20,
            cache: 64 << 20,
            readers: 4,
            log: 16 << 20,
            size: 0,
            handled_for: Duration::from_secs(24 * 60 * 60),
            dead_letters: 10_000,
        }
    }
}
