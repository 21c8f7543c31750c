//! The figures of each release: what came of its calls, and what they cost. Only the last few versions of a plugin keep theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

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

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The plugin refused, knowingly.
    Refused,
    /// The data of a message or timer does not fit its handler's type.
    InvalidData,
    /// The plugin could not.
    Failed,
    /// It trapped, passed a limit, or answered what cannot be used.
    Fault,
    /// Nothing could serve it.
    Unavailable,
    AlreadyHandled,
}

impl Outcome {
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Refused, Self::InvalidData, Self::Failed, Self::Fault, Self::Unavailable, Self::AlreadyHandled];

    /// As metrics label it, and traces.
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

    /// Whether somebody ought to look at it.
    pub fn is_error(self) -> bool {
        matches!(self, Self::InvalidData | Self::Failed | Self::Fault | Self::Unavailable)
    }
}

/// A release that has series of its own, for as long as the other half of `alive` is.
struct Known {
    version: String,
    alive: Weak<()>,
}

/// Versions of a plugin that keep their series when they have gone. Deployed daily for a year, all of them would be thousands.
const MAX_VERSIONS: usize = 8;

/// The series of all releases.
pub(super) struct Releases {
    versions: Mutex<HashMap<PluginName, Vec<Known>>>,
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

impl Releases {
    /// A release's own counters.
    pub(super) fn of(&self, plugin: &PluginName, version: &str) -> PluginMetrics {
        let labels = ReleaseLabels { plugin: plugin.to_string(), version: version.to_owned() };
        let alive = Arc::new(());
        self.remember(plugin, Known { version: version.to_owned(), alive: Arc::downgrade(&alive) });
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
                self.forget(ReleaseLabels { plugin: plugin.to_string(), version: gone.version });
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
}
