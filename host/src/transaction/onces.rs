//! The configuration of events that take effect once, and the locks of their keys. Knows no event.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{Mutex, MutexGuard};

/// Locks among which keys are spread. Two keys that share one run one after the other, which is rare.
const LOCKS: usize = 4096;

/// `[once]`: events that clients send with an idempotency key, such as `clientId`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a repeat of an event has no second effect, and gets the first reply again. `0s` remembers no event.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub keep: Duration,
    /// Bytes of the replies to one user that are remembered. Past it the oldest are dropped, and a repeat of one of these events takes
    /// effect again. Metric: `once_replies_dropped`.
    pub user_bytes: u64,
    /// Bytes of the replies to the events of one plugin that are remembered, in storage, for all users. Past it the oldest are dropped,
    /// as for one user. Metric: `once_replies_dropped`.
    pub plugin_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { keep: Duration::from_secs(24 * 60 * 60), user_bytes: 1 << 20, plugin_bytes: 256 << 20 }
    }
}

/// The configuration, and the locks of the keys that are being handled on this node.
pub struct Onces {
    pub(super) config: Config,
    hasher: RandomState,
    locks: Box<[Mutex<()>]>,
}

impl Onces {
    pub fn new(config: Config) -> Self {
        let locks = if config.keep.is_zero() { 0 } else { LOCKS };
        Self { config, hasher: RandomState::new(), locks: (0..locks).map(|_| Mutex::new(())).collect() }
    }

    /// Waits for the lock of an owner's key. None if nothing is remembered.
    pub(super) async fn lock(&self, owner: &str, key: &str) -> Option<MutexGuard<'_, ()>> {
        let at = self.hasher.hash_one((owner, key)) as usize % self.locks.len().max(1);
        Some(self.locks.get(at)?.lock().await)
    }
}
