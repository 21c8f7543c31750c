//! The quotas of one plugin over all its calls, and its current use: the sections `[quota]` and `[plugins.NAME.quota]`. Only
//! counts and answers; the caller refuses or ends the call. Never waits, except to measure the store.

mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::names::PluginName;
use crate::storage::MAX_SET_WRITES;
use crate::telemetry::Metrics;

pub use usage::{Passed, PerSecond, Usage};

/// `[quota]`: limits of each plugin, on this node. `[plugins.NAME.quota]` sets another value for one plugin. A release on trial
/// shares the quota of the active one, except memory and instances.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// CPU cores that the plugin's calls may use, such as 0.25; at most 1024; the burst is one second's worth; 0 means no limit.
    /// Past it calls wait up to `pool.wait`, and are then refused with `rate_limited`. Metric: `plugin_quota_passed`.
    pub cpu: f64,
    /// Bytes of memory of an instance; the smaller of it and `sandbox.memory` holds. Past it the call traps. Metric:
    /// `plugin_quota_passed`.
    pub memory: usize,
    /// Instances of a release; the smaller of it and `pool.instances` holds. Past it calls wait for an instance. Metric:
    /// `plugin_quota_passed`.
    pub instances: usize,
    /// Effects of a call; the smaller of it and `limits.effects` holds. Past it the call traps. Metric: `plugin_quota_passed`.
    pub effects: usize,
    /// Bytes a second that the plugin's emits put into clients' queues: each event's bytes times its receivers; 0 means no limit.
    /// Past it a call is refused with `rate_limited`, and with `too_large` if the call alone is over the limit. Metric:
    /// `plugin_quota_passed`.
    pub fanout_bytes: u64,
    /// Log lines a second. Past it lines are dropped, and the log reports how many, once a second. Metric:
    /// `plugin_log_lines_dropped`.
    pub log_lines: u64,
    /// Bytes of all keys and values of the plugin; 0 means no limit. Past it `put`, `append` and `add` return `value-too-large`;
    /// deleting still works. Metric: `plugin_quota_passed`.
    pub store_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cpu: 0.0,
            memory: 32 << 20,
            instances: 64,
            effects: MAX_SET_WRITES,
            fanout_bytes: 256 << 20,
            log_lines: 100,
            store_bytes: 10 << 30,
        }
    }
}

/// `[plugins.NAME.quota]`: quotas of one plugin in place of those in `[quota]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Own {
    /// As `quota.cpu`, for this plugin.
    pub cpu: Option<f64>,
    /// As `quota.memory`, for this plugin.
    pub memory: Option<usize>,
    /// As `quota.instances`, for this plugin.
    pub instances: Option<usize>,
    /// As `quota.effects`, for this plugin.
    pub effects: Option<usize>,
    /// As `quota.fanout_bytes`, for this plugin.
    pub fanout_bytes: Option<u64>,
    /// As `quota.log_lines`, for this plugin.
    pub log_lines: Option<u64>,
    /// As `quota.store_bytes`, for this plugin.
    pub store_bytes: Option<u64>,
}

/// A quota outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{section}.{key} is {value}; it must be {bounds}")]
pub struct OutOfBounds {
    section: String,
    key: &'static str,
    value: String,
    bounds: &'static str,
}

impl Config {
    fn with(self, own: &Own) -> Self {
        Self {
            cpu: own.cpu.unwrap_or(self.cpu),
            memory: own.memory.unwrap_or(self.memory),
            instances: own.instances.unwrap_or(self.instances),
            effects: own.effects.unwrap_or(self.effects),
            fanout_bytes: own.fanout_bytes.unwrap_or(self.fanout_bytes),
            log_lines: own.log_lines.unwrap_or(self.log_lines),
            store_bytes: own.store_bytes.unwrap_or(self.store_bytes),
        }
    }

    fn check(&self, section: &str) -> Result<(), OutOfBounds> {
        let wrong = |key, value: &dyn ToString, bounds| {
            Err(OutOfBounds { section: section.to_owned(), key, value: value.to_string(), bounds })
        };
        match self {
            // NaN is in no range.
            Self { cpu, .. } if !(0.0..=1024.0).contains(cpu) => wrong("cpu", cpu, "0 to 1024 cores"),
            Self { memory: 0, .. } => wrong("memory", &0, "1 or more"),
            Self { instances: 0, .. } => wrong("instances", &0, "1 or more"),
            Self { effects, .. } if !(1..=MAX_SET_WRITES).contains(effects) => wrong("effects", effects, "1 to 256"),
            Self { log_lines, .. } if *log_lines > usage::MOST_PER_SECOND => wrong("log_lines", log_lines, "0 to 10 000 000"),
            _ => Ok(()),
        }
    }
}

/// A quota. The text is its configuration key and metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Cpu,
    Memory,
    Instances,
    Effects,
    FanoutBytes,
    LogLines,
    StoreBytes,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Memory, Self::Instances, Self::Effects, Self::FanoutBytes, Self::LogLines, Self::StoreBytes];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Instances => "instances",
            Self::Effects => "effects",
            Self::FanoutBytes => "fanout_bytes",
            Self::LogLines => "log_lines",
            Self::StoreBytes => "store_bytes",
        }
    }
}

/// The quotas of all plugins.
#[derive(Default)]
pub struct Quotas {
    all: Config,
    own: BTreeMap<PluginName, Own>,
    /// One for each plugin name staged here, kept over its releases, so that a new release does not evade the quota.
    usages: Mutex<BTreeMap<PluginName, Arc<Usage>>>,
}

impl Quotas {
    pub fn new(all: Config, own: BTreeMap<PluginName, Own>) -> Result<Self, OutOfBounds> {
        all.check("quota")?;
        for (name, own) in &own {
            all.with(own).check(&format!("plugins.{name}.quota"))?;
        }
        Ok(Self { all, own, usages: Mutex::default() })
    }

    /// A plugin's quota and use.
    pub fn of(&self, plugin: &PluginName, metrics: &Metrics) -> Arc<Usage> {
        self.of_successor(plugin, &[], metrics)
    }

    /// The same for a plugin that takes over data of others. If it has no quota of its own, the first quota among theirs applies.
    pub fn of_successor(&self, plugin: &PluginName, takes_from: &[PluginName], metrics: &Metrics) -> Arc<Usage> {
        let mut usages = self.usages.lock();
        let made = || {
            let has_own = |plugin: &&PluginName| self.own.get(*plugin).is_some_and(|own| *own != Own::default());
            let from = takes_from.iter().find(has_own).filter(|_| !has_own(&plugin));
            if let Some(from) = from {
                tracing::warn!(
                    %plugin,
                    "plugins.{from}.quota applies to the plugin {plugin} as well, which has a part of its data: write what \
                     {plugin} may use as [plugins.{plugin}.quota]"
                );
            }
            let quota = self.own.get(from.unwrap_or(plugin)).map_or(self.all, |own| self.all.with(own));
            Arc::new(Usage::new(plugin.clone(), quota, |kind| metrics.quota_passed(plugin, kind.as_str())))
        };
        usages.entry(plugin.clone()).or_insert_with(made).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plugins_own_quota_overrides_the_general_one() {
        let (ours, theirs) = (PluginName::parse("ours").unwrap(), PluginName::parse("theirs").unwrap());
        let own = BTreeMap::from([(ours.clone(), Own { cpu: Some(0.5), ..Own::default() })]);
        let quotas = Quotas::new(Config { log_lines: 7, ..Config::default() }, own).unwrap();
        let of = |name| quotas.of(name, &Metrics::new()).quota;
        assert_eq!((of(&ours).cpu, of(&ours).log_lines, of(&theirs).cpu), (0.5, 7, 0.0));
    }

    #[test]
    fn a_quota_applies_to_the_plugin_that_takes_over_the_data() {
        let [chat, successor, other] = ["chat", "successor", "other"].map(|name| PluginName::parse(name).unwrap());
        let own = BTreeMap::from([(chat.clone(), Own { log_lines: Some(7), ..Own::default() }), (other.clone(), Own::default())]);
        let quotas = Quotas::new(Config::default(), own).unwrap();
        let takes_from = [other.clone(), chat];
        assert_eq!(quotas.of_successor(&successor, &takes_from, &Metrics::new()).quota.log_lines, 7);
        assert_eq!(quotas.of_successor(&other, &[], &Metrics::new()).quota.log_lines, Config::default().log_lines);
    }

    #[test]
    fn a_quota_out_of_bounds_is_reported() {
        for cpu in [-1.0, f64::NAN, 1e9] {
            assert!(Quotas::new(Config { cpu, ..Config::default() }, BTreeMap::new()).is_err());
        }
        let own = BTreeMap::from([(PluginName::parse("p").unwrap(), Own { effects: Some(257), ..Own::default() })]);
        let error = Quotas::new(Config::default(), own).err().unwrap();
        assert_eq!(error.to_string(), "plugins.p.quota.effects is 257; it must be 1 to 256");
    }
}
