//! The results of all rounds. It must never drop a failure.

use serde_json::{Value, json};

use crate::bounds::{BOUNDS, Bound};
use crate::measure::{Measure, Metric, Sample, Unit};
use crate::server::Kind;

/// Percent of a core. Timers, logs and the system itself take 2 to 3.
const OTHERS_LIMIT: f64 = 10.0;
const OTHERS: [&str; 5] = ["delivery_others", "acked_others", "connect_others", "recovery_others", "cluster_others"];
/// The median of fewer rounds is moved by a single disturbance.
const ROUNDS_TO_JUDGE: usize = 3;

struct Record {
    kind: Kind,
    round: usize,
    metric: &'static Metric,
    value: f64,
}

/// One measure of one server in one round.
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) measure: Measure,
    pub(crate) round: usize,
    /// Percent of the time of all CPUs.
    pub(crate) steal: f64,
}

pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) measure: Measure,
    pub(crate) round: usize,
    pub(crate) error: String,
}

/// The median of the rounds (for faults their sum), and the smallest and largest of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) value: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) rounds: usize,
}

impl Spread {
    /// Nothing if there are no values.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let value = if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) };
        Some(Self { value, min: *values.first()?, max: *values.last()?, rounds: values.len() })
    }

    fn json(self) -> Value {
        json!({ "value": self.value, "min": self.min, "max": self.max })
    }
}

#[derive(Default)]
pub(crate) struct Results {
    records: Vec<Record>,
    pub(crate) runs: Vec<Run>,
    pub(crate) failures: Vec<Failure>,
}

impl Results {
    pub(crate) fn add(&mut self, kind: Kind, round: usize, samples: Vec<Sample>) {
        self.records.extend(samples.into_iter().map(|(metric, value)| Record { kind, round, metric, value }));
    }

    pub(crate) fn value(&self, kind: Kind, metric: &Metric) -> Option<Spread> {
        let values: Vec<f64> = self.of(kind, metric.id).map(|record| record.value).collect();
        let sum = values.iter().sum();
        let spread = Spread::of(values)?;
        Some(if metric.unit == Unit::Faults { Spread { value: sum, ..spread } } else { spread })
    }

    /// Each round's ratio of Hubbub to a rival. Both run close together in a round, so lasting noise cancels out.
    pub(crate) fn ratio(&self, rival: Kind, metric: &str) -> Option<Spread> {
        let theirs = |round| self.of(rival, metric).find(|record| record.round == round);
        let ratios = self.of(Kind::Hubbub, metric).filter_map(|ours| Some(ours.value / theirs(ours.round)?.value));
        Spread::of(ratios.filter(|ratio| ratio.is_finite()).collect())
    }

    /// The value or ratio that a bound limits. Nothing if it was not measured.
    pub(crate) fn bounded(&self, bound: &Bound) -> Option<Spread> {
        match bound.rival {
            Some(rival) => self.ratio(rival, bound.metric),
            None => self.value(Kind::Hubbub, find(bound.metric)?),
        }
    }

    /// The steal time of each round, in percent.
    pub(crate) fn steal(&self, kind: Kind, measure: Measure) -> Vec<f64> {
        self.runs.iter().filter(|run| run.kind == kind && run.measure == measure).map(|run| run.steal).collect()
    }

    /// The largest share of a core, in percent, that other work used, if it is too much to trust the results. A compiler running
    /// beside a measure makes its p99 ten times as long.
    pub(crate) fn disturbed(&self) -> Option<f64> {
        let others = metrics().filter(|metric| OTHERS.contains(&metric.id));
        let values = others.flat_map(|metric| Kind::ALL.into_iter().filter_map(move |kind| self.value(kind, metric)));
        let most = values.map(|others| others.value).max_by(f64::total_cmp)?;
        (most > OTHERS_LIMIT).then_some(most)
    }

    /// Whether there are too few rounds to judge a bound.
    pub(crate) fn too_few(&self) -> bool {
        self.runs.iter().all(|run| run.round + 1 < ROUNDS_TO_JUDGE)
    }

    /// Whether a measure failed or a bound was exceeded.
    pub(crate) fn over(&self) -> bool {
        let exceeded = |bound: &Bound| self.bounded(bound).is_some_and(|found| !bound.limit.holds(found.value));
        !self.failures.is_empty() || BOUNDS.iter().any(exceeded)
    }

    pub(crate) fn json(&self, kinds: &[Kind]) -> Value {
        let servers = |metric: &'static Metric| -> Value {
            let one = |kind: &Kind| {
                let rounds: Vec<f64> = self.of(*kind, metric.id).map(|record| record.value).collect();
                Some((kind.name().to_owned(), json!({ "value": self.value(*kind, metric)?.value, "rounds": rounds })))
            };
            kinds.iter().filter_map(one).collect::<serde_json::Map<_, _>>().into()
        };
        let ratios = |metric: &'static Metric| -> Value {
            let one = |rival: Kind| Some((rival.name().to_owned(), self.ratio(rival, metric.id)?.json()));
            Kind::RIVALS.into_iter().filter_map(one).collect::<serde_json::Map<_, _>>().into()
        };
        let metrics: Vec<Value> = metrics()
            .map(|metric| {
                json!({
                    "id": metric.id, "title": metric.title.trim(), "unit": metric.unit.name(), "servers": servers(metric),
                    "ratios": ratios(metric),
                })
            })
            .collect();
        let bounds = BOUNDS.iter().map(|bound| {
            let found = self.bounded(bound);
            json!({
                "metric": bound.metric, "against": bound.rival, "limit": bound.limit, "found": found.map(Spread::json),
                "ok": found.map(|found| bound.limit.holds(found.value)),
            })
        });
        let failures = self.failures.iter().map(|failure| {
            json!({ "server": failure.kind, "measure": failure.measure.name(), "round": failure.round, "error": failure.error })
        });
        let runs = self.runs.iter().map(
            |run| json!({ "server": run.kind, "measure": run.measure.name(), "round": run.round, "stealPercent": run.steal }),
        );
        json!({ "metrics": metrics, "bounds": bounds.collect::<Vec<_>>(), "failures": failures.collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(), "disturbedPercent": self.disturbed() })
    }

    fn of(&self, kind: Kind, metric: &str) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.kind == kind && record.metric.id == metric)
    }
}

pub(crate) fn metrics() -> impl Iterator<Item = &'static Metric> {
    Measure::ALL.into_iter().flat_map(Measure::metrics)
}

pub(crate) fn find(id: &str) -> Option<&'static Metric> {
    metrics().find(|metric| metric.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(id: &str) -> &'static Metric {
        find(id).unwrap()
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        let mut results = Results::default();
        for (round, noise) in [1.0, 3.0, 2.0].into_iter().enumerate() {
            results.add(Kind::Hubbub, round, vec![(metric("cpu_delivery"), 6.0 * noise)]);
            results.add(Kind::Native, round, vec![(metric("cpu_delivery"), 5.0 * noise)]);
        }
        let ratio = results.ratio(Kind::Native, "cpu_delivery").unwrap();
        assert_eq!(ratio, Spread { value: 1.2, min: 1.2, max: 1.2, rounds: 3 });
        let value = results.value(Kind::Hubbub, metric("cpu_delivery")).unwrap();
        assert_eq!(value, Spread { value: 12.0, min: 6.0, max: 18.0, rounds: 3 });
        assert!(results.over());
    }

    #[test]
    fn a_rate_must_be_at_least_its_limit() {
        let found = |ours| {
            let mut results = Results::default();
            results.add(Kind::Hubbub, 0, vec![(metric("acked_max_rate"), ours)]);
            results.add(Kind::Native, 0, vec![(metric("acked_max_rate"), 100.0)]);
            results.over()
        };
        assert!(!found(101.0));
        assert!(found(99.0));
    }

    #[test]
    fn faults_of_all_rounds_count() {
        let mut results = Results::default();
        results.add(Kind::Hubbub, 0, vec![(metric("lost"), 0.0)]);
        assert!(!results.over());
        results.add(Kind::Hubbub, 1, vec![(metric("lost"), 1.0)]);
        results.add(Kind::Hubbub, 2, vec![(metric("lost"), 0.0)]);
        assert_eq!(results.value(Kind::Hubbub, metric("lost")).map(|lost| lost.value), Some(1.0));
        assert!(results.over());
    }

    #[test]
    fn every_bound_names_a_metric() {
        for bound in &BOUNDS {
            assert_eq!(metric(bound.metric).id, bound.metric);
        }
    }
}
