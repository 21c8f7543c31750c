//! Staged releases that are not live: prepared, or replaced a short time ago. One for each plugin, the newest. Never decides
//! which release is live.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::call::release::Release;
use crate::names::PluginName;

/// One release of each plugin, and when it was added.
#[derive(Default)]
pub struct ReleaseCache(Mutex<HashMap<PluginName, (Arc<Release>, Instant)>>);

impl ReleaseCache {
    /// Adds a release, in place of another of its plugin.
    pub fn keep(&self, release: Arc<Release>) {
        self.releases().insert(release.manifest.name.clone(), (release, Instant::now()));
    }

    /// The release with this digest.
    pub fn get(&self, name: &PluginName, digest: &str) -> Option<Arc<Release>> {
        self.releases().get(name).filter(|(release, _)| release.digest == digest).map(|(release, _)| release.clone())
    }

    /// Removes and returns the release with this digest.
    pub fn take(&self, name: &PluginName, digest: &str) -> Option<Arc<Release>> {
        let found = self.get(name, digest)?;
        self.releases().remove(name);
        Some(found)
    }

    /// Removes releases that were added longer ago than `after`.
    pub fn forget(&self, after: Duration) {
        self.releases().retain(|_, (_, since)| since.elapsed() < after);
    }

    fn releases(&self) -> MutexGuard<'_, HashMap<PluginName, (Arc<Release>, Instant)>> {
        // The map is consistent after every change.
        self.0.lock()
    }
}
