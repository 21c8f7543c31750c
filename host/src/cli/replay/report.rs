//! The result of a replay, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::call::recorded_call::Outcome;
use crate::call::release::Release;
use crate::replay::compare::{Difference, What};
use crate::replay::recording::Header;
use crate::replay::shadow::median;

/// The most calls with differences in the table.
const SHOWN: usize = 10;

/// The most characters of a value in the table.
const SHOWN_VALUE: usize = 200;

/// The baseline of CPU times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// The recording: measured by the server under load, with waits for storage between.
    Record,
    /// The old build, run alternately with the new one.
    Build,
}

/// One replayed call.
pub(super) struct Run {
    pub(super) name: String,
    pub(super) at: u64,
    pub(super) old_ns: u64,
    pub(super) new_ns: u64,
    pub(super) outcome: Outcome,
    pub(super) differences: Vec<Difference>,
}

pub(super) struct Report {
    recorded: (String, String),
    with: (String, String),
    plugin: String,
    against: Against,
    max_cpu: Option<f64>,
    runs: Vec<Run>,
}

/// Totals of several calls.
#[derive(Default)]
struct Row {
    calls: usize,
    differing: usize,
    traps: usize,
    old_ns: Vec<u64>,
    new_ns: Vec<u64>,
}

impl Run {
    fn differs(&self) -> bool {
        self.differences.iter().any(|difference| difference.what.matters())
    }
}

impl Row {
    fn add(&mut self, run: &Run) {
        self.calls += 1;
        self.differing += usize::from(run.differs());
        self.traps += usize::from(matches!(run.outcome, Outcome::Trapped(_)));
        self.old_ns.push(run.old_ns);
        self.new_ns.push(run.new_ns);
    }

    /// The median CPU times in microseconds, old and new, and their ratio.
    fn cpu(&self) -> (f64, f64, f64) {
        let micros = |values: &[u64]| median(&mut values.to_vec()).unwrap_or_default() as f64 / 1e3;
        let (old, new) = (micros(&self.old_ns), micros(&self.new_ns));
        (old, new, if old > 0.0 { new / old } else { 0.0 })
    }

    fn json(&self) -> Value {
        let (old, new, ratio) = self.cpu();
        let two = |value: f64| (value * 100.0).round() / 100.0;
        let cpu = json!({ "oldMicros": two(old), "newMicros": two(new), "ratio": two(ratio) });
        json!({ "calls": self.calls, "differing": self.differing, "traps": self.traps, "cpu": cpu })
    }
}

impl Report {
    pub(super) fn new(header: &Header, new: &Release, against: Against, max_cpu: Option<f64>) -> Self {
        Self {
            recorded: (header.version.clone(), header.digest.clone()),
            with: (new.manifest.version.clone(), new.digest.clone()),
            plugin: header.plugin.clone(),
            against,
            max_cpu,
            runs: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    pub(super) fn is_same(&self) -> bool {
        !self.is_too_slow() && !self.runs.iter().any(Run::differs)
    }

    fn is_too_slow(&self) -> bool {
        self.max_cpu.is_some_and(|most| self.all().cpu().2 > most)
    }

    fn all(&self) -> Row {
        self.rows().1
    }

    fn rows(&self) -> (BTreeMap<&str, Row>, Row) {
        let (mut by_name, mut all) = (BTreeMap::<&str, Row>::new(), Row::default());
        for run in &self.runs {
            by_name.entry(&run.name).or_default().add(run);
            all.add(run);
        }
        (by_name, all)
    }

    /// How often each kind of difference was found.
    fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for difference in self.runs.iter().flat_map(|run| &run.differences) {
            *kinds.entry(name(difference.what)).or_default() += 1;
        }
        kinds
    }

    pub(super) fn json(&self) -> String {
        let (by_name, all) = self.rows();
        let by_name: BTreeMap<_, _> = by_name.iter().map(|(name, row)| (*name, row.json())).collect();
        let differing = self.runs.iter().enumerate().filter(|(_, run)| !run.differences.is_empty());
        let differing = differing.map(|(number, run)| {
            json!({ "number": number + 1, "at": run.at, "call": run.name, "differs": run.differs(), "differences": run.differences })
        });
        json!({
            "same": self.is_same(),
            "tooSlow": self.is_too_slow(),
            "plugin": self.plugin,
            "recorded": { "version": self.recorded.0, "digest": self.recorded.1 },
            "with": { "version": self.with.0, "digest": self.with.1 },
            "cpuAgainst": if self.against == Against::Build { "build" } else { "record" },
            "all": all.json(),
            "byCall": by_name,
            "kinds": self.kinds(),
            "found": differing.collect::<Vec<_>>(),
        })
        .to_string()
    }

    pub(super) fn text(&self) -> String {
        let (by_name, all) = self.rows();
        let mut out = String::new();
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        let ((old, old_digest), (new, new_digest)) = (&self.recorded, &self.with);
        let (old_digest, new_digest) = (short(old_digest), short(new_digest));
        let _ = writeln!(out, "{}: {old} ({old_digest}), recorded, against {new} ({new_digest})\n", self.plugin);
        let _ = writeln!(
            out,
            "{:<36} {:>7} {:>7} {:>6} {:>10} {:>10} {:>6}",
            "CALL", "CALLS", "DIFFER", "TRAPS", "OLD CPU µs", "NEW CPU µs", "RATIO"
        );
        for (name, row) in by_name.iter().map(|(name, row)| (*name, row)).chain([("all", &all)]) {
            let (old, new, ratio) = row.cpu();
            let (name, calls, differing, traps) = (plain(name), row.calls, row.differing, row.traps);
            let _ = writeln!(out, "{name:<36.36} {calls:>7} {differing:>7} {traps:>6} {old:>10.1} {new:>10.1} {ratio:>6.2}");
        }
        let _ = match self.against {
            Against::Build => writeln!(out, "\nCPU: medians of both builds, run alternately on this machine."),
            Against::Record => {
                writeln!(
                    out,
                    "\nCPU: medians; the old one was measured by the recording server. Name the old build with --against."
                )
            }
        };
        self.differences(&mut out);
        let verdict = match (self.is_same(), self.is_too_slow()) {
            (true, _) => "The same.",
            (_, true) => "It is slower than --max-cpu allows.",
            _ => "It differs.",
        };
        out.push_str(verdict);
        out
    }

    fn differences(&self, out: &mut String) {
        let kinds: Vec<_> = self.kinds().iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        if !kinds.is_empty() {
            let _ = writeln!(out, "Found: {}.", kinds.join(", "));
        }
        let differing = || self.runs.iter().enumerate().filter(|(_, run)| run.differs());
        for (number, run) in differing().take(SHOWN) {
            let _ = writeln!(out, "\n#{} {}", number + 1, plain(&run.name));
            for difference in &run.differences {
                let _ = writeln!(out, "  {}", name(difference.what));
                for (sign, value) in [("-", &difference.was), ("+", &difference.is)] {
                    if let Some(value) = value {
                        let shown: String = plain(&value.to_string()).chars().take(SHOWN_VALUE).collect();
                        let _ = writeln!(out, "    {sign} {shown}");
                    }
                }
            }
        }
        let more = differing().count().saturating_sub(SHOWN);
        if more > 0 {
            let _ = writeln!(out, "\nand {more} more; --json prints all.");
        }
        out.push('\n');
    }
}

/// The name that JSON uses.
fn name(what: What) -> String {
    serde_json::to_value(what).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Text of plugins and clients, escaped so that it cannot control the terminal.
fn plain(text: &str) -> String {
    crate::shown::line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(differences: Vec<Difference>, new_ns: u64, max_cpu: Option<f64>) -> Report {
        let side = || ("1.0.0".to_owned(), "0123456789abcdef".to_owned());
        let run = Run { name: "on-event say".into(), at: 1, old_ns: 1000, new_ns, outcome: Outcome::Ok(None), differences };
        let (recorded, with, plugin) = (side(), side(), "chat".to_owned());
        Report { recorded, with, plugin, against: Against::Build, max_cpu, runs: vec![run] }
    }

    #[test]
    fn only_visible_effects_count_as_a_difference() {
        let one = |what| vec![Difference { what, was: Some(json!("a\u{1b}")), is: None }];
        assert!(report(one(What::AskedLess), 1000, None).is_same());
        let differs = report(one(What::EffectGone), 1000, None);
        let text = differs.text();
        assert!(!differs.is_same() && text.contains("effect-gone") && text.contains("It differs."), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_slower_build_differs_only_with_max_cpu() {
        assert!(report(Vec::new(), 9000, None).is_same());
        let slow = report(Vec::new(), 9000, Some(2.0));
        assert!(!slow.is_same() && slow.text().contains("9.00"), "{}", slow.text());
    }
}
