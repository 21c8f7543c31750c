//! The host's metrics, log and traces. Names and units are a contract with operators: every metric is registered in this module
//! with its help text, and label values come from bounded sets only.

pub mod catalogue;
pub mod collected;
pub mod cpu;
pub mod custom;
pub mod exchange;
pub mod latency;
pub mod log;
pub mod plugin;
mod registrar;
pub mod traces;

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::custom::Custom;
use self::exchange::Exchange;
pub use self::log::{LogFormat, Often, check_filter, flush_log, lost_lines, reload_filter, start_log, write_beside_log};
use self::plugin::Releases;
pub use self::plugin::{Outcome, PluginMetrics};
use self::registrar::{Registrar, register};
use crate::names::PluginName;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PluginLabel {
    pub plugin: String,
}

impl From<&PluginName> for PluginLabel {
    fn from(name: &PluginName) -> Self {
        Self { plugin: name.to_string() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QuotaLabels {
    pub plugin: String,
    pub quota: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BreakerLabels {
    pub plugin: String,
    pub source: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    pub listener: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    pub limit: &'static str,
    pub outcome: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusedLabels {
    pub listener: &'static str,
    pub reason: &'static str,
}

/// The host's metrics.
pub struct Metrics {
    registry: Mutex<Registry>,
    pub connections: Gauge,
    pub sockets: Gauge,
    pub connects: Counter,
    pub connects_refused: Family<ReasonLabel, Counter>,
    pub disconnects: Family<ReasonLabel, Counter>,
    pub events_refused: Family<ReasonLabel, Counter>,
    slow_consumers: Family<ReasonLabel, Counter>,
    upgrades_failed: Family<ReasonLabel, Counter>,
    pub limits_passed: Family<LimitLabels, Counter>,
    pub accept_errors: Family<ListenerLabel, Counter>,
    pub http_closed: Family<ReasonLabel, Counter>,
    pub tcp_connections: Family<ListenerLabel, Gauge>,
    pub requests_refused: Family<RefusedLabels, Counter>,
    pub failed_logins: Family<ListenerLabel, Counter>,
    pub connects_waiting: Gauge,
    pub connections_aged: Counter,
    pub connections_expired: Counter,
    pub watchers: Gauge,
    pub watchers_refused: Counter,
    pub watchers_behind: Counter,
    pub taps: Gauge,
    pub taps_refused: Counter,
    pub tap_records_dropped: Counter,
    pub joins_refused: Counter,
    pub recoveries: Counter,
    recoveries_refused: Family<ReasonLabel, Counter>,
    recovery_events: Counter,
    pub recovery_sockets_away: Gauge,
    pub once_repeats: Counter,
    pub bus_hops_exceeded: Counter,
    pub bus_dead: Counter,
    pub bus_unheard: Counter,
    pub bus_queued: Gauge,
    pub notices_dropped: Family<PluginLabel, Counter>,
    breakers_opened: Family<BreakerLabels, Counter>,
    pub timers_waiting: Gauge,
    pub timers_fired: Counter,
    pub timers_failed: Counter,
    pub schedules_skipped: Counter,
    pub handler_panics: Counter,
    pub spans_sent: Counter,
    pub spans_dropped: Family<ReasonLabel, Counter>,
    quotas_passed: Family<QuotaLabels, Counter>,
    pub recordings: RecordingMetrics,
    pub exchange: Exchange,
    releases: Releases,
    pub custom: Custom,
}

/// Calls that were recorded or also run on a shadow, by plugin.
pub struct RecordingMetrics {
    pub recorded: Family<PluginLabel, Counter>,
    pub record_dropped: Family<PluginLabel, Counter>,
    pub shadowed: Family<PluginLabel, Counter>,
    pub shadow_dropped: Family<PluginLabel, Counter>,
    pub shadow_differing: Family<PluginLabel, Counter>,
}

impl RecordingMetrics {
    fn register(r: &mut Registrar) -> Self {
        let counter = Family::default;
        Self {
            recorded: register(r, "recorded_calls", "Calls that were written into a recording", counter()),
            record_dropped: register(r, "record_calls_dropped", "Calls that were left out of a recording", counter()),
            shadowed: register(r, "shadow_calls", "Calls that also ran on a shadow", counter()),
            shadow_dropped: register(
                r,
                "shadow_calls_dropped",
                "Calls that did not run on a shadow because too many waited",
                counter(),
            ),
            shadow_differing: register(r, "shadow_calls_differing", "Calls that a shadow handled differently", counter()),
        }
    }
}
impl Metrics {
    pub fn new() -> Self {
        Self::register(Registrar::new())
    }

    /// All metrics with one series for each label set, so that an exposition shows the labels.
    pub fn examples() -> Self {
        Self::register(Registrar::with_examples())
    }

    fn register(mut registrar: Registrar) -> Self {
        let r = &mut registrar;
        let metrics = Self {
            connections: register(r, "connections", "Engine.IO connections that are open", Gauge::default()),
            sockets: register(r, "sockets", "Sockets (connections to a namespace) that are connected", Gauge::default()),
            connects: register(r, "socket_connects", "Sockets that were connected", Counter::default()),
            connects_refused: register(r, "socket_connects_refused", "Sockets that were refused, by reason", Family::default()),
            disconnects: register(r, "socket_disconnects", "Sockets that were disconnected, by reason", Family::default()),
            events_refused: register(
                r,
                "events_refused",
                "Events that were refused before a plugin was called, by reason",
                Family::default(),
            ),
            slow_consumers: register(
                r,
                "slow_consumers",
                "Clients that were disconnected because they do not read: their queue was full (queue), or too many bytes waited (bytes)",
                Family::default(),
            ),
            upgrades_failed: register(
                r,
                "upgrades_failed",
                "Upgrades to websocket that failed, by reason: closed, timeout, unexpected or session_ended; their clients continue polling",
                Family::default(),
            ),
            limits_passed: register(
                r,
                "limits_passed",
                "Connections, events and calls past a limit, by its name: refused, or allowed in a dry run",
                Family::default(),
            ),
            accept_errors: register(
                r,
                "accept_errors",
                "Connections that could not be accepted, by listener: public or admin",
                Family::default(),
            ),
            http_closed: register(
                r,
                "http_connections_closed",
                "HTTP connections that were closed because a client took too long, by the limit",
                Family::default(),
            ),
            tcp_connections: register(r, "tcp_connections", "TCP connections that are open, by listener", Family::default()),
            requests_refused: register(
                r,
                "requests_refused",
                "Requests that were refused because of their Host or Origin, by listener and reason",
                Family::default(),
            ),
            failed_logins: register(
                r,
                "failed_logins",
                "Logins that failed or were throttled, with the admin token (admin) or an API key (public)",
                Family::default(),
            ),
            connects_waiting: register(r, "connects_waiting", "Connections that wait for their turn", Gauge::default()),
            connections_aged: register(
                r,
                "connections_aged",
                "Connections that were closed at gateway.max_age",
                Counter::default(),
            ),
            connections_expired: register(
                r,
                "connections_expired",
                "Connections that were closed because a token on them had expired",
                Counter::default(),
            ),
            watchers: register(r, "admin_watchers", "Dashboards that are connected", Gauge::default()),
            watchers_refused: register(
                r,
                "admin_watchers_refused",
                "Dashboards that were refused: without the token, or past the limit",
                Counter::default(),
            ),
            watchers_behind: register(
                r,
                "admin_figures_dropped",
                "Updates that a dashboard missed because it was too slow",
                Counter::default(),
            ),
            taps: register(r, "admin_taps", "Users and rooms that a live tap follows", Gauge::default()),
            taps_refused: register(
                r,
                "admin_taps_refused",
                "Live taps that were refused: without the token, without a subject, or past the limit",
                Counter::default(),
            ),
            tap_records_dropped: register(
                r,
                "admin_tap_records_dropped",
                "Records that a live tap missed because it was too slow",
                Counter::default(),
            ),
            joins_refused: register(
                r,
                "joins_refused",
                "Joins and tracks that were refused past a socket's limit",
                Counter::default(),
            ),
            recoveries: register(
                r,
                "recoveries",
                "Sockets whose clients came back and got all that they had missed",
                Counter::default(),
            ),
            recoveries_refused: register(
                r,
                "recoveries_refused",
                "Clients that came back and got a new socket",
                Family::default(),
            ),
            recovery_events: register(
                r,
                "recovery_events",
                "Events that clients had missed and got when they came back",
                Counter::default(),
            ),
            recovery_sockets_away: register(
                r,
                "recovery_sockets_away",
                "Sockets whose clients are away and may come back",
                Gauge::default(),
            ),
            once_repeats: register(
                r,
                "once_repeats",
                "Events that clients repeated, and that got their first reply again",
                Counter::default(),
            ),
            bus_hops_exceeded: register(
                r,
                "bus_hops_exceeded",
                "Messages that were dropped on their ninth hop",
                Counter::default(),
            ),
            bus_unheard: register(
                r,
                "bus_messages_unheard",
                "Messages published to a topic that no plugin listens to",
                Counter::default(),
            ),
            bus_dead: register(r, "bus_dead_letters", "Messages that became dead letters", Counter::default()),
            bus_queued: register(
                r,
                "bus_messages_queued",
                "Messages that were accepted and not yet handled by every plugin",
                Gauge::default(),
            ),
            notices_dropped: register(
                r,
                "bus_notices_dropped",
                "Notices of presence, rooms and live numbers that were dropped because too many waited for the plugin",
                Family::default(),
            ),
            breakers_opened: register(
                r,
                "breaker_openings",
                "Openings of circuit breakers, by the source of the calls that faulted",
                Family::default(),
            ),
            timers_waiting: register(r, "timers_waiting", "Timers that are not due yet", Gauge::default()),
            timers_fired: register(r, "timers_fired", "Timers that were run", Counter::default()),
            timers_failed: register(r, "timers_failed", "Runs of timers that had no effect", Counter::default()),
            schedules_skipped: register(
                r,
                "schedules_skipped",
                "Runs of schedules that were skipped because the previous one had not ended",
                Counter::default(),
            ),
            handler_panics: register(
                r,
                "handler_panics",
                "Panics of the host that were caught while it handled an event",
                Counter::default(),
            ),
            spans_sent: register(r, "trace_spans_sent", "Spans that the collector accepted", Counter::default()),
            spans_dropped: register(
                r,
                "trace_spans_dropped",
                "Spans that were dropped, by reason: the queue was full (queue_full), or the collector did not accept them (not_taken)",
                Family::default(),
            ),
            quotas_passed: register(
                r,
                "plugin_quota_passed",
                "Calls that waited or were refused, and log lines that were dropped, past a quota",
                Family::default(),
            ),
            recordings: RecordingMetrics::register(r),
            exchange: Exchange::register(r),
            releases: Releases::register(r),
            custom: Custom::register(r),
            registry: Mutex::new(Registry::default()),
        };
        // These series exist from the start with 0, so that a rate shows their first increase.
        for reason in ["queue", "bytes"] {
            drop(metrics.slow_consumers.get_or_create(&ReasonLabel { reason }));
        }
        for listener in ["public", "admin"] {
            drop(metrics.accept_errors.get_or_create(&ListenerLabel { listener }));
            drop(metrics.tcp_connections.get_or_create(&ListenerLabel { listener }));
            drop(metrics.failed_logins.get_or_create(&ListenerLabel { listener }));
            for reason in ["host", "origin"] {
                drop(metrics.requests_refused.get_or_create(&RefusedLabels { listener, reason }));
            }
        }
        drop(metrics.limits_passed.get_or_create(&LimitLabels { limit: "descriptors", outcome: "refused" }));
        for reason in ["closed", "timeout", "unexpected", "session_ended"] {
            drop(metrics.upgrades_failed.get_or_create(&ReasonLabel { reason }));
        }
        for reason in traces::DROPPED {
            drop(metrics.spans_dropped.get_or_create(&ReasonLabel { reason }));
        }
        *metrics.registry.lock() = registrar.into_registry();
        metrics
    }

    /// The counter of one plugin quota that was exceeded.
    pub fn quota_passed(&self, plugin: &PluginName, quota: &'static str) -> Counter {
        self.quotas_passed.get_or_create(&QuotaLabels { plugin: plugin.to_string(), quota }).clone()
    }

    /// Counts an opening of a plugin's circuit breaker.
    pub fn breaker_opened(&self, plugin: &PluginName, source: &'static str) {
        self.breakers_opened.get_or_create(&BreakerLabels { plugin: plugin.to_string(), source }).inc();
    }

    /// Counts a slow consumer that was disconnected: `queue` or `bytes`.
    pub fn slow_consumer(&self, reason: &'static str) {
        self.slow_consumers.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts an upgrade that failed: `closed`, `timeout` or `unexpected`.
    pub fn upgrade_failed(&self, reason: &'static str) {
        self.upgrades_failed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a client that came back, with the events that it had missed.
    pub fn recovered(&self, missed: usize) {
        self.recoveries.inc();
        self.recovery_events.inc_by(missed as u64);
    }

    /// Counts a client that came back and got a new socket.
    pub fn not_recovered(&self, reason: &'static str) {
        self.recoveries_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The clients that came back and got a new socket for this reason.
    pub fn recoveries_refused(&self, reason: &'static str) -> u64 {
        self.recoveries_refused.get(&ReasonLabel { reason }).map_or(0, |count| count.get())
    }

    /// Registers metrics of other modules.
    pub fn extend(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// The metrics of one release.
    pub fn release(&self, plugin: &PluginName, version: &str) -> PluginMetrics {
        self.releases.of(plugin, version)
    }

    /// All metrics as OpenMetrics text, for `/metrics`.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock())?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
