//! Every metric of the server, collected without one that runs: each part is asked for its metrics in its initial state.

use std::fmt;

use crate::app::figures;
use crate::cluster::peers::Peers;
use crate::cluster::{bridge, relay};
use crate::release::gauges;
use crate::release::registry::Registry;
use crate::storage::Stats;
use crate::telemetry::Metrics;
use crate::telemetry::catalogue::{self, Described};
use crate::telemetry::figures::{register, register_releases};

/// All metrics, by name.
pub(super) fn all() -> Result<Vec<Described>, fmt::Error> {
    let metrics = Metrics::examples();
    metrics.extend(|registry| {
        register(registry, || {
            let mut peers = Peers::figures_of(true, &relay::Figures::default());
            peers.extend(bridge::Figures::default().read());
            figures::of(&Stats::default(), 0, peers)
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
