//! The custom metrics of plugins. Each plugin has few names, so that no plugin fills the operator's database.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::PluginLabel;
use super::registrar::{Registrar, register};
use crate::names::PluginName;

/// The custom metrics of all plugins.
pub struct Custom {
    names: Mutex<HashMap<PluginName, Vec<String>>>,
    counts: Family<CustomLabels, Counter>,
    values: Family<CustomLabels, Histogram>,
    gauges: Family<CustomLabels, Gauge<f64, AtomicU64>>,
    dropped: Family<PluginLabel, Counter>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CustomLabels {
    plugin: String,
    name: String,
}

/// The most names of one plugin.
const MAX_CUSTOM_NAMES: usize = 64;

impl Custom {
    pub(super) fn register(r: &mut Registrar) -> Self {
        let values = Family::new_with_constructor(custom_values as fn() -> Histogram);
        Self {
            names: Mutex::default(),
            counts: register(r, "plugin_custom", "Counters of plugins", Family::default()),
            values: register(r, "plugin_custom_value", "Histograms of plugins", values),
            gauges: register(r, "plugin_custom_level", "Gauges of plugins", Family::default()),
            dropped: register(
                r,
                "plugin_custom_dropped",
                "Metrics with a bad name, or past a plugin's 64 names",
                Family::default(),
            ),
        }
    }

    pub fn count(&self, plugin: &PluginName, name: &str, by: u64) {
        if let Some(labels) = self.labels(plugin, name) {
            self.counts.get_or_create(&labels).inc_by(by);
        }
    }

    pub fn observe(&self, plugin: &PluginName, name: &str, value: f64) {
        if let Some(labels) = self.labels(plugin, name) {
            self.values.get_or_create(&labels).observe(value);
        }
    }

    pub fn gauge(&self, plugin: &PluginName, name: &str, value: f64) {
        if let Some(labels) = self.labels(plugin, name) {
            self.gauges.get_or_create(&labels).set(value);
        }
    }

    fn labels(&self, plugin: &PluginName, name: &str) -> Option<CustomLabels> {
        let shape = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let mut all = self.names.lock();
        let known = all.entry(plugin.clone()).or_default();
        let is_known = known.iter().any(|other| other == name);
        if !is_known && (name.is_empty() || name.len() > 64 || !name.bytes().all(shape) || known.len() >= MAX_CUSTOM_NAMES) {
            self.dropped.get_or_create(&PluginLabel { plugin: plugin.to_string() }).inc();
            return None;
        }
        if !is_known {
            known.push(name.to_owned());
        }
        Some(CustomLabels { plugin: plugin.to_string(), name: name.to_owned() })
    }
}

/// Buckets from 0.001 to 4194, in the plugin's unit.
fn custom_values() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_number_of_custom_metrics_is_limited() {
        let metrics = Metrics::new();
        let plugin = PluginName::parse("p").unwrap();
        for i in 0..100 {
            metrics.custom.count(&plugin, &format!("n{i}"), 1);
        }
        metrics.custom.count(&plugin, "n0", 1);
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"hubbub_plugin_custom_total{plugin="p",name="n0"} 2"#), "{text}");
        assert!(text.contains(r#"hubbub_plugin_custom_dropped_total{plugin="p"} 36"#), "{text}");
    }
}
