//! Registers metrics. For the metrics page it also creates one series of each, since a metric without series shows no labels.

use std::fmt::Debug;
use std::hash::Hash;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

/// The registry of all metrics, while they are registered.
pub(super) struct Registrar {
    registry: Registry,
    with_examples: bool,
}

impl Registrar {
    pub(super) fn new() -> Self {
        Self { registry: Registry::with_prefix("hubbub"), with_examples: false }
    }

    pub(super) fn with_examples() -> Self {
        Self { with_examples: true, ..Self::new() }
    }

    pub(super) fn into_registry(self) -> Registry {
        self.registry
    }
}

/// A metric that can create an example series.
pub(super) trait Example {
    /// Makes one series with empty labels. A metric without labels has its series already.
    fn make_series(&self) {}
}

impl Example for Counter {}
impl<N, A> Example for Gauge<N, A> {}

impl<S, M, C> Example for Family<S, M, C>
where
    S: Clone + Default + Eq + Hash,
    C: MetricConstructor<M>,
{
    fn make_series(&self) {
        drop(self.get_or_create(&S::default()));
    }
}

/// Registers a metric with its name and help text.
pub(super) fn register<M>(to: &mut Registrar, name: &str, help: &str, metric: M) -> M
where
    M: Metric + Clone + Debug + Example,
{
    if to.with_examples {
        metric.make_series();
    }
    to.registry.register(name, help, metric.clone());
    metric
}
