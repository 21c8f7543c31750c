//! Backpressure of a topic: whether its plugins can take more messages now. Only reads; the callers decide.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::Bus;
use crate::call::breaker::Source;
use crate::call::deployed_plugin::DeployedPlugin;
use crate::names::PluginName;
use crate::storage::Unavailable;

/// Whether a topic accepts more messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backpressure {
    Open,
    /// A plugin that subscribes to it is disabled, or has no release that serves.
    Down(PluginName),
    /// The number of messages that already wait.
    Behind(u64),
}

impl Bus {
    /// Every topic that a deployed plugin subscribes to.
    pub fn topics(&self) -> BTreeSet<String> {
        let releases = self.registry.deployed_plugins().into_iter().filter_map(|deployed| deployed.installed());
        releases.flat_map(|release| release.manifest.topics.clone()).collect()
    }

    /// Changes whenever the deployed plugins change.
    pub fn plugins_version(&self) -> u64 {
        self.registry.version()
    }

    /// Whether a topic accepts more messages; at most `most` may wait.
    pub async fn backpressure(&self, topic: &str, most: usize) -> Result<Backpressure, Unavailable> {
        let listens = |deployed: &Arc<DeployedPlugin>| {
            deployed.installed().is_some_and(|release| release.manifest.topics.iter().any(|t| t == topic))
        };
        let listeners: Vec<_> = self.registry.deployed_plugins().into_iter().filter(listens).collect();
        let now = Instant::now();
        let serves =
            |deployed: &DeployedPlugin| deployed.live().is_some_and(|release| release.breakers.of(Source::Messages).allows(now));
        if let Some(down) = listeners.iter().find(|deployed| !serves(deployed)) {
            return Ok(Backpressure::Down(down.name.clone()));
        }
        let Some(done) = listeners.iter().map(|deployed| self.done_by(deployed)).min() else { return Ok(Backpressure::Open) };
        match self.services.storage.outbox_waiting(topic, done, most.max(1)).await? {
            waiting if waiting < most.max(1) as u64 => Ok(Backpressure::Open),
            waiting => Ok(Backpressure::Behind(waiting)),
        }
    }

    /// The row up to which a plugin has handled the outbox, on any node.
    fn done_by(&self, deployed: &DeployedPlugin) -> u64 {
        match &self.services.cluster {
            Some(cluster) if !self.is_mine(deployed) => cluster.progress.last_told(deployed.name.as_str()).unwrap_or(0),
            _ => self
                .readers()
                .iter()
                .find(|reader| reader.deployed.name == deployed.name)
                .map_or(0, |reader| reader.progress().done()),
        }
    }
}
