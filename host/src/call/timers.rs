//! Runs timers and schedules that are due, each as a call. A failed timer is retried; a failed schedule is not, since it runs
//! again at its next due time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::deployed_plugin::DeployedPlugin;
use super::error::CallError;
use super::job::Job;
use super::registry::Registry;
use super::run::call;
use crate::clock::Moment;
use crate::names::PluginName;
use crate::sandbox::exports::{DueTimer, ScheduleScope};
use crate::storage::Fingerprint;
use crate::telemetry::traces::Kind;
use crate::timers::{Due, parse_stored, restore};
use crate::transaction::services::Services;
use crate::transaction::state::StoredTimer;

/// The first and the longest wait between two attempts.
const RETRY_MS: (u64, u64) = (50, 60_000);

/// The wait between two attempts while the plugin is not called at all.
const WAIT_MS: u64 = 500;

/// Failures and faults after which a soft timer is discarded. A durable timer never is.
const MAX_FAILURES: u32 = 5;

/// The longest sleep: changes without a wakeup are seen after it.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// The wall clock was set back if it is behind by more than this.
const CLOCK_SET_MS: u64 = 1000;

/// How long the soft timers of a stopping node may run.
const FLUSH: Duration = Duration::from_secs(2);

/// The most soft timers that run when a node stops.
const FLUSHED: usize = 10_000;

/// The timers and schedules of this node.
pub struct Timing {
    services: Arc<Services>,
    registry: Arc<Registry>,
    permits: Arc<Semaphore>,
    /// Running schedules: a schedule never overlaps itself.
    running: Mutex<HashSet<ScheduleId>>,
}

type ScheduleId = (PluginName, String);

impl Timing {
    pub fn new(services: Arc<Services>, registry: Arc<Registry>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(services.timers.config.at_once));
        Arc::new(Self { services, registry, permits, running: Mutex::default() })
    }

    /// Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let mut restored = HashMap::new();
        let mut schedules = Schedules::default();
        let mut changes = self.registry.changes();
        let mut nodes = None;
        loop {
            // After a node has left, every node loads its timers: the first to run one commits it.
            let live = self.services.cluster.as_ref().map(|cluster| cluster.nodes.live());
            if nodes != live {
                nodes = live;
                restored.clear();
            }
            self.restore(&mut restored).await;
            let now = self.services.clock.moment();
            schedules.follow(&self.registry, now);
            self.start_due(&mut tasks, now.steady_ms).await;
            for due in schedules.take_due(now) {
                self.start_schedule(&mut tasks, due).await;
            }
            while tasks.try_join_next().is_some() {}
            self.services.metrics.timers_waiting.set(self.services.timers.waiting() as i64);
            let next = [self.services.timers.next_due_ms(), schedules.next_due_ms()].into_iter().flatten().min();
            let wait = next
                .map_or(MAX_SLEEP, |at| Duration::from_millis(at.saturating_sub(self.services.clock.steady_ms())).min(MAX_SLEEP));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.services.timers.wakeup.notified() => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Runs the waiting soft timers when the node stops: early rather than never.
    pub async fn flush(self: &Arc<Self>) {
        let all = async {
            let mut tasks = JoinSet::new();
            for due in self.services.timers.take_soft(FLUSHED) {
                let Some(permit) = self.permit().await else { return };
                let timing = self.clone();
                tasks.spawn(async move { timing.fire(due, permit).await });
            }
            while tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::warn!("soft timers were lost at the stop: they took longer than {FLUSH:?}");
        }
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.permits.clone().acquire_owned().await.ok()
    }

    /// Loads the stored timers of each release once: a release may have taken over another plugin's timers.
    async fn restore(&self, restored: &mut HashMap<PluginName, String>) {
        for deployed in self.registry.deployed_plugins() {
            let digest = deployed.installed().map(|release| release.digest.clone()).unwrap_or_default();
            if restored.get(&deployed.name) == Some(&digest) {
                continue;
            }
            if restore(&self.services.timers, &self.services.storage, &self.services.clock, &deployed.name).await.is_ok() {
                restored.insert(deployed.name.clone(), digest);
            }
        }
    }

    async fn start_due(self: &Arc<Self>, tasks: &mut JoinSet<()>, steady_ms: u64) {
        loop {
            // If all permits are in use, due timers wait in order.
            let Some(permit) = self.permit().await else { return };
            let Some(due) = self.services.timers.take_due(steady_ms, 1).pop() else { return };
            let timing = self.clone();
            tasks.spawn(async move { timing.fire(due, permit).await });
        }
    }

    async fn fire(&self, mut due: Due, _permit: OwnedSemaphorePermit) {
        let deployed = self.registry.deployed(&due.id.plugin);
        let outcome = match &deployed {
            Some(deployed) => self.attempt(deployed, &due).await,
            None => Err(CallError::Unavailable("no such plugin is deployed")),
        };
        let metrics = &self.services.metrics;
        let Err(error) = outcome else {
            metrics.timers_fired.inc();
            return;
        };
        metrics.timers_failed.inc();
        due.failures += u32::from(!error.is_temporary());
        // A retry with the same payload cannot succeed.
        let invalid = matches!(error, CallError::InvalidData(_));
        if (due.failures >= MAX_FAILURES || invalid) && !due.id.durable {
            let release = deployed.map_or_else(|| due.id.plugin.to_string(), |deployed| deployed.label());
            tracing::error!(release, timer = due.id.key, "a soft timer was given up: {error}");
            return;
        }
        let wait = match &error {
            // Only another release can handle it.
            CallError::InvalidData(_) => RETRY_MS.1,
            error if error.is_temporary() => WAIT_MS,
            _ => RETRY_MS.0.saturating_mul(1 << due.failures.min(20)).min(RETRY_MS.1),
        };
        let now = self.services.clock.moment();
        let at = Moment { wall_ms: now.wall_ms + wait, steady_ms: now.steady_ms + wait };
        self.services.timers.put_back(due, at);
    }

    async fn attempt(&self, deployed: &DeployedPlugin, due: &Due) -> Result<(), CallError> {
        let (mut payload, mut stored, mut due_ms) = (due.payload.clone(), None, due.due.wall_ms);
        if due.id.durable {
            let key = due.id.stored_key();
            let unavailable = |_| CallError::Unavailable("storage does not answer");
            let value = self.services.storage.get(&deployed.name, &key).await.map_err(unavailable)?;
            // Cancelled, or run by another node.
            let Some(value) = value else { return Ok(()) };
            let Some((at, text)) = parse_stored(&value) else { return Ok(()) };
            (payload, due_ms) = (Some(text.to_owned()), at);
            stored = Some(StoredTimer { key, read: Fingerprint::of(&value) });
        }
        let timer = DueTimer { key: due.id.key.clone(), tenant: due.id.tenant.clone(), payload, due: due_ms };
        let span = self.services.tracer.begin_after(due.origin.cause, Kind::Internal, "timer");
        if let Some(span) = &span {
            // Without the timer's key, which may name a user.
            span.text("hubbub.kind", if due.id.durable { "durable" } else { "soft" });
            span.number("hubbub.late_ms", self.services.clock.steady_ms().saturating_sub(due.due.steady_ms));
            span.number("hubbub.failures", due.failures.into());
        }
        let job = Job::Timer { timer: &timer, stored: stored.as_ref(), handled: None, again: due.failures > 0 };
        call(&self.services, deployed, job, span.as_ref()).await.map(drop)
    }

    async fn start_schedule(self: &Arc<Self>, tasks: &mut JoinSet<()>, due: DueSchedule) {
        let DueSchedule { deployed, key, due, rewound, scope } = due;
        let id = (deployed.name.clone(), key);
        if !self.running.lock().insert(id.clone()) {
            self.services.metrics.schedules_skipped.inc();
            return;
        }
        let Some(permit) = self.permit().await else { return };
        // Every node runs it, so that a failed node does not matter; only the first commit takes effect.
        let once = matches!(scope, ScheduleScope::Once) && self.services.cluster.is_some();
        let handled = once.then(|| handled_id(&id.1, due.wall_ms, rewound));
        let running = Running { timing: self.clone(), id };
        tasks.spawn(async move {
            let timer = DueTimer { key: running.id.1.clone(), tenant: None, payload: None, due: due.wall_ms };
            let services = &running.timing.services;
            let span = services.tracer.begin(Kind::Internal, "schedule");
            if let Some(span) = &span {
                span.text("hubbub.schedule", &timer.key);
                span.number("hubbub.late_ms", services.clock.steady_ms().saturating_sub(due.steady_ms));
            }
            let job = Job::Timer { timer: &timer, stored: None, handled: handled.as_deref(), again: false };
            // The call has reported the failure.
            let _ = call(services, &deployed, job, span.as_ref()).await;
            drop(permit);
        });
    }
}

/// A running schedule, until it is dropped.
struct Running {
    timing: Arc<Timing>,
    id: ScheduleId,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.timing.running.lock().remove(&self.id);
    }
}

/// The due times of the live releases' schedules. They are whole multiples of the period by the wall clock, the same on every
/// node. The wait is measured by the steady clock; a step of the wall clock changes the due times after it.
#[derive(Default)]
struct Schedules {
    due: HashMap<ScheduleId, Scheduled>,
}

/// One schedule with its next due time.
struct Scheduled {
    deployed: Arc<DeployedPlugin>,
    every_ms: u64,
    due: Moment,
    /// How often the wall clock was set back past a due time.
    rewound: u32,
    scope: ScheduleScope,
}

/// A schedule that is due.
struct DueSchedule {
    deployed: Arc<DeployedPlugin>,
    key: String,
    due: Moment,
    rewound: u32,
    scope: ScheduleScope,
}

impl Schedules {
    fn follow(&mut self, registry: &Registry, now: Moment) {
        let mut next = HashMap::new();
        for deployed in registry.deployed_plugins() {
            let Some(release) = deployed.live() else { continue };
            for schedule in &release.manifest.schedules {
                let (id, every_ms) = ((deployed.name.clone(), schedule.key.clone()), schedule.every_ms);
                let kept = self.due.remove(&id).filter(|kept| kept.every_ms == every_ms);
                let (due, rewound) = kept.map_or_else(|| (after(now, every_ms), 0), |kept| (kept.due, kept.rewound));
                next.insert(id, Scheduled { deployed: deployed.clone(), every_ms, due, rewound, scope: schedule.scope });
            }
        }
        self.due = next;
    }

    fn take_due(&mut self, now: Moment) -> Vec<DueSchedule> {
        let mut taken = Vec::new();
        for ((_, key), Scheduled { deployed, every_ms, due, rewound, scope }) in &mut self.due {
            if due.steady_ms <= now.steady_ms {
                taken.push(DueSchedule {
                    deployed: deployed.clone(),
                    key: key.clone(),
                    due: *due,
                    rewound: *rewound,
                    scope: *scope,
                });
                let next = next(*due, now, *every_ms);
                *rewound += u32::from(next.wall_ms <= due.wall_ms);
                *due = next;
            }
        }
        taken
    }

    fn next_due_ms(&self) -> Option<u64> {
        self.due.values().map(|scheduled| scheduled.due.steady_ms).min()
    }
}

/// The next whole multiple of a period.
fn after(now: Moment, every_ms: u64) -> Moment {
    let wall_ms = (now.wall_ms / every_ms + 1) * every_ms;
    Moment { wall_ms, steady_ms: now.steady_ms.saturating_add(wall_ms - now.wall_ms) }
}

/// The due time after one that has passed. The clocks differ by parts of a millisecond: at the due time by the steady clock it
/// may be a little earlier by the wall clock, which does not mean that the wall clock was set back.
fn next(due: Moment, now: Moment, every_ms: u64) -> Moment {
    let early_ms = due.wall_ms.saturating_sub(now.wall_ms);
    let set_back = early_ms > CLOCK_SET_MS.min(every_ms / 2);
    let early_ms = if set_back { 0 } else { early_ms };
    after(Moment { wall_ms: now.wall_ms + early_ms, steady_ms: now.steady_ms + early_ms }, every_ms)
}

/// The id of a run, the same on all nodes. After the clock was set back, the same due times are new runs.
fn handled_id(key: &str, due_ms: u64, rewound: u32) -> String {
    match rewound {
        0 => format!("schedule {key} {due_ms}"),
        times => format!("schedule {key} {due_ms} again {times}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_due_at_whole_multiples() {
        let after = |wall_ms| after(Moment { wall_ms, steady_ms: wall_ms }, 1000).wall_ms;
        assert_eq!([after(0), after(999), after(1000)], [1000, 1000, 2000]);
    }

    #[test]
    fn a_schedule_is_waited_for_by_the_steady_clock() {
        let due = after(Moment { wall_ms: 7_000_400, steady_ms: 50 }, 1000);
        assert_eq!(due, Moment { wall_ms: 7_001_000, steady_ms: 650 });
    }

    #[test]
    fn a_schedule_runs_once_a_period_unless_the_clock_is_set_back() {
        let due = Moment { wall_ms: 5000, steady_ms: 100 };
        let next = |wall_ms| next(due, Moment { wall_ms, steady_ms: 100 }, 1000);
        assert_eq!(next(5000), Moment { wall_ms: 6000, steady_ms: 1100 });
        assert_eq!(next(4998), Moment { wall_ms: 6000, steady_ms: 1102 });
        assert_eq!(next(5003), Moment { wall_ms: 6000, steady_ms: 1097 });
        assert_eq!(next(2300), Moment { wall_ms: 3000, steady_ms: 800 });
    }

    #[test]
    fn the_same_time_after_a_clock_was_set_back_is_another_run() {
        assert_eq!(handled_id("k", 1000, 0), "schedule k 1000");
        assert_ne!(handled_id("k", 1000, 0), handled_id("k", 1000, 1));
    }
}
