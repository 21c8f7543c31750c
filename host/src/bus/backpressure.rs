//! How a topic stands: whether those who listen to it can take more of it now. Reads only; whoever brings messages decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::Bus;
use crate::call::breaker::Source;
use crate::call::deployed_plugin::Slot;
use crate::names::PluginName;
use crate::storage::Unavailable;

/// Whether more of a topic is welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Open,
    /// A plugin that listens to it is disabled, or has no release that serves.
    Down(PluginName),
    /// So many messages of it wait already.
    Behind(u64),
}

impl Bus {
    /// Every topic that some deployed plugin listens to.
    pub fn topics(&self) -> BTreeSet<String> {
        let releases = self.registry.slots().into_iter().filter_map(|slot| slot.installed());
        releases.flat_map(|release| release.manifest.topics.clone()).collect()
    }

    /// Changes whenever what is deployed does.
    pub fn plugins_version(&self) -> u64 {
        self.registry.version()
    }

    /// Whether more of a topic is welcome, with at most so many that wait.
    pub async fn standing(&self, topic: &str, most: usize) -> Result<Standing, Unavailable> {
        let listens =
            |slot: &Arc<Slot>| slot.installed().is_some_and(|release| release.manifest.topics.iter().any(|t| t == topic));
        let listeners: Vec<_> = self.registry.slots().into_iter().filter(listens).collect();
        let now = Instant::now();
        let serves = |slot: &Slot| slot.live().is_some_and(|release| release.breakers.of(Source::Messages).lets_through(now));
        if let Some(down) = listeners.iter().find(|slot| !serves(slot)) {
            return Ok(Standing::Down(down.name.clone()));
        }
        let Some(done) = listeners.iter().map(|slot| self.done_by(slot)).min() else { return Ok(Standing::Open) };
        match self.services.storage.outbox_waiting(topic, done, most.max(1)).await? {
            waiting if waiting < most.max(1) as u64 => Ok(Standing::Open),
            waiting => Ok(Standing::Behind(waiting)),
        }
    }

    /// The row up to which a plugin is done, on whichever node.
    fn done_by(&self, slot: &Slot) -> u64 {
        match &self.services.cluster {
            Some(cluster) if !self.is_mine(slot) => cluster.progress.last_told(slot.name.as_str()).unwrap_or(0),
            _ => self.readers().iter().find(|reader| reader.slot.name == slot.name).map_or(0, |reader| reader.progress().done()),
        }
    }
}
