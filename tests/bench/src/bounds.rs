//! The bounds that Hubbub must hold. It must never bound an absolute time or rate, which would hold on one machine only.

use serde::Serialize;

use crate::server::Kind;

/// A limit for a ratio to a rival, or for a value of Hubbub itself.
pub(crate) struct Bound {
    pub(crate) metric: &'static str,
    /// The metric's own title may only be clear beside its neighbours.
    pub(crate) title: &'static str,
    /// `None`: the limit is on the value itself.
    pub(crate) rival: Option<Kind>,
    pub(crate) limit: Limit,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    pub(crate) fn show(self) -> String {
        match self {
            Self::AtMost(limit) => format!("≤ {limit:.2}"),
            Self::AtLeast(limit) => format!("≥ {limit:.2}"),
        }
    }
}

const fn ratio(metric: &'static str, title: &'static str, rival: Kind, most: f64) -> Bound {
    Bound { metric, title, rival: Some(rival), limit: Limit::AtMost(most) }
}

const fn own(metric: &'static str, title: &'static str, most: f64) -> Bound {
    Bound { metric, title, rival: None, limit: Limit::AtMost(most) }
}

const DELIVERY: &str = "CPU a delivery, rooms of 100";
const ACKED_LOW: &str = "CPU an acked message, 4 000/s";
const ACKED: &str = "CPU an acked message, 20 000/s";

/// In the order of the printed table: what is promised against the rivals first, then faults and other values of Hubbub alone.
pub(crate) const BOUNDS: [Bound; 34] = [
    ratio("cpu_delivery", DELIVERY, Kind::Floor, 1.15),
    ratio("cpu_delivery", DELIVERY, Kind::Native, 0.8),
    ratio("cpu_delivery", DELIVERY, Kind::Node, 0.6),
    ratio("cpu_delivery", DELIVERY, Kind::Bun, 0.85),
    ratio("delivery_p99", "p99 at 30 000 deliveries/s", Kind::Native, 1.0),
    ratio("cpu_acked_4k", ACKED_LOW, Kind::Native, 1.0),
    ratio("cpu_acked_4k", ACKED_LOW, Kind::Bun, 0.75),
    ratio("cpu_acked", ACKED, Kind::Native, 1.0),
    ratio("cpu_acked", ACKED, Kind::Bun, 0.75),
    Bound {
        metric: "acked_max_rate",
        title: "acked messages, closed loop of 100",
        rival: Some(Kind::Native),
        limit: Limit::AtLeast(1.0),
    },
    own("idle_memory", "memory an idle connection, slope", 6.0),
    ratio("cpu_connect", "CPU a connect with JWT, 500/s", Kind::Native, 1.0),
    ratio("cluster_remote_cpu", "CPU a cross-node delivery", Kind::Node, 0.65),
    ratio("cluster_remote_p99", "p99 of cross-node deliveries", Kind::Node, 1.0),
    ratio("avalanche_last", "avalanche: ready to the last", Kind::Node, 0.5),
    ratio("avalanche_paced", "the same, 64 at a time", Kind::Node, 0.5),
    own("lost", "lost deliveries", 0.0),
    own("doubled", "duplicate deliveries", 0.0),
    own("mixed_worst", "slowest domain, multiple of chat", 2.0),
    own("views_flood", "updates over the room's limit", 0.0),
    own("churn_lost", "lost presence events", 0.0),
    own("jitter_150_lost", "lost deliveries, jitter, 150 clients", 0.0),
    own("jitter_150_doubled", "duplicate deliveries, jitter, 150", 0.0),
    own("jitter_150_late", "out of order, jitter, 150", 0.0),
    own("jitter_2000_lost", "lost deliveries, jitter, 2000 clients", 0.0),
    own("jitter_2000_doubled", "duplicate deliveries, jitter, 2000", 0.0),
    own("jitter_2000_late", "out of order, jitter, 2000", 0.0),
    Bound { metric: "avalanche_recovered", title: "recovered after a restart", rival: None, limit: Limit::AtLeast(100.0) },
    own("avalanche_refused", "refused after a restart", 0.0),
    own("avalanche_lost", "lost deliveries after a restart", 0.0),
    own("recovery_cost", "CPU a delivery, recovery on ÷ off", 1.03),
    own("cluster_bystander", "CPU of an uninvolved node over idle", 1.0),
    own("cluster_lost", "lost deliveries, several nodes", 0.0),
    own("cluster_doubled", "duplicate deliveries, several nodes", 0.0),
];
