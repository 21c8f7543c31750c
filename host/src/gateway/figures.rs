//! The host's own figures, told once a second: to plugins that list the topic `host.figures`, and to whoever else shows them. Where
//! nobody asks, nothing is counted.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Gateway;
use crate::release::delivery::Bus;
use crate::release::registry::Release;
use crate::telemetry::latency::Snapshot;

/// Between two tellings.
const EVERY: Duration = Duration::from_secs(1);

/// Percentiles are over so many tellings.
const WINDOW: usize = 10;

pub const HOST_FIGURES: &str = "host.figures";

/// Tells the figures, until it is dropped.
pub async fn run(gateway: Arc<Gateway>, bus: Arc<Bus>) {
    let mut meter = Meter::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let live: Vec<_> = gateway.registry.slots().iter().filter_map(|slot| slot.live()).collect();
        let figures = meter.read(&gateway, &live);
        for release in live {
            if release.manifest.topics.iter().any(|topic| topic == HOST_FIGURES) {
                let key = HOST_FIGURES.to_owned();
                bus.notice(&release.manifest.name, HOST_FIGURES, None, key, figures.to_string()).await;
            }
        }
    }
}

/// Counts of the last seconds, to be compared with now.
#[derive(Default)]
struct Meter {
    events: Option<u64>,
    latencies: HashMap<String, VecDeque<Snapshot>>,
}

impl Meter {
    fn read(&mut self, gateway: &Gateway, live: &[Arc<Release>]) -> Value {
        let events: u64 = live.iter().map(|release| release.profile.metrics.events.get()).sum();
        // A release that has gone takes its count along.
        let per_second = self.events.replace(events).map_or(0, |before| events.saturating_sub(before));
        self.latencies.retain(|digest, _| live.iter().any(|release| release.digest == *digest));
        let plugins: Vec<Value> = live.iter().map(|release| self.plugin(release)).collect();
        let now = UNIX_EPOCH + Duration::from_millis(gateway.services.clock.now_ms());
        json!({
            "connections": gateway.sockets.connections(),
            "rooms": gateway.services.rooms.count(),
            "eventsPerSecond": per_second,
            "plugins": plugins,
            "at": humantime::format_rfc3339_millis(now).to_string(),
        })
    }

    fn plugin(&mut self, release: &Release) -> Value {
        let (name, metrics) = (release.manifest.name.as_str(), &release.profile.metrics);
        let now = metrics.seconds.snapshot();
        let window = self.latencies.entry(release.digest.clone()).or_default();
        let recent = window.front().map_or_else(|| now.clone(), |before| now.since(before));
        window.push_back(now);
        if window.len() > WINDOW {
            window.pop_front();
        }
        json!({
            "name": name,
            "version": release.manifest.version,
            "events": metrics.events.get(),
            "errors": metrics.errors(),
            "p99Ms": recent.quantile(0.99).as_secs_f64() * 1e3,
        })
    }
}
