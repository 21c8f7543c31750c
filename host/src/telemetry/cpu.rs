//! CPU time, summed without a lock: in nanoseconds, since a sum of seconds as a float would lose the microseconds of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A sum of CPU time. Clones share the sum.
#[derive(Debug, Clone, Default)]
pub struct Cpu(Arc<AtomicU64>);

impl Cpu {
    pub fn add(&self, took: Duration) {
        self.0.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl TypedMetric for Cpu {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Cpu {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        ConstCounter::new(self.total().as_secs_f64()).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
