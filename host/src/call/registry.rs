//! The live release of each plugin, and the routes from events, namespaces and topics to plugins. Readers take no lock; a swap is
//! one pointer that the next event sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::breaker::Quarantined;
use super::canary::{Canary, How};
use super::deployed_plugin::DeployedPlugin;
use super::manifest::Manifest;
use super::release::Release;
use super::routes::{Collision, DeployedPlugins, Live, Routes, build};
use crate::names::PluginName;
use crate::transaction::profile::{Pattern, Tenancy};

/// All plugins of this node.
pub struct Registry {
    deployed_plugins: Mutex<DeployedPlugins>,
    routes: ArcSwap<Routes>,
    /// The namespaces that a plugin has or had since the start.
    known: Mutex<Vec<Pattern>>,
    next_id: AtomicU32,
    /// The version, which grows with every change.
    changes: watch::Sender<u64>,
}

impl Registry {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            deployed_plugins: Mutex::default(),
            routes: ArcSwap::default(),
            known: Mutex::default(),
            next_id: AtomicU32::new(0),
            changes: watch::Sender::new(0),
        })
    }

    /// The current routes.
    pub fn routes(&self) -> Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Whether a plugin has this namespace, or had it since the start: it may be away for a moment only.
    pub fn is_known(&self, namespace: &str) -> bool {
        self.routes().namespace(namespace).is_some() || self.known.lock().iter().any(|pattern| pattern.matches(namespace))
    }

    /// Whether a live plugin with tenancy `none` describes this room, so that all tenants share it.
    pub fn is_shared_room(&self, namespace: &str, room: &str) -> bool {
        self.deployed_plugins.lock().values().filter_map(|deployed| deployed.live()).any(|release| {
            let manifest = &release.manifest;
            manifest.tenancy == Tenancy::None && manifest.describes_room(namespace, room)
        })
    }

    pub fn deployed_plugins(&self) -> Vec<Arc<DeployedPlugin>> {
        self.deployed_plugins.lock().values().cloned().collect()
    }

    pub fn deployed(&self, name: &PluginName) -> Option<Arc<DeployedPlugin>> {
        self.deployed_plugins.lock().get(name).cloned()
    }

    /// The version of the last change: while it is the same, so are the live releases.
    pub fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a release could go live beside the others, replacing the live one of its name.
    pub fn check(&self, release: &Arc<Release>) -> Result<(), Collision> {
        self.check_all(std::slice::from_ref(release), &[])
    }

    /// Whether releases could go live together, replacing those of their names, with these plugins removed.
    pub fn check_all(&self, releases: &[Arc<Release>], removed: &[PluginName]) -> Result<(), Collision> {
        self.plan(&self.deployed_plugins.lock(), releases, removed).map(drop)
    }

    /// Makes staged releases live and removes plugins: all of them or none. On failure the live releases are unchanged; running
    /// calls end on the release they began on.
    pub fn install(&self, releases: Vec<Arc<Release>>, removed: &[PluginName]) -> Result<(), Collision> {
        let mut deployed_plugins = self.deployed_plugins.lock();
        let (next, routes) = self.plan(&deployed_plugins, &releases, removed)?;
        for deployed in removed.iter().filter_map(|name| next.get(name)) {
            deployed.live.store(None);
        }
        for release in releases {
            if let Some(deployed) = next.get(&release.manifest.name) {
                let receives = |topic: &String, old: &Release| old.manifest.topics.contains(topic);
                let before = deployed.live.load_full();
                let skipped =
                    release.manifest.topics.iter().any(|topic| !before.as_ref().is_some_and(|old| receives(topic, old)));
                deployed.live.store(Some(release));
                if skipped {
                    deployed.rereads.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        *deployed_plugins = next;
        {
            let mut known = self.known.lock();
            for route in routes.namespaces() {
                if !known.iter().any(|pattern| pattern.text == route.pattern.text) {
                    known.push(route.pattern.clone());
                }
            }
        }
        self.routes.store(Arc::new(routes));
        self.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    fn plan(
        &self,
        deployed_plugins: &DeployedPlugins,
        releases: &[Arc<Release>],
        removed: &[PluginName],
    ) -> Result<(DeployedPlugins, Routes), Collision> {
        let mut next = deployed_plugins.clone();
        let mut live = live_of(deployed_plugins);
        live.retain(|name, _| !removed.contains(name));
        for release in releases {
            let name = release.manifest.name.clone();
            if let Some(old) = live.get(&name) {
                check_data(&release.manifest, &old.manifest)?;
            }
            next.entry(name.clone())
                .or_insert_with(|| Arc::new(DeployedPlugin::new(name.clone(), self.next_id.fetch_add(1, Ordering::Relaxed))));
            live.insert(name, release.clone());
        }
        let routes = build(&next, &live)?;
        Ok((next, routes))
    }

    /// Whether a release could be put on trial: both releases must read each other's data, and the new one must fit in the
    /// other's place.
    pub fn check_trial(&self, release: &Arc<Release>) -> Result<(), Collision> {
        trial_base(&self.deployed_plugins.lock(), release).map(drop)
    }

    /// Puts a staged release on trial beside the live one, which is unchanged.
    pub fn start_trial(&self, release: Arc<Release>, percent: u8, how: How) -> Result<(), Collision> {
        let deployed_plugins = self.deployed_plugins.lock();
        let (deployed, active) = trial_base(&deployed_plugins, &release)?;
        let canary = Canary::new(release, percent, how, &active.counters);
        deployed.canary.store(Some(Arc::new(canary)));
        self.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Ends a trial, with any result.
    pub fn end_trial(&self, deployed: &DeployedPlugin) -> Option<Arc<Canary>> {
        deployed.canary.swap(None)
    }

    /// Quarantines exactly these sources of calls of the installed release.
    pub fn set_quarantined(&self, deployed: &DeployedPlugin, sources: Vec<Quarantined>) {
        if let Some(release) = deployed.installed() {
            release.breakers.set_quarantined(sources);
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Sets whether a plugin's data is moving.
    pub fn set_moving(&self, deployed: &DeployedPlugin, moving: bool) {
        deployed.moving.store(moving, Ordering::Release);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Stops or resumes a plugin: its events answer `unavailable`, its messages wait.
    pub fn set_disabled(&self, deployed: &DeployedPlugin, disabled: bool) {
        deployed.disabled.store(disabled, Ordering::SeqCst);
        self.changes.send_modify(|version| *version += 1);
    }
}

fn check_data(new: &Manifest, old: &Manifest) -> Result<(), Collision> {
    if new.reads_data_of(old) {
        return Ok(());
    }
    Err(Collision::DataVersion {
        new: new.version.clone(),
        new_data: new.data_version,
        old: old.version.clone(),
        old_data: old.data_version,
    })
}

/// The plugin and active release for a trial of a release.
fn trial_base<'a>(
    deployed_plugins: &'a DeployedPlugins,
    release: &Arc<Release>,
) -> Result<(&'a Arc<DeployedPlugin>, Arc<Release>), Collision> {
    let name = &release.manifest.name;
    let found = deployed_plugins.get(name).and_then(|deployed| Some((deployed, deployed.live.load_full()?)));
    let Some((deployed, active)) = found else { return Err(Collision::NothingActive(name.clone())) };
    check_data(&release.manifest, &active.manifest)?;
    check_data(&active.manifest, &release.manifest)?;
    let mut live = live_of(deployed_plugins);
    live.insert(name.clone(), release.clone());
    build(deployed_plugins, &live)?;
    Ok((deployed, active))
}

fn live_of(deployed_plugins: &DeployedPlugins) -> Live {
    deployed_plugins.iter().filter_map(|(name, deployed)| Some((name.clone(), deployed.live.load_full()?))).collect()
}
