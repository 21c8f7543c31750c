//! The run as tables: the bounds, the results of each server, Hubbub's ratios to its rivals, and steal time. It must never round
//! a result into "ok".

mod grid;

use std::fmt::Write;

use crate::bounds::{BOUNDS, Bound};
use crate::measure::{Measure, Metric, Unit};
use crate::results::{Results, Spread, find};
use crate::server::Kind;
use grid::Grid;

const NOTHING: &str = "–";

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Micros => "µs",
            Self::Kilobytes => "KB",
            Self::PerSecond => "/s",
            Self::Seconds => "s",
            Self::Faults => "",
            Self::Percent => "%",
            Self::Times => "×",
        }
    }

    fn show(self, value: f64) -> String {
        let digits = match self {
            Self::Micros | Self::Kilobytes | Self::Seconds | Self::Percent | Self::Times if value <= 100.0 => 2,
            Self::Micros | Self::Kilobytes | Self::Seconds | Self::Percent | Self::Times if value < 1000.0 => 1,
            _ => 0,
        };
        format!("{value:.digits$}")
    }

    /// The median with the smallest and the largest round.
    fn show_spread(self, found: Spread) -> String {
        if self == Self::Faults {
            return self.show(found.value);
        }
        with_rounds(found, |value| self.show(value))
    }
}

fn with_rounds(found: Spread, show: impl Fn(f64) -> String) -> String {
    if found.rounds == 1 {
        return show(found.value);
    }
    format!("{} ({}–{})", show(found.value), show(found.min), show(found.max))
}

fn show_ratio(found: Spread) -> String {
    with_rounds(found, |ratio| format!("{ratio:.2}"))
}

fn with_unit(title: &str, unit: Unit) -> String {
    format!("{title} {}", unit.name()).trim_end().to_owned()
}

/// All tables, the failures, and what makes the run unfit to judge by.
pub(crate) fn render(results: &Results, kinds: &[Kind]) -> String {
    let grids = [values(results, kinds), ratios(results, kinds), steal(results, kinds), bounds(results)];
    let mut out = grids.iter().filter(|grid| !grid.is_empty()).map(|grid| format!("\n{grid}")).collect();
    // Writing to a String cannot fail.
    let _ = warnings(&mut out, results);
    out
}

fn values(results: &Results, kinds: &[Kind]) -> Grid {
    let names = kinds.iter().map(|kind| kind.name().to_owned());
    let mut grid = Grid::new("median of the rounds (min–max)", names);
    for measure in Measure::ALL {
        let found = |metric: &Metric| -> Vec<_> { kinds.iter().map(|kind| results.value(*kind, metric)).collect() };
        let rows = measure.metrics().iter().map(|metric| (metric, found(metric)));
        let rows: Vec<_> = rows.filter(|(_, found)| found.iter().any(Option::is_some)).collect();
        if !rows.is_empty() {
            grid.heading(measure.name());
        }
        for (metric, found) in rows {
            let cell = |found: Option<Spread>| found.map_or_else(|| NOTHING.to_owned(), |found| metric.unit.show_spread(found));
            grid.row(format!("  {}", with_unit(metric.title, metric.unit)), found.into_iter().map(cell));
        }
    }
    grid
}

fn ratios(results: &Results, kinds: &[Kind]) -> Grid {
    let rivals: Vec<Kind> = Kind::RIVALS.into_iter().filter(|rival| kinds.contains(rival)).collect();
    let names = rivals.iter().map(|rival| format!("hubbub ÷ {}", rival.name()));
    let mut grid = Grid::new("median of the rounds' ratios (min–max)", names);
    let compared = |metric: &&Metric| matches!(metric.unit, Unit::Micros | Unit::Kilobytes | Unit::PerSecond | Unit::Seconds);
    for metric in Measure::ALL.into_iter().flat_map(Measure::metrics).filter(compared) {
        let found: Vec<_> = rivals.iter().map(|rival| results.ratio(*rival, metric.id)).collect();
        if found.iter().any(Option::is_some) {
            grid.row(
                metric.title.to_owned(),
                found.into_iter().map(|found| found.map_or_else(|| NOTHING.to_owned(), show_ratio)),
            );
        }
    }
    grid
}

fn steal(results: &Results, kinds: &[Kind]) -> Grid {
    let names = kinds.iter().map(|kind| kind.name().to_owned());
    let mut grid = Grid::new("steal time of each round, % of all CPUs", names);
    for measure in Measure::ALL {
        let found: Vec<_> = kinds.iter().map(|kind| results.steal(*kind, measure)).collect();
        let cell = |rounds: Vec<f64>| match &rounds[..] {
            [] => NOTHING.to_owned(),
            rounds => rounds.iter().map(|steal| format!("{steal:.1}")).collect::<Vec<_>>().join(" "),
        };
        if found.iter().any(|rounds| !rounds.is_empty()) {
            grid.row(measure.name().to_owned(), found.into_iter().map(cell));
        }
    }
    grid
}

fn bounds(results: &Results) -> Grid {
    let names = ["against", "hubbub", "rival", "ratio", "bound", ""];
    let mut grid = Grid::new("must hold", names.map(str::to_owned));
    for bound in &BOUNDS {
        let (Some(metric), Some(found)) = (find(bound.metric), results.bounded(bound)) else { continue };
        grid.row(with_unit(bound.title, metric.unit), bound_cells(results, bound, metric, found));
    }
    grid
}

fn bound_cells(results: &Results, bound: &Bound, metric: &Metric, found: Spread) -> [String; 6] {
    let value = |kind| results.value(kind, metric).map_or_else(|| NOTHING.to_owned(), |value| metric.unit.show_spread(value));
    let name = bound.rival.map_or(NOTHING, Kind::name).to_owned();
    let theirs = bound.rival.map_or_else(|| NOTHING.to_owned(), value);
    let ratio = if bound.rival.is_some() { show_ratio(found) } else { NOTHING.to_owned() };
    let verdict = if bound.limit.holds(found.value) { "ok" } else { "OVER" };
    [name, value(Kind::Hubbub), theirs, ratio, bound.limit.show(), verdict.to_owned()]
}

fn warnings(out: &mut String, results: &Results) -> std::fmt::Result {
    let missing = BOUNDS.iter().filter(|bound| results.bounded(bound).is_none()).count();
    writeln!(out)?;
    if missing > 0 {
        writeln!(out, "{missing} of {} bounds were not measured.", BOUNDS.len())?;
    }
    if results.too_few() {
        writeln!(out, "Fewer than three rounds: do not judge bounds by this run.")?;
    }
    if let Some(percent) = results.disturbed() {
        writeln!(out, "Other processes used {percent:.0} % of a core: do not judge bounds by this run.")?;
    }
    for failure in &results.failures {
        let (kind, measure) = (failure.kind.name(), failure.measure.name());
        writeln!(out, "FAILED  {kind}, {measure}, round {}: {}", failure.round + 1, failure.error)?;
    }
    Ok(())
}
