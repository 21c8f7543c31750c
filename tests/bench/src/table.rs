//! The run as two tables: the results of each server, and Hubbub's ratios to its rivals with their bounds. It must never round a
//! result into "ok".

use std::fmt::Write;

use crate::measure::{Measure, Unit};
use crate::results::{BOUNDS, Results};
use crate::server::Kind;

const TITLE: usize = 36;
const CELL: usize = 14;
const WIDE: usize = 24;

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Micros => "µs",
            Self::Kilobytes => "KB",
            Self::PerSecond => "/s",
            Self::Faults => "",
            Self::Percent => "%",
            Self::Times => "×",
        }
    }

    fn show(self, value: f64) -> String {
        let digits = usize::from(matches!(self, Self::Micros | Self::Kilobytes | Self::Percent | Self::Times) && value < 1000.0);
        let digits = if value < 100.0 { digits * 2 } else { digits };
        format!("{value:.digits$} {}", self.name()).trim_end().to_owned()
    }
}

/// Both tables and the failures.
pub(crate) fn render(results: &Results, kinds: &[Kind]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = absolute(&mut out, results, kinds);
    let _ = ratios(&mut out, results);
    if let Some(percent) = results.disturbed() {
        let _ = writeln!(out, "Other processes used {percent:.0} % of a core: do not judge bounds by this run.");
    }
    for failure in &results.failures {
        let (kind, measure) = (failure.kind.name(), failure.measure.name());
        let _ = writeln!(out, "FAILED  {kind}, {measure}, round {}: {}", failure.round + 1, failure.error);
    }
    out
}

fn absolute(out: &mut String, results: &Results, kinds: &[Kind]) -> std::fmt::Result {
    write!(out, "\n{:TITLE$}", "medians over the rounds")?;
    kinds.iter().try_for_each(|kind| write!(out, "{:>CELL$}", kind.name()))?;
    writeln!(out)?;
    for measure in Measure::ALL {
        let mut first = true;
        for metric in measure.metrics() {
            let values: Vec<Option<f64>> = kinds.iter().map(|kind| results.value(*kind, metric)).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            if std::mem::take(&mut first) {
                writeln!(out, "{}", measure.name())?;
            }
            write!(out, "  {:width$}", metric.title, width = TITLE - 2)?;
            for value in values {
                let cell = value.map_or_else(|| "–".to_owned(), |value| metric.unit.show(value));
                write!(out, "{cell:>CELL$}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn ratios(out: &mut String, results: &Results) -> std::fmt::Result {
    let compared = |unit| matches!(unit, Unit::Micros | Unit::Kilobytes | Unit::PerSecond);
    let mut lines = String::new();
    for metric in Measure::ALL.into_iter().flat_map(Measure::metrics) {
        let cells: Vec<String> = [Kind::Native, Kind::Node]
            .into_iter()
            .map(|rival| results.ratio(rival, metric.id).filter(|_| compared(metric.unit)))
            .zip([Kind::Native, Kind::Node])
            .map(|(ratio, rival)| {
                ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}{}", verdict(metric.id, Some(rival), ratio)))
            })
            .collect();
        let own = results.value(Kind::Hubbub, metric).map(|value| verdict(metric.id, None, value)).unwrap_or_default();
        if cells.iter().all(|cell| cell == "–") && own.is_empty() {
            continue;
        }
        write!(lines, "  {:width$}", metric.title, width = TITLE - 2)?;
        cells.iter().try_for_each(|cell| write!(lines, "{cell:>WIDE$}"))?;
        writeln!(lines, "{:>WIDE$}", own.trim())?;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let title = "medians of the rounds' ratios";
    writeln!(out, "\n{title:TITLE$}{:>WIDE$}{:>WIDE$}{:>WIDE$}", "hubbub ÷ native", "hubbub ÷ node", "own bound")?;
    writeln!(out, "{lines}")
}

fn verdict(metric: &str, rival: Option<Kind>, value: f64) -> String {
    let Some(bound) = BOUNDS.iter().find(|bound| bound.metric == metric && bound.rival == rival) else { return String::new() };
    let word = if value <= bound.limit { "ok" } else { "OVER" };
    format!("  (≤ {} {word})", bound.limit)
}
