//! The imports that the operator allows each plugin. Compares names only, before any code of a component runs.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::names::PluginName;

/// The package of the granted interfaces.
const PACKAGE: &str = "hubbub:plugin/";

/// An interface of the contract, as `plugins.NAME.grants` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    Rooms,
    Emitter,
    Store,
    Presence,
    Budget,
    Timers,
    Bus,
    Log,
    Metrics,
    Clock,
    Random,
    Config,
}

impl Interface {
    const ALL: [Self; 12] = [
        Self::Rooms,
        Self::Emitter,
        Self::Store,
        Self::Presence,
        Self::Budget,
        Self::Timers,
        Self::Bus,
        Self::Log,
        Self::Metrics,
        Self::Clock,
        Self::Random,
        Self::Config,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Emitter => "emitter",
            Self::Store => "store",
            Self::Presence => "presence",
            Self::Budget => "budget",
            Self::Timers => "timers",
            Self::Bus => "bus",
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::Clock => "clock",
            Self::Random => "random",
            Self::Config => "config",
        }
    }

    /// The interface of an import such as `hubbub:plugin/store@0.1.0`. None for imports without functions, such as `types`.
    fn of(import: &str) -> Option<Self> {
        let name = import.strip_prefix(PACKAGE)?.split('@').next()?;
        Self::ALL.into_iter().find(|interface| interface.as_str() == name)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A component imports an interface that is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it imports {PACKAGE}{interface}, which is not granted: add \"{interface}\" to plugins.{plugin}.grants to allow it")]
pub struct NotGranted {
    plugin: PluginName,
    interface: Interface,
}

/// The granted interfaces of each plugin. A plugin without an entry may import everything.
#[derive(Debug, Default)]
pub struct Grants(BTreeMap<PluginName, Vec<Interface>>);

impl Grants {
    pub fn new(grants: BTreeMap<PluginName, Vec<Interface>>) -> Self {
        Self(grants)
    }

    /// Whether a plugin has an entry.
    pub fn names(&self, plugin: &PluginName) -> bool {
        self.0.contains_key(plugin)
    }

    /// Checks a component's imports.
    pub fn check(&self, plugin: &PluginName, imports: &[String]) -> Result<(), NotGranted> {
        let Some(granted) = self.0.get(plugin) else { return Ok(()) };
        let wanted = imports.iter().filter_map(|import| Interface::of(import));
        match wanted.into_iter().find(|interface| !granted.contains(interface)) {
            Some(interface) => Err(NotGranted { plugin: plugin.clone(), interface }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_import_that_is_not_granted_is_reported_with_its_key() {
        let polls = PluginName::parse("polls").unwrap();
        let grants = Grants::new(BTreeMap::from([(polls.clone(), vec![Interface::Store])]));
        let imports = ["hubbub:plugin/types@0.1.0", "hubbub:plugin/store@0.1.0", "hubbub:plugin/bus@0.1.0"].map(str::to_owned);
        assert_eq!(grants.check(&polls, &imports[..2]), Ok(()));
        let error = grants.check(&polls, &imports).unwrap_err().to_string();
        assert!(error.contains("hubbub:plugin/bus") && error.contains("plugins.polls.grants"), "{error}");
        assert_eq!(grants.check(&PluginName::parse("others").unwrap(), &imports), Ok(()));
    }
}
