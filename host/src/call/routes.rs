//! Routes: the plugins that handle each namespace and event, computed from the live releases. Readers take no lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::deployed_plugin::DeployedPlugin;
use super::manifest::Manifest;
use super::release::Release;
use crate::names::PluginName;
use crate::sandbox::exports::Door;
use crate::transaction::profile::Pattern;

/// The routes at one moment.
#[derive(Default)]
pub struct Routes {
    literal: HashMap<Arc<str>, Arc<NamespaceRoute>>,
    patterns: Vec<Arc<NamespaceRoute>>,
}

/// One namespace.
pub struct NamespaceRoute {
    pub pattern: Pattern,
    pub door: Door,
    /// Whether its sockets may come back after a lost connection. One plugin for which it is off turns it off for all.
    pub recovers: bool,
    pub owner: Arc<DeployedPlugin>,
    /// Plugins that handle connects and disconnects, in the order of their names.
    pub connect: Vec<Arc<DeployedPlugin>>,
    pub disconnect: Vec<Arc<DeployedPlugin>>,
    events: HashMap<String, EventRoute>,
}

/// One event of a namespace.
pub struct EventRoute {
    pub deployed: Arc<DeployedPlugin>,
    pub on_failure: Option<Arc<str>>,
    /// The payload's field that is its idempotency key.
    pub once: Option<Arc<str>>,
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
    #[error("{0} has no active release, so no release can be tried beside it")]
    NothingActive(PluginName),
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error("version {new} has data version {new_data} and cannot read data version {old_data} of the running version {old}")]
    DataVersion { new: String, new_data: u32, old: String, old_data: u32 },
}

/// A door that is configured under the wrong plugin.
#[derive(Debug, thiserror::Error)]
pub enum Misplaced {
    #[error("plugins.{plugin}.doors.{namespace:?}: the plugin {owner} owns this door: use plugins.{owner}.doors.{namespace:?}")]
    OtherOwner { plugin: PluginName, namespace: String, owner: PluginName },
    #[error("plugins.{plugin}.doors.{namespace:?}: no plugin has this namespace; the doors of {plugin} are {own}")]
    Unknown { plugin: PluginName, namespace: String, own: String },
    #[error("plugins.{0}.doors: no plugin {0} is deployed")]
    NotDeployed(PluginName),
}

pub(crate) type DeployedPlugins = BTreeMap<PluginName, Arc<DeployedPlugin>>;
pub(crate) type Live = BTreeMap<PluginName, Arc<Release>>;

pub(crate) fn build(deployed_plugins: &DeployedPlugins, live: &Live) -> Result<Routes, Collision> {
    check_rooms(live)?;
    let mut routes = Routes::default();
    for (pattern, owner, door) in owners(live)? {
        let Some(deployed) = deployed_plugins.get(&owner) else { continue };
        let mut route = NamespaceRoute {
            pattern: pattern.clone(),
            door,
            recovers: true,
            owner: deployed.clone(),
            connect: Vec::new(),
            disconnect: Vec::new(),
            events: HashMap::new(),
        };
        for (name, release) in live {
            if let Some(deployed) = deployed_plugins.get(name) {
                take_part(&mut route, deployed, &release.manifest)?;
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
        check_owners(name, &release.manifest, &release.misplaced_doors, &routes, heirs)?;
        for namespace in &release.manifest.namespaces {
            let text = &namespace.pattern.text;
            if !routes.namespaces().any(|route| route.pattern.text == *text) {
                return Err(Collision::NoOwner(text.clone(), name.clone()));
            }
        }
    }
    Ok(routes)
}

fn take_part(route: &mut NamespaceRoute, deployed: &Arc<DeployedPlugin>, manifest: &Manifest) -> Result<(), Collision> {
    let path = route.pattern.text.clone();
    let Some(namespace) = manifest.namespaces.iter().find(|namespace| namespace.pattern.text == path) else { return Ok(()) };
    route.recovers &= namespace.recovers;
    if manifest.wants_connect {
        route.connect.push(deployed.clone());
    }
    if manifest.wants_disconnect {
        route.disconnect.push(deployed.clone());
    }
    for event in manifest.events.iter().filter(|event| *event.namespace == *path) {
        let (on_failure, once) = (event.on_failure.as_deref().map(Arc::from), event.once.as_deref().map(Arc::from));
        let new = EventRoute { deployed: deployed.clone(), on_failure, once };
        if let Some(old) = route.events.insert(event.name.clone(), new) {
            let (first, second) = (old.deployed.name.clone(), deployed.name.clone());
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

/// Returns the owner of the first misplaced door as an error, unless the door's settings apply to that owner.
pub(crate) fn check_owners(
    plugin: &PluginName,
    manifest: &Manifest,
    misplaced: &[String],
    routes: &Routes,
    inherits: impl Fn(&PluginName) -> bool,
) -> Result<(), Misplaced> {
    let owner = |namespace: &str| routes.namespaces().find(|route| &*route.pattern.text == namespace);
    let is_wrong = |namespace: &&String| !owner(namespace).is_some_and(|route| inherits(&route.owner.name));
    let Some(namespace) = misplaced.iter().find(is_wrong).cloned() else { return Ok(()) };
    let plugin = plugin.clone();
    match owner(&namespace) {
        Some(route) => Err(Misplaced::OtherOwner { plugin, namespace, owner: route.owner.name.clone() }),
        None => {
            let own = manifest.namespaces.iter().filter(|namespace| namespace.door.is_some());
            let own: Vec<_> = own.map(|namespace| format!("{:?}", namespace.pattern.text)).collect();
            let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
            Err(Misplaced::Unknown { plugin, namespace, own })
        }
    }
}
