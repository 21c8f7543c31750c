//! One limit of `[admission]`. It decides and counts; the caller refuses.

use std::time::Duration;

use crate::rate::{self, Meter, Rate};
use crate::telemetry::{LimitLabels, Metrics};

#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The key in the configuration, and the label in metrics.
    pub name: &'static str,
    pub most: u64,
    pub(crate) rate: Option<Rate>,
    dry_run: bool,
}

impl Limit {
    pub(crate) fn new(name: &'static str, most: u64, dry_run: bool) -> Self {
        Self { name, most, rate: Rate::per_second(most), dry_run }
    }

    pub fn is_off(&self) -> bool {
        self.most == 0
    }

    /// Counts that the limit was passed. Returns whether it is enforced.
    pub fn passed(&self, metrics: &Metrics) -> bool {
        let outcome = if self.dry_run { "allowed" } else { "refused" };
        metrics.limits_passed.get_or_create(&LimitLabels { limit: self.name, outcome }).inc();
        !self.dry_run
    }

    /// Whether `count`, which includes the new one, must be refused.
    pub fn refuses(&self, count: u64, metrics: &Metrics) -> bool {
        !self.is_off() && count > self.most && self.passed(metrics)
    }

    /// Takes one from the rate. Returns the wait if there is none.
    pub fn take(&self, meter: &Meter, metrics: &Metrics) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        match meter.take(rate, rate::now()) {
            Err(wait) if self.passed(metrics) => Err(wait),
            _ => Ok(()),
        }
    }

    /// Reserves a turn and returns how long to wait for it. If that is longer than `longest`, returns the excess as an error.
    pub fn book(&self, meter: &Meter, longest: Duration, metrics: &Metrics) -> Result<Duration, Duration> {
        let Some(rate) = self.rate else { return Ok(Duration::ZERO) };
        let longest = if self.dry_run { Duration::ZERO } else { longest };
        match meter.book(rate, rate::now(), longest) {
            Err(wait) if self.passed(metrics) => Err(wait),
            Err(_) => Ok(Duration::ZERO),
            Ok(wait) => Ok(wait),
        }
    }
}
