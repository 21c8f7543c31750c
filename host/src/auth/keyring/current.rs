//! The current keyring. A reload replaces it as a whole; a check in progress finishes with the keyring that it started with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Keyring, Refreshing};

/// The keyring that verifies tokens.
pub struct Current {
    ring: ArcSwap<Keyring>,
    /// The refresh of the keyring's key sets, once started.
    refreshing: Mutex<Option<Refreshing>>,
}

impl Current {
    pub fn new(ring: Keyring) -> Self {
        Self { ring: ArcSwap::from_pointee(ring), refreshing: Mutex::default() }
    }

    pub fn get(&self) -> Arc<Keyring> {
        self.ring.load_full()
    }

    /// Starts to fetch key sets. Needs a tokio runtime.
    pub fn start(&self) {
        *self.refreshing.lock() = Some(self.get().refreshing());
    }

    /// Replaces the keyring. Key sets from urls start with the keys that the old keyring fetched from the same urls.
    pub fn replace(&self, mut ring: Keyring) {
        ring.begin_with(&self.get());
        self.ring.store(Arc::new(ring));
        self.start();
    }
}
