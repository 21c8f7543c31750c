//! The server's metrics for its administrators, as the host publishes them once a second. They are not stored.

use hubbub_sdk::{Result, emitter::Emits, plugin, rooms::Room};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Analytics;

const DASHBOARD: Room = Room::new("/admin", "admin:dashboard");

const METRICS: Emits<Metrics> = Emits::new("/admin", "metrics");

/// `host.figures`, and the part of it that administrators get.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    connections: u64,
    rooms: u64,
    events_per_second: f64,
    plugins: Vec<Plugin>,
    at: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    name: String,
    version: String,
    events: u64,
    errors: u64,
    /// The 99th percentile of the time of an event, in milliseconds.
    p99_ms: f64,
}

#[plugin(part, namespace = "/admin")]
#[rooms(DASHBOARD)]
#[emits(METRICS)]
impl Analytics {
    #[on_connect]
    fn enter_admin() -> Result<()> {
        DASHBOARD.join()
    }

    /// Volatile, because the next metrics follow in a second.
    #[on_message("host.figures")]
    fn metrics(metrics: Metrics) -> Result<()> {
        if DASHBOARD.size()?.sockets == 0 {
            return Ok(());
        }
        METRICS.volatile().to_room(&DASHBOARD, &metrics)
    }
}

#[cfg(test)]
mod tests;
