//! Shadow releases: calls of the active release are run again on another release, with the same answers, and the differences are
//! reported to the operator. A shadow never changes live state: it is isolated, runs one call at a time, and drops calls that it
//! has no time for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::compare::{Difference, compare};
use super::recording::Config;
use super::redact::{Hide, Redactor, Vocabulary};
use super::replayer::Replayer;
use crate::call::canary::Shadowing;
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::error::CallError;
use crate::call::observers::{Inbox, ObserverGuard};
use crate::call::recorded_call::{Outcome, RecordedCall};
use crate::call::release::Release;
use crate::transaction::services::Services;

/// Reported calls with differences.
const REPORTED: usize = 5;

/// Reported differences of one call.
const REPORTED_OF_CALL: usize = 5;

/// The longest reported difference, in bytes.
const REPORTED_BYTES: usize = 2 << 10;

/// Calls over which the CPU ratio is computed.
const TIMED: usize = 512;

/// A shadow and its results.
pub struct Shadow {
    inbox: Arc<Inbox>,
    results: Arc<Results>,
    _guard: ObserverGuard,
}

#[derive(Default)]
struct Results {
    calls: AtomicU64,
    differing: AtomicU64,
    traps: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    /// Nanoseconds of the active release and of the shadow.
    cpu: VecDeque<(u64, u64)>,
    differing: VecDeque<Value>,
}

/// Runs both releases on the queued calls.
struct Worker {
    calls: mpsc::Receiver<Arc<RecordedCall>>,
    active: Replayer,
    shadow: Replayer,
    redactor: Redactor,
    results: Arc<Results>,
    shadowed: Counter,
    differing: Counter,
}

impl Shadow {
    /// Starts to run a share of the active release's calls on a release. Ends when it is dropped.
    pub fn begin(
        deployed: &DeployedPlugin,
        active: &Arc<Release>,
        release: &Arc<Release>,
        percent: u8,
        config: &Config,
        services: &Services,
        vocabulary: Vocabulary,
    ) -> Result<Self, getrandom::Error> {
        let (queue, calls) = mpsc::channel(config.queue.max(1));
        let (results, metrics, label) = (Arc::new(Results::default()), &services.metrics.recordings, (&deployed.name).into());
        let worker = Worker {
            calls,
            active: Replayer::new(active.clone(), services.isolated()?),
            shadow: Replayer::new(release.clone(), services.isolated()?),
            redactor: Redactor::new(Hide::Texts, &config.redact, vocabulary)?,
            results: results.clone(),
            shadowed: metrics.shadowed.get_or_create(&label).clone(),
            differing: metrics.shadow_differing.get_or_create(&label).clone(),
        };
        // A task of its own, so that no client waits for it. It ends with the queue.
        tokio::spawn(worker.run());
        let inbox = Arc::new(Inbox {
            digest: active.digest.clone(),
            percent,
            call_bytes: config.call_bytes,
            queue,
            dropped: metrics.shadow_dropped.get_or_create(&label).clone(),
            dropped_here: AtomicU64::new(0),
        });
        Ok(Self { inbox, results, _guard: deployed.observers.watch() })
    }
}

impl Shadowing for Shadow {
    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn report(&self) -> Value {
        let (results, recent) = (&self.results, self.results.recent.lock());
        let (mut active, mut shadow): (Vec<u64>, Vec<u64>) = recent.cpu.iter().copied().unzip();
        let (active, shadow) = (median(&mut active), median(&mut shadow));
        let ratio = active.zip(shadow).map(|(active, shadow)| shadow as f64 / active.max(1) as f64);
        json!({
            "calls": results.calls.load(Ordering::Relaxed),
            "differing": results.differing.load(Ordering::Relaxed),
            "traps": results.traps.load(Ordering::Relaxed),
            "dropped": self.inbox.dropped_here.load(Ordering::Relaxed),
            "cpuRatio": ratio.map(|ratio| (ratio * 100.0).round() / 100.0),
            "lastDiffering": recent.differing,
        })
    }
}

/// The upper median.
pub fn median(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

impl Worker {
    async fn run(mut self) {
        while let Some(call) = self.calls.recv().await {
            if let Err(error) = self.run_call(&call).await {
                tracing::warn!("a shadow could not run a call: {error}");
            }
        }
    }

    async fn run_call(&mut self, call: &RecordedCall) -> Result<(), CallError> {
        // The active release runs the call again under the same conditions, since only then the two are comparable.
        let again = self.active.play(call).await?;
        let played = self.shadow.play(call).await?;
        let differences: Vec<_> =
            compare(call, Some(&again), &played).into_iter().filter(|difference| difference.what.matters()).collect();
        let results = &self.results;
        if matches!(played.outcome, Outcome::Trapped(_)) {
            results.traps.fetch_add(1, Ordering::Relaxed);
        }
        let reported = (!differences.is_empty()).then(|| self.describe(call, differences));
        let mut recent = results.recent.lock();
        keep(&mut recent.cpu, (again.cpu.as_nanos() as u64, played.cpu.as_nanos() as u64), TIMED);
        if let Some(reported) = reported {
            results.differing.fetch_add(1, Ordering::Relaxed);
            self.differing.inc();
            keep(&mut recent.differing, reported, REPORTED);
        }
        // Last, so that a counted call is already reported.
        results.calls.fetch_add(1, Ordering::Relaxed);
        self.shadowed.inc();
        Ok(())
    }

    fn describe(&self, call: &RecordedCall, differences: Vec<Difference>) -> Value {
        let whole = serde_json::to_value(call).unwrap_or_default();
        let reported = differences.into_iter().take(REPORTED_OF_CALL);
        let reported: Vec<_> = reported.map(|difference| self.one(&whole, difference)).collect();
        json!({ "at": call.at, "call": call.job.name(), "differences": reported })
    }

    /// A redacted difference, of bounded length.
    fn one(&self, call: &Value, difference: Difference) -> Value {
        let cut = |value: Option<Value>| {
            let mut value = value?;
            self.redactor.part_of(call, &mut value);
            let text = value.to_string();
            let end = text.floor_char_boundary(REPORTED_BYTES);
            Some(if end < text.len() { text[..end].into() } else { value })
        };
        json!(Difference { what: difference.what, was: cut(difference.was), is: cut(difference.is) })
    }
}

fn keep<T>(list: &mut VecDeque<T>, value: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(value);
}
