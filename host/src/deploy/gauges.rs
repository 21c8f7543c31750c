//! The current resource use of live releases, for the metrics. Read at each scrape, never counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::call::registry::Registry;
use crate::call::release::Release;
use crate::telemetry::collected::ByRelease;

/// Reads the gauges. A trial of the same version as the active release is added to it.
pub fn read(registry: &Registry) -> Vec<ByRelease> {
    let deployed_plugins = registry.deployed_plugins();
    let serving = deployed_plugins
        .iter()
        .flat_map(|deployed| deployed.live().into_iter().chain(deployed.canary().map(|trial| trial.release.clone())));
    let serving: Vec<Arc<Release>> = serving.collect();
    let gauge = |name, help, of: fn(&Release) -> usize| {
        let mut values = BTreeMap::new();
        for release in &serving {
            let labels = (release.manifest.name.to_string(), release.manifest.version.clone());
            *values.entry(labels).or_default() += of(release) as i64;
        }
        ByRelease { name, help, values }
    };
    vec![
        gauge("plugin_calls_running", "Calls that have an instance", |release| release.pool.running()),
        gauge("plugin_calls_waiting", "Calls that wait for an instance", |release| release.pool.waiting()),
        gauge("plugin_instances_idle", "Instances that wait for a call", |release| release.pool.idle().0),
        gauge("plugin_quarantined_sources", "Sources of calls that are quarantined", |release| {
            release.breakers.quarantined().len()
        }),
        gauge("plugin_idle_memory_bytes", "Memory of the instances that wait for a call", |release| release.pool.idle().1),
    ]
}
