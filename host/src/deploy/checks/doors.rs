//! The operator's changes to door policies of plugins: roles, claims, sentences and recovery. They never change whether a door requires a
//! token, nor the door of another plugin.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::call::manifest::{Manifest, ManifestError, check_door};
use crate::call::routes::Misplaced;
use crate::names::PluginName;
use crate::sandbox::exports;

/// `[plugins.NAME.doors."/namespace"]`: the door policy of one namespace, as the plugin names it (`/course/{id}`). A key that is
/// not set keeps the plugin's own value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Door {
    /// The roles that may connect; `[]` means any role, or none.
    pub roles: Option<Vec<String>>,
    /// The claims that a token must have; `[]` means none besides the user's id.
    pub claims: Option<Vec<String>>,
    /// The sentence for a client without a token.
    pub missing: Option<String>,
    /// The sentence for a token that is not accepted, or lacks a claim.
    pub invalid: Option<String>,
    /// The sentence for a user with another role.
    pub forbidden: Option<String>,
    /// `false`: sockets of this namespace do not come back after a lost connection, see `[recovery]`. This key holds in every plugin
    /// that takes part in the namespace, also where another one owns the door.
    pub recovery: Option<bool>,
}

impl Door {
    /// Whether any key changes the door itself.
    fn changes_door(&self) -> bool {
        *self != Self { recovery: self.recovery, ..Self::default() }
    }

    fn apply(&self, door: &mut exports::Door) {
        let lists = [(&self.roles, &mut door.roles), (&self.claims, &mut door.claims)];
        lists.into_iter().for_each(|(own, of)| own.iter().for_each(|own| of.clone_from(own)));
        let sentences =
            [(&self.missing, &mut door.missing), (&self.invalid, &mut door.invalid), (&self.forbidden, &mut door.forbidden)];
        sentences.into_iter().for_each(|(own, of)| own.iter().for_each(|own| of.clone_from(own)));
    }
}

/// The doors of one plugin, by namespace as the plugin describes it (`/course/{id}`).
pub type Configured = BTreeMap<String, Door>;

/// The configured doors, by plugin.
#[derive(Debug, Default)]
pub struct Doors(BTreeMap<PluginName, Configured>);

/// An invalid configured door.
#[derive(Debug, thiserror::Error)]
#[error("plugins.{plugin}.doors.{namespace:?}: {why}")]
pub struct DoorError {
    plugin: PluginName,
    namespace: String,
    why: ManifestError,
}

impl Doors {
    pub fn new(doors: BTreeMap<PluginName, Configured>) -> Self {
        Self(doors)
    }

    /// Whether every plugin with configured doors is deployed: a misspelt name must not leave a door unchanged.
    pub fn check_deployed(&self, is_deployed: impl Fn(&PluginName) -> bool) -> Result<(), Misplaced> {
        let missing = self.0.iter().find(|(plugin, doors)| !doors.is_empty() && !is_deployed(plugin));
        missing.map_or(Ok(()), |(plugin, _)| Err(Misplaced::NotDeployed(plugin.clone())))
    }

    /// Whether any door is configured for a plugin.
    pub fn names(&self, plugin: &PluginName) -> bool {
        self.0.get(plugin).is_some_and(|doors| !doors.is_empty())
    }

    /// Changes a plugin's own doors as configured. Returns the configured namespaces of which the plugin does not own the door;
    /// their owner is known once all plugins are.
    ///
    /// Doors configured for a plugin in `inherits` apply to this plugin's own doors as well, with a log line.
    pub fn apply(&self, manifest: &mut Manifest, inherits: &[PluginName]) -> Result<Vec<String>, DoorError> {
        for from in inherits {
            for (path, configured) in self.0.get(from).into_iter().flatten() {
                let Some(door) = door_at(manifest, path) else { continue };
                configured.apply(door);
                let wrong = |why| DoorError { plugin: from.clone(), namespace: path.clone(), why };
                check_door(path, door).map_err(wrong)?;
                let plugin = &manifest.name;
                tracing::warn!(
                    %plugin,
                    "plugins.{from}.doors.{path:?} applies to the plugin {plugin}, which has this door now: write it as \
                     [plugins.{plugin}.doors.{path:?}]"
                );
            }
        }
        let mut misplaced = Vec::new();
        for (path, configured) in self.0.get(&manifest.name).into_iter().flatten() {
            let mut own = manifest.namespaces.iter_mut().filter(|namespace| &*namespace.pattern.text == path);
            if let (Some(namespace), Some(recovery)) = (own.next(), configured.recovery) {
                namespace.recovers = recovery;
                if !configured.changes_door() {
                    continue;
                }
            }
            let Some(door) = door_at(manifest, path) else {
                misplaced.push(path.clone());
                continue;
            };
            configured.apply(door);
            let checked = check_door(path, door);
            checked.map_err(|why| DoorError { plugin: manifest.name.clone(), namespace: path.clone(), why })?;
        }
        Ok(misplaced)
    }
}

/// The plugin's own door of a namespace.
fn door_at<'a>(manifest: &'a mut Manifest, path: &str) -> Option<&'a mut exports::Door> {
    let doors = manifest.namespaces.iter_mut().filter(|namespace| &*namespace.pattern.text == path);
    doors.filter_map(|namespace| namespace.door.as_mut()).next()
}

#[cfg(test)]
#[path = "doors/tests.rs"]
mod tests;
