//! Releases that are staged and do not serve: about to go live, or replaced a short while ago. One a plugin, the newest; it never
//! decides which serves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::release::Release;
use crate::names::PluginName;

/// One release of each plugin, and since when it is here.
#[derive(Default)]
pub struct ReleaseCache(Mutex<HashMap<PluginName, (Arc<Release>, Instant)>>);

impl ReleaseCache {
    /// Keeps a release, in place of another of its plugin.
    pub fn keep(&self, release: Arc<Release>) {
        self.releases().insert(release.manifest.name.clone(), (release, Instant::now()));
    }

    /// The one of this digest.
    pub fn get(&self, name: &PluginName, digest: &str) -> Option<Arc<Release>> {
        self.releases().get(name).filter(|(release, _)| release.digest == digest).map(|(release, _)| release.clone())
    }

    /// The one of this digest, which is not kept any longer.
    pub fn take(&self, name: &PluginName, digest: &str) -> Option<Arc<Release>> {
        let found = self.get(name, digest)?;
        self.releases().remove(name);
        Some(found)
    }

    /// Lets go of those that have been here for that long.
    pub fn forget(&self, after: Duration) {
        self.releases().retain(|_, (_, since)| since.elapsed() < after);
    }

    fn releases(&self) -> MutexGuard<'_, HashMap<PluginName, (Arc<Release>, Instant)>> {
        // A map is whole after every change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
