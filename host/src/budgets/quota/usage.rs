//! One plugin's current use against its quotas. Counting costs one atomic operation. Independent of calls and clients.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};

use super::{Config, Kind};
use crate::names::PluginName;
use crate::rate::{self, Flow, Meter};
use crate::storage::Storage;

/// The shortest time between two measurements of a store.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// After a measurement, wait this many times its duration: measuring takes at most a twentieth of the time.
const MEASURE_PAUSE: u32 = 20;

/// The size of a store before the first measurement, if the size of the whole database is not known either.
const UNKNOWN: u64 = u64::MAX;

/// One plugin's use.
pub struct Usage {
    plugin: PluginName,
    pub quota: Config,
    cpu: Option<Flow>,
    cpu_meter: Meter,
    fanout: Option<Flow>,
    fanout_meter: Meter,
    pub log: PerSecond,
    store: Store,
    /// The largest use by one instance and one call, by which the operator sets quotas.
    most_memory: AtomicUsize,
    most_effects: AtomicUsize,
    passed: [Counter; Kind::ALL.len()],
    /// Limits the log to one line a second for each quota.
    logged: [PerSecond; Kind::ALL.len()],
}

/// An upper estimate of a plugin's keys and values.
#[derive(Default)]
struct Store {
    /// As of the last measurement; before the first, the size of the whole database, which is an upper bound.
    measured: AtomicU64,
    written: AtomicU64,
    measuring: AtomicBool,
    /// By `rate::now`: the earliest time of the next measurement.
    next: AtomicU64,
}

/// A call must be refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than quota.{} allows", quota.as_str())]
pub struct Passed {
    pub quota: Kind,
    /// The time until a retry can succeed. None: never, since the call alone is over the limit.
    pub wait: Option<Duration>,
}

impl Usage {
    pub fn new(plugin: PluginName, quota: Config, counter: impl Fn(Kind) -> Counter) -> Self {
        Self {
            plugin,
            quota,
            cpu: Flow::per_second((quota.cpu * 1e9) as u64),
            cpu_meter: Meter::default(),
            fanout: Flow::per_second(quota.fanout_bytes),
            fanout_meter: Meter::default(),
            log: PerSecond::new(quota.log_lines),
            store: Store::default(),
            most_memory: AtomicUsize::new(0),
            most_effects: AtomicUsize::new(0),
            passed: Kind::ALL.map(counter),
            logged: std::array::from_fn(|_| PerSecond::new(1)),
        }
    }

    /// For a component that is only inspected: its metrics are not registered.
    pub fn detached(plugin: PluginName) -> Self {
        Self::new(plugin, Config { log_lines: 0, ..Config::default() }, |_| Counter::default())
    }

    /// Counts that a quota was exceeded, and logs it at most once a second.
    pub fn passed(&self, quota: Kind) {
        self.passed[quota as usize].inc();
        if self.logged[quota as usize].take(rate::now() / 1_000_000) {
            tracing::warn!(plugin = %self.plugin, quota = quota.as_str(), "the plugin uses more than its quota allows");
        }
    }

    /// Counts CPU time that a call has used.
    pub fn spent_cpu(&self, time: Duration) {
        if let Some(flow) = self.cpu {
            self.cpu_meter.spend(flow, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), rate::now());
        }
    }

    /// The time until CPU time is available again, if it is used up.
    pub fn cpu_wait(&self) -> Option<Duration> {
        self.cpu.and_then(|_| self.cpu_meter.owed(rate::now()))
    }

    pub fn is_fanout_limited(&self) -> bool {
        self.fanout.is_some()
    }

    /// Takes bytes of fan-out, or returns why they are refused.
    pub fn fan_out(&self, bytes: u64) -> Result<(), Passed> {
        let Some(flow) = self.fanout else { return Ok(()) };
        let Err(wait) = self.fanout_meter.afford(flow, bytes, rate::now()) else { return Ok(()) };
        self.passed(Kind::FanoutBytes);
        Err(Passed { quota: Kind::FanoutBytes, wait: (bytes <= self.quota.fanout_bytes).then_some(wait) })
    }

    /// Whether `more` bytes fit into the store, by the estimate.
    pub fn has_store_room(&self, more: u64) -> bool {
        let most = self.quota.store_bytes;
        // An unknown size refuses nothing: either it is being measured, or storage does not answer, and then no write succeeds.
        let is_known = self.store.measured.load(Ordering::Relaxed) != UNKNOWN;
        let takes = most == 0 || !is_known || self.stored().saturating_add(more) <= most;
        if !takes {
            self.passed(Kind::StoreBytes);
        }
        takes
    }

    /// Counts bytes that are about to be written.
    pub fn wrote(&self, bytes: u64) {
        if bytes > 0 {
            self.store.written.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The estimate. Overwritten and deleted bytes count until the next measurement.
    pub fn stored(&self) -> u64 {
        self.store.measured.load(Ordering::Relaxed).saturating_add(self.store.written.load(Ordering::Relaxed))
    }

    /// Whether the estimate is near the quota and may be too high. `more` is what one call may add.
    fn is_doubtful(&self, more: u64) -> bool {
        let most = self.quota.store_bytes;
        most != 0 && self.stored().saturating_add(more) > most && rate::now() >= self.store.next.load(Ordering::Relaxed)
    }

    /// Sets the size of the whole database as an upper bound (0: unknown). If it is within the quota, no measurement is needed.
    pub fn at_most(&self, bytes: u64) {
        // A measurement is more exact than this bound.
        if self.store.next.load(Ordering::Relaxed) == 0 {
            self.store.measured.store(if bytes == 0 { UNKNOWN } else { bytes }, Ordering::Relaxed);
        }
    }

    /// Measures the store if by the estimate a call may exceed the quota: at most once a second, one at a time.
    pub async fn measure_store(&self, storage: &dyn Storage, more: u64) {
        if self.is_doubtful(more) {
            self.measure(storage).await;
        }
    }

    /// Measures the store if it was never measured, for a report.
    pub async fn measure_store_once(&self, storage: &dyn Storage) {
        if self.store.next.load(Ordering::Relaxed) == 0 {
            self.measure(storage).await;
        }
    }

    /// Measures the store again, after data was moved to or from another plugin.
    pub async fn measure_store_again(&self, storage: &dyn Storage) {
        self.measure(storage).await;
    }

    async fn measure(&self, storage: &dyn Storage) {
        let Some(_guard) = Measuring::begin(&self.store.measuring) else { return };
        let (began, written) = (Instant::now(), self.store.written.load(Ordering::Relaxed));
        let size = storage.size(&self.plugin).await;
        // If storage does not answer, the estimate is unchanged, and the wait was not the cost of measuring.
        let pause = if size.is_ok() { (began.elapsed() * MEASURE_PAUSE).max(MEASURE_EVERY) } else { MEASURE_EVERY };
        self.store.next.store(rate::now() + pause.as_nanos() as u64, Ordering::Relaxed);
        if let Ok(size) = size {
            self.store.measured.store(size, Ordering::Relaxed);
            self.store.written.fetch_sub(written, Ordering::Relaxed);
        }
    }

    /// Records the size of an instance's memory.
    pub fn note_memory(&self, bytes: usize) {
        raise(&self.most_memory, bytes);
    }

    /// Records the number of a call's effects.
    pub fn note_effects(&self, count: usize) {
        raise(&self.most_effects, count);
    }

    /// Use and quota of each kind, for the operator. `instances` is the current number; `now_ms` is by the clock of the calls.
    /// For CPU and fan-out, the used part of one second's quota; null without a limit, where the metrics show the use.
    pub fn report(&self, instances: usize, now_ms: u64) -> Value {
        let now = rate::now();
        let quota = &self.quota;
        let cpu = self.cpu.map(|_| (self.cpu_meter.level(now) * quota.cpu * 1000.0).round() / 1000.0);
        let fanout = self.fanout.map(|_| (self.fanout_meter.level(now) * quota.fanout_bytes as f64) as u64);
        json!({
            "cpu": { "used": cpu, "quota": quota.cpu },
            "memory": { "used": self.most_memory.load(Ordering::Relaxed), "quota": quota.memory },
            "instances": { "used": instances, "quota": quota.instances },
            "effects": { "used": self.most_effects.load(Ordering::Relaxed), "quota": quota.effects },
            "fanoutBytes": { "used": fanout, "quota": quota.fanout_bytes },
            "logLines": { "used": self.log.count(now_ms), "quota": quota.log_lines },
            "storeBytes": { "used": self.stored(), "quota": quota.store_bytes },
        })
    }
}

/// Raises a maximum. Mostly only a read, so that calls on several cores do not contend for a cache line.
fn raise(maximum: &AtomicUsize, to: usize) {
    if maximum.load(Ordering::Relaxed) < to {
        maximum.fetch_max(to, Ordering::Relaxed);
    }
}

/// Allows one measurement at a time. Released on drop, also when the call is cancelled.
struct Measuring<'a>(&'a AtomicBool);

impl<'a> Measuring<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Self> {
        (!flag.swap(true, Ordering::AcqRel)).then_some(Self(flag))
    }
}

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The largest limit of a [`PerSecond`].
pub(crate) const MOST_PER_SECOND: u64 = 10_000_000;

const COUNT: u64 = 0xff_ffff;

/// A limit per second, counted by whole seconds of the given clock: cheap, and exact enough for a quota.
pub struct PerSecond {
    most: u64,
    /// The second in the upper 40 bits, the count in the lower 24.
    state: AtomicU64,
}

impl PerSecond {
    pub fn new(most: u64) -> Self {
        Self { most, state: AtomicU64::new(0) }
    }

    pub fn take(&self, now_ms: u64) -> bool {
        let second = (now_ms / 1000) << 24;
        let mut taken = false;
        // Cannot fail: the closure always returns a value.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            let count = if state & !COUNT == second { state & COUNT } else { 0 };
            taken = count < self.most;
            Some(second | (count + u64::from(taken)))
        });
        taken
    }

    /// The number taken in this second.
    pub fn count(&self, now_ms: u64) -> u64 {
        let state = self.state.load(Ordering::Acquire);
        if state & !COUNT == (now_ms / 1000) << 24 { state & COUNT } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn usage(quota: Config) -> Usage {
        Usage::new(PluginName::parse("p").unwrap(), quota, |_| Counter::default())
    }

    #[test]
    fn the_limit_applies_to_each_second() {
        let lines = PerSecond::new(2);
        assert!(lines.take(1000) && lines.take(1500) && !lines.take(1999));
        assert_eq!((lines.count(1999), lines.count(2000)), (2, 0));
        assert!(lines.take(2000));
    }

    #[test]
    fn a_plugin_past_its_cpu_quota_waits() {
        let usage = usage(Config { cpu: 0.1, ..Config::default() });
        usage.spent_cpu(Duration::from_millis(90));
        assert_eq!(usage.cpu_wait(), None, "the quota of one second is 100 ms");
        usage.spent_cpu(Duration::from_millis(60));
        assert!(usage.cpu_wait().unwrap() > Duration::from_millis(300));
    }

    #[test]
    fn a_call_over_the_whole_fan_out_quota_is_never_retried() {
        let usage = usage(Config { fanout_bytes: 1000, ..Config::default() });
        assert_eq!(usage.fan_out(1000), Ok(()));
        assert!(usage.fan_out(500).unwrap_err().wait.unwrap() > Duration::ZERO);
        assert_eq!(usage.fan_out(1001).unwrap_err().wait, None);
    }

    #[tokio::test]
    async fn an_unknown_size_refuses_nothing_and_is_measured() {
        let usage = usage(Config { store_bytes: 100, ..Config::default() });
        usage.at_most(0);
        assert!(usage.is_doubtful(1) && usage.has_store_room(1));
        usage.measure_store(&crate::storage::NoStorage, 1).await;
        assert!(usage.has_store_room(100) && !usage.has_store_room(101));
    }

    #[tokio::test]
    async fn an_estimate_over_the_quota_is_measured_before_a_refusal() {
        let storage = crate::storage::NoStorage;
        let usage = usage(Config { store_bytes: 100, ..Config::default() });
        usage.at_most(40);
        usage.wrote(60);
        assert!(usage.has_store_room(0) && !usage.has_store_room(1));
        // The store is empty, however often it was overwritten.
        usage.measure_store(&storage, 1).await;
        assert_eq!((usage.stored(), usage.has_store_room(100), usage.is_doubtful(1)), (0, true, false));
    }
}
