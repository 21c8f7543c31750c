//! Deployments under way. A plugin has one at a time, and all are staged one after the other; but nobody who goes back to what has
//! served before ever waits for a compiler.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::names::PluginName;

/// What is being deployed.
#[derive(Default)]
pub struct DeployLocks {
    names: Mutex<BTreeSet<PluginName>>,
    /// Compiling takes a core and up to `sandbox.compile_memory`: never two at once.
    staging: tokio::sync::Mutex<()>,
}

/// A deployment. It is over when this is dropped, however it ended.
pub struct Deployment<'a> {
    all: &'a DeployLocks,
    name: PluginName,
}

impl DeployLocks {
    /// None: one of this plugin is under way already.
    pub fn begin(&self, name: &PluginName) -> Option<Deployment<'_>> {
        self.names().insert(name.clone()).then(|| Deployment { all: self, name: name.clone() })
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<PluginName>> {
        // A set is whole after every change.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deployment<'_> {
    /// Waits for its turn to be staged, and has it until the answer is dropped.
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
