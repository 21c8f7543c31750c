//! The node's status, computed once a second for plugins that list the topic `host.figures`, the dashboard and `hubbub top`.
//! It must never block nor slow a call.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bus::Bus;
use crate::call::breaker::Quarantined;
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::release::Release;
use crate::cluster::node_status::Posted;
use crate::memory;
use crate::recovery::NotRecovered;
use crate::socket::Gateway;
use crate::telemetry::latency::Snapshot;

/// The time between two updates.
const EVERY: Duration = Duration::from_secs(1);

/// Percentiles cover this many updates.
const WINDOW: usize = 10;

pub const HOST_FIGURES: &str = "host.figures";

/// A node's metrics at one moment.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub at: String,
    pub connections: usize,
    pub sockets: i64,
    pub rooms: usize,
    pub events_per_second: u64,
    pub deliveries_per_second: u64,
    pub recovery: RecoveryReport,
    /// Of the process. None where the system does not report it.
    pub memory_bytes: Option<i64>,
    /// Changes whenever the live releases do.
    pub changes: u64,
    pub plugins: Vec<PluginReport>,
    /// All nodes of the cluster, this one included. Empty without a cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeReport>,
}

/// Clients that lost their connection, since the node's start.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryReport {
    /// Clients that came back to their socket.
    pub recovered: u64,
    /// Clients that came back and got a new socket, by reason. Reasons that did not occur are not in it.
    pub refused: BTreeMap<&'static str, u64>,
    /// Sockets whose clients may still come back.
    pub away: i64,
    pub log_bytes: usize,
}

/// One node of the cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    pub node: String,
    /// Its heartbeat is late: `status` is out of date.
    pub silent: bool,
    /// The node's own [`Status`], without `nodes`.
    #[serde(rename = "figures")]
    pub metrics: Value,
}

/// One plugin: its active release, and the one on trial.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginReport {
    pub name: String,
    /// `active`, `disabled`, `quarantined` or `unavailable`.
    pub state: &'static str,
    /// Sources of calls that are quarantined until an operator lifts it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
    #[serde(flatten)]
    pub active: Option<ReleaseReport>,
    pub canary: Option<CanaryReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryReport {
    pub percent: u8,
    #[serde(flatten)]
    pub release: ReleaseReport,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseReport {
    pub version: String,
    pub digest: String,
    pub events: u64,
    pub errors: u64,
    pub events_per_second: u64,
    /// From the start of an event's handling to its commit, over the last ten seconds.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// The mean time of a call in the sandbox.
    pub mean_micros: f64,
    /// Calls that run or wait.
    pub busy: usize,
    /// Idle instances, and their memory.
    pub idle: usize,
    pub memory_bytes: usize,
}

/// The newest status; none before the first update.
pub type Latest = watch::Receiver<Option<Arc<Status>>>;

/// Publishes a status every second, until it is dropped.
pub async fn run(gateway: Arc<Gateway>, bus: Arc<Bus>, newest: watch::Sender<Option<Arc<Status>>>) {
    let mut meter = Meter::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let deployed_plugins = gateway.registry.deployed_plugins();
        let mut status = meter.read(&gateway, &deployed_plugins);
        if let Some(cluster) = &gateway.services.cluster {
            let text = serde_json::to_string(&status).unwrap_or_default();
            status.nodes = cluster.node_status.post(text).await.unwrap_or_default().into_iter().map(NodeReport::read).collect();
        }
        let status = Arc::new(status);
        newest.send_replace(Some(status.clone()));
        let publishes = publishes_status(&gateway);
        for release in deployed_plugins.iter().filter(|_| publishes).filter_map(|deployed| deployed.live()) {
            if release.manifest.topics.iter().any(|topic| topic == HOST_FIGURES) {
                let key = HOST_FIGURES.to_owned();
                bus.notice(&release.manifest.name, HOST_FIGURES, None, key, status.for_plugins().to_string()).await;
            }
        }
    }
}

/// Whether this node sends the status to plugins. One node of a cluster does, because plugins' effects reach the clients of all nodes.
/// A node without the cluster does it by itself.
fn publishes_status(gateway: &Gateway) -> bool {
    let others = gateway.services.cluster.as_ref().filter(|cluster| cluster.link.is_up());
    others.is_none_or(|cluster| cluster.nodes.is_mine(HOST_FIGURES))
}

impl NodeReport {
    fn read(posted: Posted) -> Self {
        let metrics = serde_json::from_str(&posted.text).unwrap_or_default();
        Self { node: posted.node, silent: posted.is_silent, metrics }
    }

    /// The node's status of one plugin.
    pub fn plugin(&self, name: &str) -> Option<&Value> {
        self.metrics["plugins"].as_array()?.iter().find(|plugin| plugin["name"] == name)
    }
}

impl RecoveryReport {
    fn read(gateway: &Gateway) -> Self {
        let metrics = &gateway.services.metrics;
        let reasons = NotRecovered::ALL.into_iter().map(NotRecovered::reason);
        let refused = reasons.map(|reason| (reason, metrics.recoveries_refused(reason)));
        Self {
            recovered: metrics.recoveries.get(),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            away: metrics.recovery_sockets_away.get(),
            log_bytes: gateway.services.rooms.log.bytes(),
        }
    }
}

impl PluginReport {
    fn releases(&self) -> impl Iterator<Item = &ReleaseReport> {
        self.active.iter().chain(self.canary.as_ref().map(|canary| &canary.release))
    }
}

impl Status {
    /// The part of the status that plugins may see, summed over all nodes: nothing about how the operator runs them. A room counts
    /// once for each node that has a member of it.
    fn for_plugins(&self) -> Value {
        let nodes = || self.nodes.iter().filter(|node| !node.silent);
        let whole = |own: u64, key: &str| over_all(own, nodes().map(|node| &node.metrics), key);
        let plugin = |plugin: &PluginReport| {
            let release = plugin.active.as_ref()?;
            let on_nodes = || nodes().filter_map(|node| node.plugin(&plugin.name));
            let slowest = on_nodes().filter_map(|plugin| plugin["p99Ms"].as_f64()).fold(release.p99_ms, f64::max);
            Some(json!({
                "name": plugin.name,
                "version": release.version,
                "events": over_all(release.events, on_nodes(), "events"),
                "errors": over_all(release.errors, on_nodes(), "errors"),
                "p99Ms": slowest,
            }))
        };
        json!({
            "connections": whole(self.connections as u64, "connections"),
            "rooms": whole(self.rooms as u64, "rooms"),
            "eventsPerSecond": whole(self.events_per_second, "eventsPerSecond"),
            "plugins": self.plugins.iter().filter_map(plugin).collect::<Vec<_>>(),
            "at": self.at,
        })
    }
}

/// Earlier counts, from which rates are computed.
#[derive(Default)]
struct Meter {
    deliveries: Option<u64>,
    /// By digest of the release.
    releases: HashMap<String, Seen>,
}

/// Earlier counts of one release.
#[derive(Default)]
struct Seen {
    events: Option<u64>,
    latencies: VecDeque<Snapshot>,
}

impl Meter {
    fn read(&mut self, gateway: &Gateway, deployed_plugins: &[Arc<DeployedPlugin>]) -> Status {
        let plugins: Vec<PluginReport> = deployed_plugins.iter().map(|deployed| self.plugin(deployed)).collect();
        let releases = || plugins.iter().flat_map(PluginReport::releases);
        self.releases.retain(|digest, _| releases().any(|release| release.digest == *digest));
        let deliveries = gateway.services.rooms.deliveries.load(Ordering::Relaxed);
        let now = UNIX_EPOCH + Duration::from_millis(gateway.services.clock.now_ms());
        Status {
            at: humantime::format_rfc3339_millis(now).to_string(),
            connections: gateway.sockets.connections(),
            sockets: gateway.services.metrics.sockets.get(),
            rooms: gateway.services.rooms.count(),
            events_per_second: releases().map(|release| release.events_per_second).sum(),
            deliveries_per_second: since(&mut self.deliveries, deliveries),
            recovery: RecoveryReport::read(gateway),
            memory_bytes: memory::resident_bytes(),
            changes: gateway.registry.version(),
            plugins,
            nodes: Vec::new(),
        }
    }

    fn plugin(&mut self, deployed: &DeployedPlugin) -> PluginReport {
        let active = deployed.live().map(|release| self.release(&release));
        let canary = deployed.canary().filter(|canary| active.is_some() && canary.shadow().is_none());
        PluginReport {
            name: deployed.name.to_string(),
            state: deployed.state(),
            quarantined: deployed.quarantined(),
            active,
            canary: canary.map(|canary| CanaryReport { percent: canary.percent, release: self.release(&canary.release) }),
        }
    }

    fn release(&mut self, release: &Release) -> ReleaseReport {
        let metrics = &release.profile.metrics;
        let seen = self.releases.entry(release.digest.clone()).or_default();
        let (now, events) = (metrics.seconds.snapshot(), metrics.events.get());
        let recent = seen.latencies.front().map_or_else(|| now.clone(), |before| now.since(before));
        seen.latencies.push_back(now);
        if seen.latencies.len() > WINDOW {
            seen.latencies.pop_front();
        }
        let (idle, memory_bytes) = release.pool.idle();
        let millis = |share| recent.quantile(share).as_secs_f64() * 1e3;
        ReleaseReport {
            version: release.manifest.version.clone(),
            digest: release.digest.clone(),
            events,
            errors: metrics.errors(),
            events_per_second: since(&mut seen.events, events),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            mean_micros: release.counters.counts().mean().as_nanos() as f64 / 1e3,
            busy: release.pool.busy(),
            idle,
            memory_bytes,
        }
    }
}

/// The sum over the nodes' statuses, or `own` if there is none.
fn over_all<'a>(own: u64, statuses: impl Iterator<Item = &'a Value>, key: &str) -> u64 {
    statuses.map(|node| node[key].as_u64().unwrap_or_default()).reduce(u64::saturating_add).unwrap_or(own)
}

/// The increase since the last call; 0 at the first.
fn since(before: &mut Option<u64>, now: u64) -> u64 {
    before.replace(now).map_or(0, |before| now.saturating_sub(before))
}
