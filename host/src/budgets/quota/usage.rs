//! What one plugin uses now, beside what it may. Counting costs an atomic step; nothing here knows of calls or clients.

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

/// Of a measurement's own time so much passes before the next: large stores are measured for at most a twentieth of the time.
const MEASURE_PAUSE: u32 = 20;

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
    /// The most that an instance and a call have used, for the operator to set quotas by.
    most_memory: AtomicUsize,
    most_effects: AtomicUsize,
    passed: [Counter; Kind::ALL.len()],
    /// What was said of each quota, once a second.
    said: [PerSecond; Kind::ALL.len()],
}

/// An upper estimate of a plugin's keys and values.
#[derive(Default)]
struct Store {
    /// As of the last measurement; before the first, what the whole database holds, which is no less.
    measured: AtomicU64,
    written: AtomicU64,
    measuring: AtomicBool,
    /// By `rate::now`: not measured again before.
    next: AtomicU64,
}

/// A call has to be refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than quota.{} allows", quota.as_str())]
pub struct Passed {
    pub quota: Kind,
    /// When to try again. None: never, the call is over it alone.
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
            said: std::array::from_fn(|_| PerSecond::new(1)),
        }
    }

    /// For a component that is only being looked at. Nobody reads it.
    pub fn detached(plugin: PluginName) -> Self {
        Self::new(plugin, Config { log_lines: 0, ..Config::default() }, |_| Counter::default())
    }

    /// Counts that a quota is passed, and says so in the log, once a second.
    pub fn passed(&self, quota: Kind) {
        self.passed[quota as usize].inc();
        if self.said[quota as usize].take(rate::now() / 1_000_000) {
            tracing::warn!(plugin = %self.plugin, quota = quota.as_str(), "the plugin uses more than its quota allows");
        }
    }

    /// CPU that a call has used.
    pub fn spent_cpu(&self, time: Duration) {
        if let Some(flow) = self.cpu {
            self.cpu_meter.spend(flow, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), rate::now());
        }
    }

    /// How long until there is CPU time again; none where there is.
    pub fn tired(&self) -> Option<Duration> {
        self.cpu.and_then(|_| self.cpu_meter.owed(rate::now()))
    }

    pub fn is_fanout_limited(&self) -> bool {
        self.fanout.is_some()
    }

    /// Takes bytes of fan-out, or answers why not.
    pub fn fan_out(&self, bytes: u64) -> Result<(), Passed> {
        let Some(flow) = self.fanout else { return Ok(()) };
        let Err(wait) = self.fanout_meter.afford(flow, bytes, rate::now()) else { return Ok(()) };
        self.passed(Kind::FanoutBytes);
        Err(Passed { quota: Kind::FanoutBytes, wait: (bytes <= self.quota.fanout_bytes).then_some(wait) })
    }

    /// Whether the store takes so many bytes more, as far as is known.
    pub fn stores(&self, more: u64) -> bool {
        let most = self.quota.store_bytes;
        let takes = most == 0 || self.stored().saturating_add(more) <= most;
        if !takes {
            self.passed(Kind::StoreBytes);
        }
        takes
    }

    /// Bytes that are about to be written.
    pub fn wrote(&self, bytes: u64) {
        if bytes > 0 {
            self.store.written.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The estimate: what is overwritten or deleted counts until it is measured again.
    pub fn stored(&self) -> u64 {
        self.store.measured.load(Ordering::Relaxed).saturating_add(self.store.written.load(Ordering::Relaxed))
    }

    /// Whether the estimate is near the quota and may be too high: `more` is what one call may add.
    fn is_doubtful(&self, more: u64) -> bool {
        let most = self.quota.store_bytes;
        most != 0 && self.stored().saturating_add(more) > most && rate::now() >= self.store.next.load(Ordering::Relaxed)
    }

    /// The whole database holds so much (0: unknown), and no plugin holds more: where that is within the quota, nothing has to be
    /// measured.
    pub fn at_most(&self, bytes: u64) {
        // Once measured, the measure is better.
        if self.store.next.load(Ordering::Relaxed) == 0 {
            self.store.measured.store(if bytes == 0 { u64::MAX } else { bytes }, Ordering::Relaxed);
        }
    }

    /// Measures the store where the estimate says that a call may pass the quota: at most once a second, one at a time.
    pub async fn measure_store(&self, storage: &dyn Storage, more: u64) {
        if self.is_doubtful(more) {
            self.measure(storage).await;
        }
    }

    /// Measures the store if nobody ever has: for who wants to see it.
    pub async fn first_look(&self, storage: &dyn Storage) {
        if self.store.next.load(Ordering::Relaxed) == 0 {
            self.measure(storage).await;
        }
    }

    /// Measures the store anew: what another plugin held has been moved here, or from here.
    pub async fn measure_store_again(&self, storage: &dyn Storage) {
        self.measure(storage).await;
    }

    async fn measure(&self, storage: &dyn Storage) {
        let Some(_one) = Measuring::begin(&self.store.measuring) else { return };
        let (began, written) = (Instant::now(), self.store.written.load(Ordering::Relaxed));
        let size = storage.size(&self.plugin).await;
        let pause = (began.elapsed() * MEASURE_PAUSE).max(MEASURE_EVERY);
        self.store.next.store(rate::now() + pause.as_nanos() as u64, Ordering::Relaxed);
        // Where storage does not answer, the estimate stays what it was.
        if let Ok(size) = size {
            self.store.measured.store(size, Ordering::Relaxed);
            self.store.written.fetch_sub(written, Ordering::Relaxed);
        }
    }

    /// What an instance's memory has grown to.
    pub fn note_memory(&self, bytes: usize) {
        raise(&self.most_memory, bytes);
    }

    /// How many effects a call has made.
    pub fn note_effects(&self, count: usize) {
        raise(&self.most_effects, count);
    }

    /// Use against quota, for the operator. `instances` are those of now; `now_ms` is by the clock that calls go by. CPU and
    /// fan-out: what of a second's worth is gone; null where nothing limits it, and the metrics tell it.
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

/// Raises a mark, which is mostly only read: calls on several cores fight for no cache line.
fn raise(mark: &AtomicUsize, to: usize) {
    if mark.load(Ordering::Relaxed) < to {
        mark.fetch_max(to, Ordering::Relaxed);
    }
}

/// One measurement at a time, also where its call is given up.
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

/// The most that [`PerSecond`] counts to.
pub(crate) const MOST_PER_SECOND: u64 = 10_000_000;

const COUNT: u64 = 0xff_ffff;

/// At most so many in a second, counted by whole seconds of the clock it is given: cheap, and exact enough for a quota.
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
        // Fails only where the closure says so, and it never does.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            let count = if state & !COUNT == second { state & COUNT } else { 0 };
            taken = count < self.most;
            Some(second | (count + u64::from(taken)))
        });
        taken
    }

    /// How many were taken in this second.
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
    fn what_is_counted_is_full_again_each_second() {
        let lines = PerSecond::new(2);
        assert!(lines.take(1000) && lines.take(1500) && !lines.take(1999));
        assert_eq!((lines.count(1999), lines.count(2000)), (2, 0));
        assert!(lines.take(2000));
    }

    #[test]
    fn a_plugin_that_has_used_its_cpu_is_tired_until_it_has_rested() {
        let usage = usage(Config { cpu: 0.1, ..Config::default() });
        usage.spent_cpu(Duration::from_millis(90));
        assert_eq!(usage.tired(), None, "a second's worth is 100 ms");
        usage.spent_cpu(Duration::from_millis(60));
        assert!(usage.tired().unwrap() > Duration::from_millis(300));
    }

    #[test]
    fn a_call_over_the_whole_fan_out_is_told_apart_from_one_that_is_too_early() {
        let usage = usage(Config { fanout_bytes: 1000, ..Config::default() });
        assert_eq!(usage.fan_out(1000), Ok(()));
        assert!(usage.fan_out(500).unwrap_err().wait.unwrap() > Duration::ZERO);
        assert_eq!(usage.fan_out(1001).unwrap_err().wait, None);
    }

    #[tokio::test]
    async fn an_estimate_over_the_quota_is_measured_before_anything_is_refused() {
        let storage = crate::storage::NoStorage;
        let usage = usage(Config { store_bytes: 100, ..Config::default() });
        usage.at_most(40);
        usage.wrote(60);
        assert!(usage.stores(0) && !usage.stores(1));
        // There is nothing in it, however much was written over and over.
        usage.measure_store(&storage, 1).await;
        assert_eq!((usage.stored(), usage.stores(100), usage.is_doubtful(1)), (0, true, false));
    }
}
