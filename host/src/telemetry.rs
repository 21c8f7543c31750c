//! The host's figures and its log. Names and units are the operator's contract: every metric is registered here, with what it
//! counts, and label values come from bounded sets only.

pub mod figures;
pub mod latency;

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::latency::Latency;
use crate::error::Code;
use crate::names::PluginName;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PluginLabel {
    pub plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReleaseLabels {
    plugin: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    plugin: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    pub limit: &'static str,
    pub outcome: &'static str,
}

/// The host's figures.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub connections: Gauge,
    pub sockets: Gauge,
    pub connects: Counter,
    pub connects_refused: Family<ReasonLabel, Counter>,
    pub disconnects: Family<ReasonLabel, Counter>,
    pub events_refused: Family<ReasonLabel, Counter>,
    pub slow_consumers: Counter,
    pub limits_passed: Family<LimitLabels, Counter>,
    pub connects_waiting: Gauge,
    pub connections_aged: Counter,
    pub watchers: Gauge,
    pub watchers_refused: Counter,
    pub watchers_behind: Counter,
    pub joins_refused: Counter,
    pub bus_hops_exceeded: Counter,
    pub bus_dead: Counter,
    pub bus_queued: Gauge,
    pub timers_waiting: Gauge,
    pub timers_fired: Counter,
    pub timers_failed: Counter,
    pub schedules_skipped: Counter,
    pub handler_panics: Counter,
    releases: Families,
    pub custom: Custom,
}

struct Families {
    events: Family<ReleaseLabels, Counter>,
    seconds: Family<ReleaseLabels, Latency>,
    refusals: Family<RefusalLabels, Counter>,
    faults: Family<ReleaseLabels, Counter>,
    conflicts: Family<ReleaseLabels, Counter>,
    fresh_instances: Family<ReleaseLabels, Counter>,
    pool_waits: Family<ReleaseLabels, Counter>,
    log_lines_dropped: Family<ReleaseLabels, Counter>,
}

/// One release's figures, looked up once at staging: counting costs an atomic addition.
pub struct PluginMetrics {
    pub events: Counter,
    pub seconds: Latency,
    pub faults: Counter,
    pub conflicts: Counter,
    pub fresh_instances: Counter,
    pub pool_waits: Counter,
    pub log_lines_dropped: Counter,
    refusals: [Counter; Code::ALL.len()],
}

impl PluginMetrics {
    /// Counters that nobody reads: for a component that is only being looked at.
    pub fn detached() -> Self {
        Self {
            events: Counter::default(),
            seconds: Latency::default(),
            faults: Counter::default(),
            conflicts: Counter::default(),
            fresh_instances: Counter::default(),
            pool_waits: Counter::default(),
            log_lines_dropped: Counter::default(),
            refusals: Default::default(),
        }
    }

    /// Calls that took no effect by the plugin's fault, or the host's; a refusal of the client is none.
    pub fn errors(&self) -> u64 {
        let refused = |code: Code| self.refusals[code as usize].get();
        self.faults.get() + refused(Code::Internal) + refused(Code::Unavailable)
    }

    pub fn refused(&self, code: Code) {
        self.refusals[code as usize].inc();
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hubbub");
        let r = &mut registry;
        let metrics = Self {
            connections: register(r, "connections", "Engine.IO connections open now", Gauge::default()),
            sockets: register(r, "sockets", "Sockets (connections to a namespace) open now", Gauge::default()),
            connects: register(r, "socket_connects", "Sockets that were let in", Counter::default()),
            connects_refused: register(r, "socket_connects_refused", "Sockets that were refused, by reason", Family::default()),
            disconnects: register(r, "socket_disconnects", "Sockets that have gone, by reason", Family::default()),
            events_refused: register(
                r,
                "events_refused",
                "Events refused before any plugin saw them, by reason",
                Family::default(),
            ),
            slow_consumers: register(r, "slow_consumers", "Clients ended because their queue was full", Counter::default()),
            limits_passed: register(
                r,
                "limits_passed",
                "What came past a limit of the door: refused, or allowed in a dry run",
                Family::default(),
            ),
            connects_waiting: register(r, "connects_waiting", "Connections that wait for their turn", Gauge::default()),
            connections_aged: register(r, "connections_aged", "Connections ended at gateway.max_age", Counter::default()),
            watchers: register(r, "admin_watchers", "Dashboards that are told the figures", Gauge::default()),
            watchers_refused: register(
                r,
                "admin_watchers_refused",
                "Dashboards refused: without the token, or past the limit",
                Counter::default(),
            ),
            watchers_behind: register(
                r,
                "admin_figures_dropped",
                "Figures that a dashboard was too slow for",
                Counter::default(),
            ),
            joins_refused: register(r, "joins_refused", "Joins and tracks past a socket's limit", Counter::default()),
            bus_hops_exceeded: register(r, "bus_hops_exceeded", "Messages dropped on their ninth hop", Counter::default()),
            bus_dead: register(r, "bus_dead_letters", "Messages that became dead letters", Counter::default()),
            bus_queued: register(r, "bus_messages_queued", "Messages accepted and not yet handled by all", Gauge::default()),
            timers_waiting: register(r, "timers_waiting", "Timers that are not due yet", Gauge::default()),
            timers_fired: register(r, "timers_fired", "Timers that were run", Counter::default()),
            timers_failed: register(r, "timers_failed", "Runs of timers that took no effect", Counter::default()),
            schedules_skipped: register(
                r,
                "schedules_skipped",
                "Runs of schedules left out because the one before was still under way",
                Counter::default(),
            ),
            handler_panics: register(
                r,
                "handler_panics",
                "Panics of the host caught while it served an event",
                Counter::default(),
            ),
            releases: Families::register(r),
            custom: Custom::register(r),
            registry: Mutex::new(Registry::default()),
        };
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }

    /// Registers figures that live elsewhere.
    pub fn extend(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A release's own counters.
    pub fn release(&self, plugin: &PluginName, version: &str) -> PluginMetrics {
        let labels = ReleaseLabels { plugin: plugin.to_string(), version: version.to_owned() };
        let families = &self.releases;
        PluginMetrics {
            events: families.events.get_or_create(&labels).clone(),
            seconds: families.seconds.get_or_create(&labels).clone(),
            faults: families.faults.get_or_create(&labels).clone(),
            conflicts: families.conflicts.get_or_create(&labels).clone(),
            fresh_instances: families.fresh_instances.get_or_create(&labels).clone(),
            pool_waits: families.pool_waits.get_or_create(&labels).clone(),
            log_lines_dropped: families.log_lines_dropped.get_or_create(&labels).clone(),
            refusals: Code::ALL.map(|code| {
                let labels = RefusalLabels { plugin: plugin.to_string(), code: code.as_str() };
                families.refusals.get_or_create(&labels).clone()
            }),
        }
    }

    /// Everything, as `/metrics` answers it (OpenMetrics text).
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Families {
    fn register(r: &mut Registry) -> Self {
        Self {
            events: register(r, "plugin_events", "Events handled", Family::default()),
            seconds: register(r, "plugin_event_seconds", "From an event's turn to its commit", Family::default()),
            refusals: register(r, "plugin_refusals", "Events a plugin refused, by code", Family::default()),
            faults: register(r, "plugin_faults", "Calls that trapped or passed a limit", Family::default()),
            conflicts: register(r, "plugin_conflicts", "Calls run again because what they read had changed", Family::default()),
            fresh_instances: register(r, "plugin_fresh_instances", "Instances made", Family::default()),
            pool_waits: register(r, "plugin_pool_waits", "Calls that waited for an instance", Family::default()),
            log_lines_dropped: register(r, "plugin_log_lines_dropped", "Log lines past the quota", Family::default()),
        }
    }
}

/// 0.001 to 4194, in whatever a plugin counts.
fn custom_values() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

fn register<M: prometheus_client::registry::Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// The figures that plugins keep for themselves.
pub struct Custom {
    names: Mutex<HashMap<PluginName, Vec<String>>>,
    counts: Family<CustomLabels, Counter>,
    values: Family<CustomLabels, Histogram>,
    gauges: Family<CustomLabels, Gauge<f64, AtomicU64>>,
    dropped: Family<PluginLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CustomLabels {
    plugin: String,
    name: String,
}

/// Names a plugin may use.
const MAX_CUSTOM_NAMES: usize = 64;

impl Custom {
    fn register(r: &mut Registry) -> Self {
        let values = Family::new_with_constructor(custom_values as fn() -> Histogram);
        Self {
            names: Mutex::default(),
            counts: register(r, "plugin_custom", "Counters of plugins", Family::default()),
            values: register(r, "plugin_custom_value", "Histograms of plugins", values),
            gauges: register(r, "plugin_custom_gauge", "Gauges of plugins", Family::default()),
            dropped: register(
                r,
                "plugin_custom_dropped",
                "Figures with a bad name, or past a plugin's 64 names",
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
        let mut all = self.names.lock().unwrap_or_else(PoisonError::into_inner);
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

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging to standard error. `filter` is as `RUST_LOG`: `info`, or `warn,hubbub=debug`.
pub fn start_log(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|e| e.to_string())?;
    // In a file or a pipe, colours would stand between a word and who looks for it.
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plugins_figures_are_bounded_in_number() {
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
