//! Metrics of each release: outcomes and costs of its calls. Only the last versions of a plugin keep their series.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::cpu::Cpu;
use super::latency::Latency;
use super::registrar::{Registrar, register};
use crate::error::Code;
use crate::names::PluginName;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReleaseLabels {
    pub(super) plugin: String,
    pub(super) version: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    plugin: String,
    code: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    plugin: String,
    version: String,
    outcome: &'static str,
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The plugin refused the client's request.
    Refused,
    /// The data of a message or timer does not fit its handler's type.
    InvalidData,
    /// The plugin reported a failure.
    Failed,
    /// The call trapped, exceeded a limit, or returned an unusable answer.
    Fault,
    /// Nothing could serve the call.
    Unavailable,
    AlreadyHandled,
}

impl Outcome {
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Refused, Self::InvalidData, Self::Failed, Self::Fault, Self::Unavailable, Self::AlreadyHandled];

    /// The label in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::InvalidData => "invalid_data",
            Self::Failed => "failed",
            Self::Fault => "fault",
            Self::Unavailable => "unavailable",
            Self::AlreadyHandled => "already_handled",
        }
    }

    /// Whether an operator should investigate it.
    pub fn is_error(self) -> bool {
        matches!(self, Self::InvalidData | Self::Failed | Self::Fault | Self::Unavailable)
    }
}

/// A release with its own series; live as long as the strong half of `alive`.
struct Version {
    version: String,
    alive: Weak<()>,
}

/// The most versions of a plugin with series, apart from live ones. With daily deployments there would be hundreds a year.
const MAX_VERSIONS: usize = 8;

/// The series of all releases.
pub(super) struct Releases {
    versions: Mutex<HashMap<PluginName, Vec<Version>>>,
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

/// The metrics of one release, looked up once at staging: counting costs an atomic addition.
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
    /// The series are kept while this lives.
    #[expect(dead_code, reason = "held, never read")]
    alive: Arc<()>,
}

impl PluginMetrics {
    /// Unregistered metrics, for a component that is only inspected.
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

    /// Calls without effect by a fault of the plugin or the host. Refusals of a client's request do not count.
    pub fn errors(&self) -> u64 {
        let refused = |code: Code| self.refusals[code as usize].get();
        self.faults.get() + refused(Code::Internal) + refused(Code::Unavailable)
    }

    /// Counts a call with its duration, from its start to its commit.
    pub fn called(&self, outcome: Outcome, took: Duration) {
        self.calls[outcome as usize].inc();
        self.call_seconds.observe(took);
    }

    pub fn refused(&self, code: Code) {
        self.refusals[code as usize].inc();
    }
}

impl Releases {
    /// The metrics of one release.
    pub(super) fn of(&self, plugin: &PluginName, version: &str) -> PluginMetrics {
        let labels = ReleaseLabels { plugin: plugin.to_string(), version: version.to_owned() };
        let alive = Arc::new(());
        self.remember(plugin, Version { version: version.to_owned(), alive: Arc::downgrade(&alive) });
        PluginMetrics {
            calls: Outcome::ALL.map(|outcome| {
                let ReleaseLabels { plugin, version } = labels.clone();
                self.calls.get_or_create(&OutcomeLabels { plugin, version, outcome: outcome.as_str() }).clone()
            }),
            call_seconds: self.call_seconds.get_or_create(&labels).clone(),
            cpu: self.cpu.get_or_create(&labels).clone(),
            events: self.events.get_or_create(&labels).clone(),
            seconds: self.seconds.get_or_create(&labels).clone(),
            faults: self.faults.get_or_create(&labels).clone(),
            conflicts: self.conflicts.get_or_create(&labels).clone(),
            fresh_instances: self.fresh_instances.get_or_create(&labels).clone(),
            pool_waits: self.pool_waits.get_or_create(&labels).clone(),
            log_lines_dropped: self.log_lines_dropped.get_or_create(&labels).clone(),
            refusals: Code::ALL.map(|code| {
                let labels = RefusalLabels { plugin: plugin.to_string(), code: code.as_str() };
                self.refusals.get_or_create(&labels).clone()
            }),
            alive,
        }
    }

    /// Adds a release, and removes the series of the oldest versions that are no longer live.
    fn remember(&self, plugin: &PluginName, new: Version) {
        let mut all = self.versions.lock();
        let known = all.entry(plugin.clone()).or_default();
        known.push(new);
        while known.len() > MAX_VERSIONS
            && let Some(at) = known.iter().position(|one| one.alive.strong_count() == 0)
        {
            let removed = known.remove(at);
            if !known.iter().any(|one| one.version == removed.version) {
                self.forget(ReleaseLabels { plugin: plugin.to_string(), version: removed.version });
            }
        }
    }

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

    pub(super) fn register(r: &mut Registrar) -> Self {
        Self {
            versions: Mutex::default(),
            calls: register(
                r,
                "plugin_calls",
                "Calls of every kind, by outcome: ok, refused, invalid_data, failed, fault, unavailable or already_handled",
                Family::default(),
            ),
            call_seconds: register(r, "plugin_call_seconds", "Time from the start of a call to its commit", Family::default()),
            cpu: register(r, "plugin_cpu_seconds", "CPU time of calls in the sandbox", Family::default()),
            events: register(r, "plugin_events", "Events that were handled", Family::default()),
            seconds: register(
                r,
                "plugin_event_seconds",
                "Time from the start of an event's call to its commit",
                Family::default(),
            ),
            refusals: register(r, "plugin_refusals", "Events that a plugin refused, by code", Family::default()),
            faults: register(
                r,
                "plugin_faults",
                "Calls that trapped, exceeded a limit or gave an unusable answer",
                Family::default(),
            ),
            conflicts: register(
                r,
                "plugin_conflicts",
                "Calls that ran again because a key that they had read was changed",
                Family::default(),
            ),
            fresh_instances: register(r, "plugin_fresh_instances", "Instances that were created", Family::default()),
            pool_waits: register(r, "plugin_pool_waits", "Calls that waited for an instance", Family::default()),
            log_lines_dropped: register(
                r,
                "plugin_log_lines_dropped",
                "Log lines that were dropped past the quota",
                Family::default(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn series_of_old_versions_are_removed() {
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
}
