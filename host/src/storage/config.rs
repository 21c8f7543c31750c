//! `[storage]`: the database and its limits, with their defaults. Never prints the database's address, which contains a password.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// The address of a PostgreSQL database, with its password. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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

/// `[storage]`: the embedded database, or PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `postgres://USER:PASSWORD@HOST/DATABASE` of a PostgreSQL 15 or later. A proxy in front of it must keep sessions. The
    /// variable `DATABASE_URL` overrides it. Default: none, so that the embedded database in `server.data` is used.
    pub url: Option<Url>,
    /// PostgreSQL: connections for reads; two more write and listen. Past it a read waits up to `outage_wait`, and is then
    /// refused with `unavailable`. Metric: `storage_connections_busy`.
    pub connections: usize,
    /// PostgreSQL: how long a connect may take. Past it the server tries again.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub connect_timeout: Duration,
    /// PostgreSQL: how long a statement may take. Past it the statement is refused with `unavailable`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub statement_timeout: Duration,
    /// PostgreSQL: how long reads and commits wait for a database that does not answer; it must be less than `limits.call_time`.
    /// Past it they are refused with `unavailable`, at once, until the database answers. Metric: `storage_outages`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub outage_wait: Duration,
    /// PostgreSQL: a PEM file with the authorities that sign the database's certificate, for `sslmode=require`. Default: the file
    /// that the variable `SSL_CERT_FILE` names, or the system's authorities.
    pub tls_ca: Option<PathBuf>,
    /// Commits that may wait to be written. Past it a commit waits up to `queue_wait`. Metric: `storage_queued`.
    pub queue: usize,
    /// Bytes of the commits that wait to be written or to take effect. Past it a commit waits up to `queue_wait`.
    pub queue_bytes: usize,
    /// How long a commit waits for room in the queue. Past it the commit is refused with `unavailable`. Metric:
    /// `storage_queue_full`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub queue_wait: Duration,
    /// Commits that share one sync. Past it a commit waits for the next sync.
    pub group: usize,
    /// Bytes of the commits that share one sync. A larger commit has a sync of its own.
    pub group_bytes: usize,
    /// Embedded: bytes of memory for pages of the database. The writer has half of it.
    pub cache: usize,
    /// Embedded: connections for reads, which share the other half of the cache. Past it a read waits, for microseconds.
    pub readers: usize,
    /// Embedded: bytes of the write-ahead log. Past it the log is copied into the database. A larger value makes writes cheaper
    /// and a start after a crash slower (about 20 ms for 16 MiB). Metric: `storage_log_bytes`.
    pub log: usize,
    /// Embedded: bytes that the database may grow to; 0 means the size of the disk. Past it commits are refused with
    /// `unavailable` until something is deleted. Metric: `storage_failing`.
    pub size: u64,
    /// How long the id of a handled message is kept, at least, so that the same message has no second effect.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub handled_for: Duration,
    /// Dead letters that are kept. Past it the oldest is removed.
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
