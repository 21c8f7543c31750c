//! Deploy locks. Each plugin has one deployment at a time, and staging is serialized over all plugins. A rollback never waits for
//! a compilation.

use std::collections::BTreeSet;

use parking_lot::{Mutex, MutexGuard};

use crate::names::PluginName;

/// The running deployments.
#[derive(Default)]
pub struct DeployLocks {
    names: Mutex<BTreeSet<PluginName>>,
    /// Compilation uses a core and up to `sandbox.compile_memory`, so only one runs at a time.
    staging: tokio::sync::Mutex<()>,
}

/// A running deployment. It ends when this is dropped.
pub struct Deployment<'a> {
    all: &'a DeployLocks,
    name: PluginName,
}

impl DeployLocks {
    /// Starts a deployment. None if the plugin has one already.
    pub fn begin(&self, name: &PluginName) -> Option<Deployment<'_>> {
        self.names().insert(name.clone()).then(|| Deployment { all: self, name: name.clone() })
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<PluginName>> {
        // The set is consistent after every change.
        self.names.lock()
    }
}

impl Deployment<'_> {
    /// Waits for the right to stage, which is held until the guard is dropped.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.all.staging.lock().await
    }
}

impl Drop for Deployment<'_> {
    fn drop(&mut self) {
        self.all.names().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plugin_has_one_deployment_at_a_time() {
        let (all, name) = (DeployLocks::default(), |name| PluginName::parse(name).unwrap());
        let first = all.begin(&name("chat"));
        assert!(first.is_some() && all.begin(&name("chat")).is_none());
        assert!(all.begin(&name("video")).is_some());
        drop(first);
        assert!(all.begin(&name("chat")).is_some());
    }
}
