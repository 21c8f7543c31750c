//! A release of a plugin: a component that was staged, with its instance pool and its counters.

use std::sync::Arc;

use super::breaker::Breakers;
use super::counters::CallCounters;
use super::manifest::Manifest;
use super::pool::Pool;
use crate::names::PluginName;
use crate::sandbox::World;
use crate::transaction::profile::Profile;

/// A staged release, ready to serve.
pub struct Release {
    pub manifest: Manifest,
    /// Namespaces that the operator has configured a door for under this plugin, and that another one owns.
    pub misplaced_doors: Vec<String>,
    /// Plugins whose configured doors apply to this one as well: it takes their data, and has no door configured.
    pub inherits_doors: Vec<PluginName>,
    pub profile: Arc<Profile>,
    pub pool: Arc<Pool>,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// The version of the contract that it was built for.
    pub world: World,
    pub counters: CallCounters,
    pub breakers: Breakers,
}
