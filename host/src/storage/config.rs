//! `[storage]`: which database, and every limit of it, with its default. Knows nothing of what the limits guard, and never
//! shows the database's address, which holds a password.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Where a PostgreSQL is, and how to get in. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Url(String);

impl Url {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Url {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `postgres://USER:PASSWORD@HOST/DATABASE` of a PostgreSQL 15 or later, reached directly or through a proxy that keeps
    /// sessions; `DATABASE_URL` goes before it. Default: none, which means the embedded database in `server.data`.
    pub url: Option<Url>,
    /// PostgreSQL: connections that read; two more write and listen. With all of them busy a read waits `outage_wait`, and is then
    /// refused as unavailable. Default 8.
    pub connections: usize,
    /// PostgreSQL: how long a connection may take to be made, until it is tried again. Default 2 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub connect_timeout: Duration,
    /// PostgreSQL: how long a statement may take; then it is refused as unavailable. Default 10 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub statement_timeout: Duration,
    /// PostgreSQL: how long reads and commits wait for a database that does not answer, from the moment it was first missed; past
    /// it they are refused as unavailable at once, until it is back. Less than `limits.call_time`. Default 3 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub outage_wait: Duration,
    /// PostgreSQL: a PEM file of the certificates that sign the database's, for `sslmode=require`, without which it
    /// is refused. Default: the system's, or those in the file that the variable `SSL_CERT_FILE` names.
    pub tls_ca: Option<PathBuf>,
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
    /// Embedded: bytes of memory for pages of the database, half of them the writer's. Default 64 MiB.
    pub cache: usize,
    /// Embedded: connections that read, and share the other half of the cache; a fifth reader waits, for microseconds. Default 4.
    pub readers: usize,
    /// Embedded: bytes of the log after which it is copied into the database. More of it makes writing cheaper, and a start after a crash
    /// slower: about 20 ms for the default of 16 MiB.
    pub log: usize,
    /// Embedded: bytes the database may grow to; past it commits are refused as unavailable until something is deleted. Default 0, which
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
            url: None,
            connections: 8,
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
            outage_wait: Duration::from_secs(3),
            tls_ca: None,
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
