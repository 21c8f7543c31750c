//! Which release is live under each name, and which plugin an event, a namespace or a topic belongs to. Readers take no lock;
//! a swap is one pointer, seen by the next event.

mod slot;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::breaker::Quarantined;
use super::canary::{Canary, How};
use super::doors::{self, Misplaced};
use super::manifest::Manifest;
use crate::capability::profile::{Pattern, Tenancy};
use crate::names::PluginName;
use crate::sandbox::exports::Door;

pub use slot::{Release, Slot};

/// Where everything goes, as of one moment.
#[derive(Default)]
pub struct Routes {
    literal: HashMap<Arc<str>, Arc<NamespaceRoute>>,
    patterns: Vec<Arc<NamespaceRoute>>,
}

/// One namespace.
pub struct NamespaceRoute {
    pub pattern: Pattern,
    pub door: Door,
    pub owner: Arc<Slot>,
    /// Plugins that want to know of sockets that come or go, in the order of their names.
    pub connect: Vec<Arc<Slot>>,
    pub disconnect: Vec<Arc<Slot>>,
    events: HashMap<String, EventRoute>,
}

/// One event of a namespace.
pub struct EventRoute {
    pub slot: Arc<Slot>,
    pub on_failure: Option<Arc<str>>,
}

impl Routes {
    pub fn namespace(&self, path: &str) -> Option<&Arc<NamespaceRoute>> {
        self.literal.get(path).or_else(|| self.patterns.iter().find(|route| route.pattern.matches(path)))
    }

    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<NamespaceRoute>> {
        self.literal.values().chain(&self.patterns)
    }
}

impl NamespaceRoute {
    pub fn event(&self, name: &str) -> Option<&EventRoute> {
        self.events.get(name)
    }
}

/// Why a release cannot go live beside the others.
#[derive(Debug, thiserror::Error)]
pub enum Collision {
    #[error("the namespace {0} has two owners: {1} and {2}")]
    TwoOwners(Arc<str>, PluginName, PluginName),
    #[error("the namespace {0}, in which {1} takes part, has no owner with a door")]
    NoOwner(Arc<str>, PluginName),
    #[error("the namespaces {0} of {1} and {2} of {3} overlap")]
    Namespaces(Arc<str>, PluginName, Arc<str>, PluginName),
    #[error("the event {1} of {0} is handled by two plugins: {2} and {3}")]
    Event(String, String, PluginName, PluginName),
    #[error("the rooms {0} of {1} and {2} of {3} overlap")]
    Rooms(Arc<str>, PluginName, Arc<str>, PluginName),
    #[error(transparent)]
    Door(#[from] Misplaced),
    #[error("nothing is active as {0}, so there is nothing to try a release beside")]
    NothingActive(PluginName),
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error("version {new} has data version {new_data} and cannot read data version {old_data} of the running version {old}")]
    DataVersion { new: String, new_data: u32, old: String, old_data: u32 },
}

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

type Slots = BTreeMap<PluginName, Arc<Slot>>;
type Live = BTreeMap<PluginName, Arc<Release>>;

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

fn build(slots: &Slots, live: &Live) -> Result<Routes, Collision> {
    check_rooms(live)?;
    let mut routes = Routes::default();
    for (pattern, owner, door) in owners(live)? {
        let Some(slot) = slots.get(&owner) else { continue };
        let mut route = NamespaceRoute {
            pattern: pattern.clone(),
            door,
            owner: slot.clone(),
            connect: Vec::new(),
            disconnect: Vec::new(),
            events: HashMap::new(),
        };
        for (name, release) in live {
            if let Some(slot) = slots.get(name) {
                take_part(&mut route, slot, &release.manifest)?;
            }
        }
        let route = Arc::new(route);
        if pattern.is_literal() {
            routes.literal.insert(pattern.text.clone(), route);
        } else {
            routes.patterns.push(route);
        }
    }
    for (name, release) in live {
        let heirs = |owner: &PluginName| live.get(owner).is_some_and(|heir| heir.inherits_doors.contains(name));
        doors::check_owners(name, &release.manifest, &release.misplaced_doors, &routes, heirs)?;
        for namespace in &release.manifest.namespaces {
            let text = &namespace.pattern.text;
            if !routes.namespaces().any(|route| route.pattern.text == *text) {
                return Err(Collision::NoOwner(text.clone(), name.clone()));
            }
        }
    }
    Ok(routes)
}

fn take_part(route: &mut NamespaceRoute, slot: &Arc<Slot>, manifest: &Manifest) -> Result<(), Collision> {
    let path = route.pattern.text.clone();
    if !manifest.namespaces.iter().any(|namespace| namespace.pattern.text == path) {
        return Ok(());
    }
    if manifest.wants_connect {
        route.connect.push(slot.clone());
    }
    if manifest.wants_disconnect {
        route.disconnect.push(slot.clone());
    }
    for event in manifest.events.iter().filter(|event| *event.namespace == *path) {
        let on_failure = event.on_failure.as_deref().map(Arc::from);
        let new = EventRoute { slot: slot.clone(), on_failure };
        if let Some(old) = route.events.insert(event.name.clone(), new) {
            let (first, second) = (old.slot.name.clone(), slot.name.clone());
            return Err(Collision::Event(path.to_string(), event.name.clone(), first, second));
        }
    }
    Ok(())
}

fn owners(live: &Live) -> Result<Vec<(Pattern, PluginName, Door)>, Collision> {
    let mut owners: Vec<(Pattern, PluginName, Door)> = Vec::new();
    for (name, release) in live {
        for namespace in &release.manifest.namespaces {
            let Some(door) = &namespace.door else { continue };
            let pattern = &namespace.pattern;
            if let Some((other, owner, _)) = owners.iter().find(|(other, ..)| other.overlaps(pattern)) {
                return Err(if other.text == pattern.text {
                    Collision::TwoOwners(other.text.clone(), owner.clone(), name.clone())
                } else {
                    Collision::Namespaces(other.text.clone(), owner.clone(), pattern.text.clone(), name.clone())
                });
            }
            owners.push((pattern.clone(), name.clone(), door.clone()));
        }
    }
    Ok(owners)
}

fn check_rooms(live: &Live) -> Result<(), Collision> {
    let mut seen: Vec<(&Pattern, &Pattern, &PluginName)> = Vec::new();
    for (name, release) in live {
        for (namespace, room) in &release.manifest.rooms {
            let clash = |(ns, other, owner): &&(&Pattern, &Pattern, &PluginName)| {
                *owner != name && ns.text == namespace.text && other.overlaps(room)
            };
            if let Some((_, other, owner)) = seen.iter().find(clash) {
                return Err(Collision::Rooms(other.text.clone(), (*owner).clone(), room.text.clone(), name.clone()));
            }
            seen.push((namespace, room, name));
        }
    }
    Ok(())
}
