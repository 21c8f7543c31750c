//! A histogram of durations without a lock. Fine enough for a 99th percentile, at the cost of two atomic additions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Buckets from 1 µs to 8 s, four for each doubling, so that a percentile has an error of at most 20 %.
const BUCKETS: usize = 23 * PER_DOUBLING;
const PER_DOUBLING: usize = 4;

/// The published buckets: every second doubling, from 4 µs to 4 s.
const PUBLISHED: usize = 11;

/// A histogram of durations. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Latency(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], nanos: AtomicU64::new(0) }
    }
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot([u64; BUCKETS]);

impl Latency {
    pub fn observe(&self, took: Duration) {
        self.0.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
        self.0.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(std::array::from_fn(|at| self.0.buckets[at].load(Ordering::Relaxed)))
    }
}

impl Snapshot {
    /// The counts since an earlier snapshot.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The duration that this share of all observations is under; zero without observations.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_secs_f64(upper_micros(at) / 1e6);
            }
        }
        Duration::ZERO
    }
}

fn bucket(took: Duration) -> usize {
    let micros = took.as_nanos() as f64 / 1e3;
    if micros <= 1.0 {
        return 0;
    }
    ((micros.log2() * PER_DOUBLING as f64).ceil() as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket, in microseconds.
fn upper_micros(bucket: usize) -> f64 {
    (bucket as f64 / PER_DOUBLING as f64).exp2()
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let Snapshot(counts) = self.snapshot();
        let mut published = Vec::with_capacity(PUBLISHED + 1);
        let mut from = 0;
        for at in 1..=PUBLISHED {
            let to = at * 2 * PER_DOUBLING;
            published.push((upper_micros(to) / 1e6, counts[from..=to].iter().sum()));
            from = to + 1;
        }
        published.push((f64::MAX, counts[from..].iter().sum()));
        let sum = self.0.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &published, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_has_an_error_of_at_most_20_percent() {
        let latency = Latency::default();
        for micros in 1..=1000u64 {
            latency.observe(Duration::from_micros(micros));
        }
        let snapshot = latency.snapshot();
        assert_eq!(snapshot.count(), 1000);
        let median = snapshot.quantile(0.5).as_secs_f64() * 1e6;
        assert!((500.0..600.0).contains(&median), "{median}");
        assert_eq!(snapshot.since(&snapshot).quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn the_last_bucket_counts_everything_above() {
        let latency = Latency::default();
        latency.observe(Duration::from_secs(3600));
        latency.observe(Duration::ZERO);
        assert_eq!(latency.snapshot().count(), 2);
        assert!(latency.snapshot().quantile(1.0) >= Duration::from_secs(5));
    }
}
