//! The host's figures and its log. Names and units are the operator's contract: every metric is registered here, with what it
//! counts, and label values come from bounded sets only.

pub mod cpu;
pub mod exchange;
pub mod figures;
pub mod latency;
pub mod traces;

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::cpu::Cpu;
use self::exchange::Exchange;
use self::latency::Latency;
use crate::error::Code;
use crate::names::PluginName;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PluginLabel {
    pub plugin: String,
}

impl From<&PluginName> for PluginLabel {
    fn from(name: &PluginName) -> Self {
        Self { plugin: name.to_string() }
    }
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
pub struct QuotaLabels {
    pub plugin: String,
    pub quota: &'static str,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    plugin: String,
    version: String,
    outcome: &'static str,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The plugin refused, knowingly.
    Refused,
    /// The plugin could not.
    Failed,
    /// It trapped, passed a limit, or answered what cannot be used.
    Fault,
    /// Nothing could serve it.
    Unavailable,
    AlreadyHandled,
}

impl Outcome {
    pub const ALL: [Self; 6] = [Self::Ok, Self::Refused, Self::Failed, Self::Fault, Self::Unavailable, Self::AlreadyHandled];

    /// As metrics label it, and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Fault => "fault",
            Self::Unavailable => "unavailable",
            Self::AlreadyHandled => "already_handled",
        }
    }

    /// Whether somebody ought to look at it.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::Fault | Self::Unavailable)
    }
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
    slow_consumers: Family<ReasonLabel, Counter>,
    pub stalled_clients: Gauge,
    pub limits_passed: Family<LimitLabels, Counter>,
    pub connects_waiting: Gauge,
    pub connections_aged: Counter,
    pub watchers: Gauge,
    pub watchers_refused: Counter,
    pub watchers_behind: Counter,
    pub taps: Gauge,
    pub taps_refused: Counter,
    pub tap_records_dropped: Counter,
    pub joins_refused: Counter,
    pub bus_hops_exceeded: Counter,
    pub bus_dead: Counter,
    pub bus_queued: Gauge,
    pub timers_waiting: Gauge,
    pub timers_fired: Counter,
    pub timers_failed: Counter,
    pub schedules_skipped: Counter,
    pub handler_panics: Counter,
    pub spans_sent: Counter,
    pub spans_dropped: Family<ReasonLabel, Counter>,
    quotas_passed: Family<QuotaLabels, Counter>,
    pub witnessed: Witnessed,
    pub exchange: Exchange,
    releases: Families,
    versions: Mutex<HashMap<PluginName, Vec<Known>>>,
    pub custom: Custom,
}

/// Calls that were recorded, or run on a shadow as well, by plugin.
pub struct Witnessed {
    pub recorded: Family<PluginLabel, Counter>,
    pub record_dropped: Family<PluginLabel, Counter>,
    pub shadowed: Family<PluginLabel, Counter>,
    pub shadow_dropped: Family<PluginLabel, Counter>,
    pub shadow_differing: Family<PluginLabel, Counter>,
}

impl Witnessed {
    fn register(r: &mut Registry) -> Self {
        let counter = Family::default;
        Self {
            recorded: register(r, "recorded_calls", "Calls written into a record", counter()),
            record_dropped: register(r, "record_calls_dropped", "Calls that a record had no room for", counter()),
            shadowed: register(r, "shadow_calls", "Calls run on a shadow as well", counter()),
            shadow_dropped: register(r, "shadow_calls_dropped", "Calls that a shadow had no time for", counter()),
            shadow_differing: register(
                r,
                "shadow_calls_differing",
                "Calls that a shadow would have handled otherwise",
                counter(),
            ),
        }
    }
}
/// A release that has series of its own, for as long as the other half of `alive` is.
struct Known {
    version: String,
    alive: Weak<()>,
}

/// Versions of a plugin that keep their series when they have gone. Deployed daily for a year, all of them would be thousands.
const MAX_VERSIONS: usize = 8;

struct Families {
    calls: Family<OutcomeLabels, Counter>,
    call_seconds: Family<ReleaseLabels, Latency>,
    cpu: Family<ReleaseLabels, Cpu>,
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
    /// By outcome, in the order of [`Outcome::ALL`].
    calls: [Counter; Outcome::ALL.len()],
    call_seconds: Latency,
    pub cpu: Cpu,
    pub events: Counter,
    pub seconds: Latency,
    pub faults: Counter,
    pub conflicts: Counter,
    pub fresh_instances: Counter,
    pub pool_waits: Counter,
    pub log_lines_dropped: Counter,
    refusals: [Counter; Code::ALL.len()],
    /// While this lives, its series do.
    #[expect(dead_code, reason = "held, never looked at")]
    alive: Arc<()>,
}

impl PluginMetrics {
    /// Counters that nobody reads: for a component that is only being looked at.
    pub fn detached() -> Self {
        Self {
            calls: Default::default(),
            call_seconds: Latency::default(),
            cpu: Cpu::default(),
            events: Counter::default(),
            seconds: Latency::default(),
            faults: Counter::default(),
            conflicts: Counter::default(),
            fresh_instances: Counter::default(),
            pool_waits: Counter::default(),
            log_lines_dropped: Counter::default(),
            refusals: Default::default(),
            alive: Arc::default(),
        }
    }

    /// Calls that took no effect by the plugin's fault, or the host's; a refusal of the client is none.
    pub fn errors(&self) -> u64 {
        let refused = |code: Code| self.refusals[code as usize].get();
        self.faults.get() + refused(Code::Internal) + refused(Code::Unavailable)
    }

    /// Counts a call that took so long, from its turn to its commit.
    pub fn called(&self, outcome: Outcome, took: Duration) {
        self.calls[outcome as usize].inc();
        self.call_seconds.observe(took);
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
            slow_consumers: register(
                r,
                "slow_consumers",
                "Clients ended because they do not read: their queue was full, or too many bytes waited",
                Family::default(),
            ),
            stalled_clients: register(r, "stalled_clients", "Clients that did not read at the last look", Gauge::default()),
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
            taps: register(r, "admin_taps", "Users and rooms that an operator listens in on", Gauge::default()),
            taps_refused: register(
                r,
                "admin_taps_refused",
                "Listeners refused: without the token, without a subject, or past the limit",
                Counter::default(),
            ),
            tap_records_dropped: register(
                r,
                "admin_tap_records_dropped",
                "Records that a listener was too slow for",
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
            spans_sent: register(r, "trace_spans_sent", "Spans of traces that the collector took", Counter::default()),
            spans_dropped: register(
                r,
                "trace_spans_dropped",
                "Spans of traces dropped, by reason: the queue was full, or the collector did not take them",
                Family::default(),
            ),
            quotas_passed: register(
                r,
                "plugin_quota_passed",
                "Calls that waited or were refused, and lines that were dropped, past a quota",
                Family::default(),
            ),
            witnessed: Witnessed::register(r),
            exchange: Exchange::register(r),
            releases: Families::register(r),
            versions: Mutex::default(),
            custom: Custom::register(r),
            registry: Mutex::new(Registry::default()),
        };
        // Told as 0 from the start on, so that a rate is there to look at when the first is lost.
        for reason in ["queue", "bytes"] {
            drop(metrics.slow_consumers.get_or_create(&ReasonLabel { reason }));
        }
        for reason in traces::DROPPED {
            drop(metrics.spans_dropped.get_or_create(&ReasonLabel { reason }));
        }
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }

    /// Counts what comes past one quota of a plugin.
    pub fn quota_passed(&self, plugin: &PluginName, quota: &'static str) -> Counter {
        self.quotas_passed.get_or_create(&QuotaLabels { plugin: plugin.to_string(), quota }).clone()
    }

    /// Counts a client that was ended because it does not read: `queue` or `bytes`.
    pub fn slow_consumer(&self, reason: &'static str) {
        self.slow_consumers.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Registers figures that live elsewhere.
    pub fn extend(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A release's own counters.
    pub fn release(&self, plugin: &PluginName, version: &str) -> PluginMetrics {
        let labels = ReleaseLabels { plugin: plugin.to_string(), version: version.to_owned() };
        let families = &self.releases;
        let alive = Arc::new(());
        self.remember(plugin, Known { version: version.to_owned(), alive: Arc::downgrade(&alive) });
        PluginMetrics {
            calls: Outcome::ALL.map(|outcome| {
                let ReleaseLabels { plugin, version } = labels.clone();
                families.calls.get_or_create(&OutcomeLabels { plugin, version, outcome: outcome.as_str() }).clone()
            }),
            call_seconds: families.call_seconds.get_or_create(&labels).clone(),
            cpu: families.cpu.get_or_create(&labels).clone(),
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
            alive,
        }
    }

    /// Takes a release among those that have series, and lets the oldest of those go that serve no more.
    fn remember(&self, plugin: &PluginName, new: Known) {
        let mut all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(plugin.clone()).or_default();
        known.push(new);
        while known.len() > MAX_VERSIONS
            && let Some(at) = known.iter().position(|one| one.alive.strong_count() == 0)
        {
            let gone = known.remove(at);
            if !known.iter().any(|one| one.version == gone.version) {
                self.releases.forget(ReleaseLabels { plugin: plugin.to_string(), version: gone.version });
            }
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
    fn forget(&self, labels: ReleaseLabels) {
        self.events.remove(&labels);
        self.seconds.remove(&labels);
        self.call_seconds.remove(&labels);
        self.cpu.remove(&labels);
        self.faults.remove(&labels);
        self.conflicts.remove(&labels);
        self.fresh_instances.remove(&labels);
        self.pool_waits.remove(&labels);
        self.log_lines_dropped.remove(&labels);
        let ReleaseLabels { plugin, version } = labels;
        for outcome in Outcome::ALL.map(Outcome::as_str) {
            self.calls.remove(&OutcomeLabels { plugin: plugin.clone(), version: version.clone(), outcome });
        }
    }

    fn register(r: &mut Registry) -> Self {
        Self {
            calls: register(r, "plugin_calls", "Calls of every kind, by what came of them", Family::default()),
            call_seconds: register(r, "plugin_call_seconds", "From a call's turn to its commit", Family::default()),
            cpu: register(r, "plugin_cpu_seconds", "CPU that calls took in the sandbox", Family::default()),
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
            gauges: register(r, "plugin_custom_level", "Gauges of plugins", Family::default()),
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
    fn versions_that_have_gone_keep_no_series_for_ever() {
        let metrics = Metrics::new();
        let plugin = PluginName::parse("p").unwrap();
        let live = metrics.release(&plugin, "1.0.0");
        live.events.inc();
        for n in 0..100 {
            metrics.release(&plugin, &format!("2.0.{n}")).called(Outcome::Ok, Duration::from_micros(5));
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"hubbub_plugin_events_total{plugin="p",version="1.0.0"} 1"#), "the live one stays: {text}");
        assert_eq!(text.matches("hubbub_plugin_cpu_seconds_total{").count(), MAX_VERSIONS, "{text}");
        assert_eq!(text.matches(r#"outcome="ok"}"#).count(), MAX_VERSIONS, "{text}");
    }

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
