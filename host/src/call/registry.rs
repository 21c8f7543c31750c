//! Which release is live under each name, and which plugin an event, a namespace or a topic belongs to. Readers take no lock;
//! a swap is one pointer, seen by the next event.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::breaker::Quarantined;
use super::canary::{Canary, How};
use super::deployed_plugin::Slot;
use super::manifest::Manifest;
use super::release::Release;
use super::routes::{Collision, Live, Routes, Slots, build};
use crate::names::PluginName;
use crate::transaction::profile::Tenancy;

/// All plugins of this node.
pub struct Registry {
    slots: Mutex<Slots>,
    routes: ArcSwap<Routes>,
    next_id: AtomicU32,
    /// Grows with every change, for whoever must follow.
    changes: watch::Sender<u64>,
}

impl Registry {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: Mutex::default(),
            routes: ArcSwap::default(),
            next_id: AtomicU32::new(0),
            changes: watch::Sender::new(0),
        })
    }

    /// Where everything goes, as of now.
    pub fn routes(&self) -> Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Whether a live plugin describes such a room and its tenancy is `none`, so that all tenants share the room.
    pub fn is_shared_room(&self, namespace: &str, room: &str) -> bool {
        self.slots().iter().filter_map(|slot| slot.live()).any(|release| {
            let manifest = &release.manifest;
            manifest.tenancy == Tenancy::None && manifest.describes_room(namespace, room)
        })
    }

    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub fn slot(&self, name: &PluginName) -> Option<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The number of the last change: while it stays, so does what is live.
    pub fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether a release could be made live beside the others, in place of what is live under its name.
    pub fn check(&self, release: &Arc<Release>) -> Result<(), Collision> {
        self.check_all(std::slice::from_ref(release), &[])
    }

    /// Whether these could be made live together, in place of what is live under their names, with these plugins taken away.
    pub fn check_all(&self, releases: &[Arc<Release>], gone: &[PluginName]) -> Result<(), Collision> {
        self.plan(&self.slots.lock().unwrap_or_else(PoisonError::into_inner), releases, gone).map(drop)
    }

    /// Makes staged releases live, and takes plugins away: all of them or none. Where this fails, what was live is untouched; calls under way end on the release they began on.
    pub fn install(&self, releases: Vec<Arc<Release>>, gone: &[PluginName]) -> Result<(), Collision> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, routes) = self.plan(&slots, &releases, gone)?;
        for slot in gone.iter().filter_map(|name| next.get(name)) {
            slot.live.store(None);
        }
        for release in releases {
            if let Some(slot) = next.get(&release.manifest.name) {
                let hears = |topic: &String, old: &Release| old.manifest.topics.contains(topic);
                let before = slot.live.load_full();
                let skipped = release.manifest.topics.iter().any(|topic| !before.as_ref().is_some_and(|old| hears(topic, old)));
                slot.live.store(Some(release));
                if skipped {
                    slot.rereads.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        *slots = next;
        self.routes.store(Arc::new(routes));
        self.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    fn plan(&self, slots: &Slots, releases: &[Arc<Release>], gone: &[PluginName]) -> Result<(Slots, Routes), Collision> {
        let mut next = slots.clone();
        let mut live = live_of(slots);
        live.retain(|name, _| !gone.contains(name));
        for release in releases {
            let name = release.manifest.name.clone();
            if let Some(old) = live.get(&name) {
                check_data(&release.manifest, &old.manifest)?;
            }
            next.entry(name.clone())
                .or_insert_with(|| Arc::new(Slot::new(name.clone(), self.next_id.fetch_add(1, Ordering::Relaxed))));
            live.insert(name, release.clone());
        }
        let routes = build(&next, &live)?;
        Ok((next, routes))
    }

    /// Whether a release could be put on trial: both must read each other's data, and the new one must fit in the other's place.
    pub fn check_trial(&self, release: &Arc<Release>) -> Result<(), Collision> {
        beside(&self.slots.lock().unwrap_or_else(PoisonError::into_inner), release).map(drop)
    }

    /// Puts a staged release on trial beside the live one, which goes on as it is.
    pub fn try_out(&self, release: Arc<Release>, percent: u8, how: How) -> Result<(), Collision> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, active) = beside(&slots, &release)?;
        let canary = Canary::new(release, percent, how, &active.tally);
        slot.canary.store(Some(Arc::new(canary)));
        self.changes.send_modify(|version| *version += 1);
        Ok(())
    }

    /// Ends a trial, whatever came of it.
    pub fn end_trial(&self, slot: &Slot) -> Option<Arc<Canary>> {
        slot.canary.swap(None)
    }

    /// Quarantines these sources of calls of the release in place, and no others.
    pub fn set_quarantined(&self, slot: &Slot, sources: Vec<Quarantined>) {
        if let Some(release) = slot.installed() {
            release.breakers.set_quarantined(sources);
            self.changes.send_modify(|version| *version += 1);
        }
    }

    /// Notes that a plugin's data is moving, or does not any more.
    pub fn set_moving(&self, slot: &Slot, moving: bool) {
        slot.moving.store(moving, Ordering::Release);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Stops or resumes a plugin: its events answer `unavailable`, its messages wait.
    pub fn set_disabled(&self, slot: &Slot, disabled: bool) {
        slot.disabled.store(disabled, Ordering::SeqCst);
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

/// What a release would be tried out beside.
fn beside<'a>(slots: &'a Slots, release: &Arc<Release>) -> Result<(&'a Arc<Slot>, Arc<Release>), Collision> {
    let name = &release.manifest.name;
    let found = slots.get(name).and_then(|slot| Some((slot, slot.live.load_full()?)));
    let Some((slot, active)) = found else { return Err(Collision::NothingActive(name.clone())) };
    check_data(&release.manifest, &active.manifest)?;
    check_data(&active.manifest, &release.manifest)?;
    let mut live = live_of(slots);
    live.insert(name.clone(), release.clone());
    build(slots, &live)?;
    Ok((slot, active))
}

fn live_of(slots: &Slots) -> Live {
    slots.iter().filter_map(|(name, slot)| Some((name.clone(), slot.live.load_full()?))).collect()
}
