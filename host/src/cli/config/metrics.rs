//! Every metric of the server, collected without a running server: each part reports its metrics in its initial state.

use std::fmt;

use crate::app;
use crate::call::registry::Registry;
use crate::cluster::bridge::BridgeMetrics;
use crate::cluster::peers::Peers;
use crate::cluster::relay::RelayMetrics;
use crate::deploy::gauges;
use crate::storage::Stats;
use crate::telemetry::Metrics;
use crate::telemetry::catalogue::{self, Described};
use crate::telemetry::collected::{register, register_releases};

/// All metrics, by name.
pub(super) fn all() -> Result<Vec<Described>, fmt::Error> {
    let metrics = Metrics::examples();
    metrics.extend(|registry| {
        register(registry, || {
            let mut peers = Peers::metrics_of(true, &RelayMetrics::default());
            peers.extend(BridgeMetrics::default().read());
            app::metrics::of(&Stats::default(), &app::metrics::OfRooms::default(), peers)
        });
        register_releases(registry, || {
            let mut gauges = gauges::read(&Registry::new());
            for gauge in &mut gauges {
                gauge.values.insert(Default::default(), 0);
            }
            gauges
        });
    });
    Ok(catalogue::read(&metrics.encode()?))
}
