//! The server's own figures for its administrators, as the host tells them once a second. Never kept.

use hubbub_sdk::{Result, emitter::Emits, rooms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAMESPACE: &str = "/admin";
const ROOM: &str = "admin:dashboard";

pub(crate) const METRICS: Emits<Figures> = Emits::new(NAMESPACE, "metrics");

/// `host.figures`, and what administrators see of it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
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
    /// How long 99 of 100 events took at most, in milliseconds.
    p99_ms: f64,
}

pub(crate) fn enter() -> Result<()> {
    Ok(rooms::join(ROOM)?)
}

/// The next ones come in a second: a slow dashboard may miss some.
pub(crate) fn figures(figures: &Figures) -> Result<()> {
    if rooms::size(NAMESPACE, ROOM)?.sockets == 0 {
        return Ok(());
    }
    Ok(METRICS.volatile().to_room(ROOM, figures)?)
}

#[cfg(test)]
mod tests;
