//! Steal time: how long this machine's CPUs were ready to run and its host ran something else. It must never be taken for load of
//! this machine: no process here causes it.

use anyhow::{Context, Result};

/// The CPU times at the start of a run.
pub(crate) struct Steal(Times);

struct Times {
    stolen: u64,
    all: u64,
}

impl Steal {
    /// # Errors
    /// The kernel has no `/proc/stat`.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self(Times::read()?))
    }

    /// Percent of the time of all CPUs since the start.
    pub(crate) fn percent(&self) -> Result<f64> {
        let now = Times::read()?;
        let (stolen, all) = (now.stolen.saturating_sub(self.0.stolen), now.all.saturating_sub(self.0.all));
        Ok(stolen as f64 * 100.0 / all.max(1) as f64)
    }
}

impl Times {
    fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?).context("no CPU times in /proc/stat")
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal. The guests' times after them are part of the first
    /// two.
    fn parse(stat: &str) -> Option<Self> {
        let ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let ticks = ticks.map(|tick| tick.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self { stolen: *ticks.get(7)?, all: ticks.iter().sum() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_time_and_guests_are_not_counted_twice() {
        let times = Times::parse("cpu  100 10 20 1000 5 1 2 30 50 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!((times.stolen, times.all), (30, 1168));
        assert!(Times::parse("cpu  100 10 20\n").is_none());
    }
}
