//! The results of all rounds, and their bounds. It must never drop a failure.

use serde_json::{Value, json};

use crate::measure::{Measure, Metric, Sample, Unit};
use crate::server::Kind;

/// A limit for a ratio to a rival, or for a value of Hubbub itself.
pub(crate) struct Bound {
    pub(crate) metric: &'static str,
    /// `None`: the limit is on the value itself.
    pub(crate) rival: Option<Kind>,
    pub(crate) limit: f64,
}

pub(crate) const BOUNDS: [Bound; 16] = [
    Bound { metric: "cpu_delivery", rival: Some(Kind::Native), limit: 1.05 },
    Bound { metric: "cpu_delivery", rival: Some(Kind::Node), limit: 0.9 },
    Bound { metric: "delivery_p99", rival: Some(Kind::Native), limit: 1.1 },
    Bound { metric: "cpu_acked", rival: Some(Kind::Native), limit: 1.1 },
    Bound { metric: "cpu_connect", rival: Some(Kind::Native), limit: 1.5 },
    Bound { metric: "idle_memory", rival: None, limit: 16.0 },
    Bound { metric: "lost", rival: None, limit: 0.0 },
    Bound { metric: "doubled", rival: None, limit: 0.0 },
    Bound { metric: "mixed_worst", rival: None, limit: 2.0 },
    Bound { metric: "views_flood", rival: None, limit: 0.0 },
    Bound { metric: "churn_lost", rival: None, limit: 0.0 },
    Bound { metric: "cluster_remote_cpu", rival: Some(Kind::Node), limit: 0.6 },
    Bound { metric: "cluster_remote_p99", rival: Some(Kind::Node), limit: 1.0 },
    Bound { metric: "cluster_bystander", rival: None, limit: 1.0 },
    Bound { metric: "cluster_lost", rival: None, limit: 0.0 },
    Bound { metric: "cluster_doubled", rival: None, limit: 0.0 },
];

/// Percent of a core. Timers, logs and the system itself take 2 to 3.
const OTHERS_LIMIT: f64 = 10.0;
const OTHERS: [&str; 2] = ["delivery_others", "cluster_others"];

struct Record {
    kind: Kind,
    round: usize,
    metric: &'static Metric,
    value: f64,
}

pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) measure: Measure,
    pub(crate) round: usize,
    pub(crate) error: String,
}

#[derive(Default)]
pub(crate) struct Results {
    records: Vec<Record>,
    pub(crate) failures: Vec<Failure>,
}

impl Results {
    pub(crate) fn add(&mut self, kind: Kind, round: usize, samples: Vec<Sample>) {
        self.records.extend(samples.into_iter().map(|(metric, value)| Record { kind, round, metric, value }));
    }

    /// The median over the rounds; for faults the sum.
    pub(crate) fn value(&self, kind: Kind, metric: &Metric) -> Option<f64> {
        let values: Vec<f64> = self.of(kind, metric.id).map(|record| record.value).collect();
        if metric.unit == Unit::Faults {
            return (!values.is_empty()).then(|| values.iter().sum());
        }
        median(values)
    }

    /// The median of each round's ratio of Hubbub to a rival. Both run close together in a round, so lasting noise cancels out.
    pub(crate) fn ratio(&self, rival: Kind, metric: &str) -> Option<f64> {
        let theirs = |round| self.of(rival, metric).find(|record| record.round == round);
        let ratios = self.of(Kind::Hubbub, metric).filter_map(|ours| Some(ours.value / theirs(ours.round)?.value));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// The value to compare with a bound. Nothing if it was not measured.
    pub(crate) fn bounded(&self, bound: &Bound) -> Option<f64> {
        match bound.rival {
            Some(rival) => self.ratio(rival, bound.metric),
            None => self.value(Kind::Hubbub, metrics().find(|metric| metric.id == bound.metric)?),
        }
    }

    /// The largest share of a core, in percent, that other work used, if it is too much to trust the results. A compiler running
    /// beside a measure makes its p99 ten times as long.
    pub(crate) fn disturbed(&self) -> Option<f64> {
        let others = metrics().filter(|metric| OTHERS.contains(&metric.id));
        let values = others.flat_map(|metric| Kind::ALL.into_iter().filter_map(move |kind| self.value(kind, metric)));
        let most = values.max_by(f64::total_cmp)?;
        (most > OTHERS_LIMIT).then_some(most)
    }

    /// Whether a measure failed or a bound was exceeded.
    pub(crate) fn over(&self) -> bool {
        let exceeded = |bound: &Bound| self.bounded(bound).is_some_and(|value| value > bound.limit);
        !self.failures.is_empty() || BOUNDS.iter().any(exceeded)
    }

    pub(crate) fn json(&self, kinds: &[Kind]) -> Value {
        let servers = |metric: &'static Metric| -> Value {
            let one = |kind: &Kind| {
                let rounds: Vec<f64> = self.of(*kind, metric.id).map(|record| record.value).collect();
                Some((kind.name().to_owned(), json!({ "value": self.value(*kind, metric)?, "rounds": rounds })))
            };
            kinds.iter().filter_map(one).collect::<serde_json::Map<_, _>>().into()
        };
        let metrics: Vec<Value> = metrics()
            .map(|metric| {
                json!({
                    "id": metric.id, "title": metric.title.trim(), "unit": metric.unit.name(), "servers": servers(metric),
                    "toNative": self.ratio(Kind::Native, metric.id), "toNode": self.ratio(Kind::Node, metric.id),
                })
            })
            .collect();
        let bounds = BOUNDS.iter().map(|bound| {
            let value = self.bounded(bound);
            json!({
                "metric": bound.metric, "against": bound.rival, "limit": bound.limit, "value": value,
                "ok": value.map(|value| value <= bound.limit),
            })
        });
        let failures = self.failures.iter().map(|failure| {
            json!({ "server": failure.kind, "measure": failure.measure.name(), "round": failure.round, "error": failure.error })
        });
        json!({ "metrics": metrics, "bounds": bounds.collect::<Vec<_>>(), "failures": failures.collect::<Vec<_>>(),
            "disturbedPercent": self.disturbed() })
    }

    fn of(&self, kind: Kind, metric: &str) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.kind == kind && record.metric.id == metric)
    }
}

pub(crate) fn metrics() -> impl Iterator<Item = &'static Metric> {
    Measure::ALL.into_iter().flat_map(Measure::metrics)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(id: &str) -> &'static Metric {
        metrics().find(|metric| metric.id == id).unwrap()
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        let mut results = Results::default();
        for (round, noise) in [1.0, 3.0, 2.0].into_iter().enumerate() {
            results.add(Kind::Hubbub, round, vec![(metric("cpu_delivery"), 6.0 * noise)]);
            results.add(Kind::Native, round, vec![(metric("cpu_delivery"), 5.0 * noise)]);
        }
        assert_eq!(results.ratio(Kind::Native, "cpu_delivery"), Some(1.2));
        assert_eq!(results.value(Kind::Hubbub, metric("cpu_delivery")), Some(12.0));
        assert!(results.over());
    }

    #[test]
    fn faults_of_all_rounds_count() {
        let mut results = Results::default();
        results.add(Kind::Hubbub, 0, vec![(metric("lost"), 0.0)]);
        assert!(!results.over());
        results.add(Kind::Hubbub, 1, vec![(metric("lost"), 1.0)]);
        results.add(Kind::Hubbub, 2, vec![(metric("lost"), 0.0)]);
        assert_eq!(results.value(Kind::Hubbub, metric("lost")), Some(1.0));
        assert!(results.over());
    }

    #[test]
    fn every_bound_names_a_metric() {
        for bound in &BOUNDS {
            assert_eq!(metric(bound.metric).id, bound.metric);
        }
    }
}
