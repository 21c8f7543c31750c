//! Metrics with values from elsewhere, read at each scrape.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::plugin::ReleaseLabels;

/// One metric: its name, help and value. Counters and seconds only grow.
#[derive(Debug, Clone, Copy)]
pub enum Metric {
    Counter(&'static str, &'static str, u64),
    Gauge(&'static str, &'static str, i64),
    Seconds(&'static str, &'static str, f64),
}

/// A gauge of every live release: its name, help, and values by plugin and version.
#[derive(Debug)]
pub struct ByRelease {
    pub name: &'static str,
    pub help: &'static str,
    pub values: BTreeMap<(String, String), i64>,
}

/// Registers gauges of releases, read at each scrape.
pub fn register_releases(registry: &mut Registry, read: impl Fn() -> Vec<ByRelease> + Send + Sync + 'static) {
    registry.register_collector(Box::new(Releases(Box::new(read))));
}

struct Releases(Box<dyn Fn() -> Vec<ByRelease> + Send + Sync>);

impl fmt::Debug for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Releases")
    }
}

impl Collector for Releases {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for ByRelease { name, help, values } in (self.0)() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((plugin, version), value) in values {
                let labels = ReleaseLabels { plugin, version };
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Registers metrics, read at each scrape.
pub fn register(registry: &mut Registry, read: impl Fn() -> Vec<Metric> + Send + Sync + 'static) {
    registry.register_collector(Box::new(Collected(Box::new(read))));
}

struct Collected(Box<dyn Fn() -> Vec<Metric> + Send + Sync>);

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collected")
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in (self.0)() {
            match metric {
                Metric::Counter(name, help, value) => {
                    let metric = ConstCounter::new(value);
                    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
                }
                Metric::Gauge(name, help, value) => {
                    let metric = ConstGauge::new(value);
                    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
                }
                Metric::Seconds(name, help, value) => {
                    let metric = ConstCounter::new(value);
                    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
                }
            }
        }
        Ok(())
    }
}
