//! A release of a plugin: a staged component with its instance pool and its counters.

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
    /// Namespaces of other plugins for which the operator has configured a door under this plugin.
    pub misplaced_doors: Vec<String>,
    /// Plugins that pass their configured doors on to this one: it takes their data, and has no door configured.
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
