//! A release that looks on: it is run on calls that the active one has done, answered as that one was, and what it would have done
//! otherwise is told to the operator. It never touches anything live: it runs in a world apart, one call at a time, and calls
//! that it has no time for are dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Differing calls that are told.
const TOLD: usize = 5;

/// Differences that are told of one.
const TOLD_OF_ONE: usize = 5;

/// The longest difference that is told, in bytes.
const TOLD_BYTES: usize = 2 << 10;

/// Calls whose CPU the ratio is made of.
const TIMED: usize = 512;

/// What a release that looks on has seen.
pub struct Shadow {
    inbox: Arc<Inbox>,
    seen: Arc<Seen>,
    _watching: ObserverGuard,
}

#[derive(Default)]
struct Seen {
    calls: AtomicU64,
    differing: AtomicU64,
    traps: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    /// Nanoseconds of the active release and of this one.
    cpu: VecDeque<(u64, u64)>,
    differing: VecDeque<Value>,
}

/// Runs both releases on what comes in.
struct Worker {
    calls: mpsc::Receiver<Arc<RecordedCall>>,
    active: Replayer,
    shadow: Replayer,
    redactor: Redactor,
    seen: Arc<Seen>,
    shadowed: Counter,
    differing: Counter,
}

impl Shadow {
    /// Begins to show a release a share of the calls of the active one. It ends when it is dropped.
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
        let (seen, metrics, label) = (Arc::new(Seen::default()), &services.metrics.recordings, (&deployed.name).into());
        let worker = Worker {
            calls,
            active: Replayer::new(active.clone(), services.apart()?),
            shadow: Replayer::new(release.clone(), services.apart()?),
            redactor: Redactor::new(Hide::Texts, &config.redact, vocabulary)?,
            seen: seen.clone(),
            shadowed: metrics.shadowed.get_or_create(&label).clone(),
            differing: metrics.shadow_differing.get_or_create(&label).clone(),
        };
        // Apart from every call: a client waits for none of this. It ends with the queue.
        tokio::spawn(worker.run());
        let inbox = Arc::new(Inbox {
            digest: active.digest.clone(),
            percent,
            call_bytes: config.call_bytes,
            queue,
            dropped: metrics.shadow_dropped.get_or_create(&label).clone(),
            dropped_here: AtomicU64::new(0),
        });
        Ok(Self { inbox, seen, _watching: deployed.observers.watch() })
    }
}

impl Shadowing for Shadow {
    fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    fn report(&self) -> Value {
        let (seen, recent) = (&self.seen, self.seen.recent.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut active, mut shadow): (Vec<u64>, Vec<u64>) = recent.cpu.iter().copied().unzip();
        let (active, shadow) = (median(&mut active), median(&mut shadow));
        let ratio = active.zip(shadow).map(|(active, shadow)| shadow as f64 / active.max(1) as f64);
        json!({
            "calls": seen.calls.load(Ordering::Relaxed),
            "differing": seen.differing.load(Ordering::Relaxed),
            "traps": seen.traps.load(Ordering::Relaxed),
            "dropped": self.inbox.dropped_here.load(Ordering::Relaxed),
            "cpuRatio": ratio.map(|ratio| (ratio * 100.0).round() / 100.0),
            "lastDiffering": recent.differing,
        })
    }
}

/// The middle one.
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
        // The active release a second time, under the same conditions: only so are they comparable.
        let again = self.active.play(call).await?;
        let played = self.shadow.play(call).await?;
        let differences: Vec<_> =
            compare(call, Some(&again), &played).into_iter().filter(|difference| difference.what.matters()).collect();
        let seen = &self.seen;
        if matches!(played.outcome, Outcome::Trapped(_)) {
            seen.traps.fetch_add(1, Ordering::Relaxed);
        }
        let reported = (!differences.is_empty()).then(|| self.describe(call, differences));
        let mut recent = seen.recent.lock().unwrap_or_else(PoisonError::into_inner);
        keep(&mut recent.cpu, (again.cpu.as_nanos() as u64, played.cpu.as_nanos() as u64), TIMED);
        if let Some(reported) = reported {
            seen.differing.fetch_add(1, Ordering::Relaxed);
            self.differing.inc();
            keep(&mut recent.differing, reported, TOLD);
        }
        // Last: a call that is counted has been told.
        seen.calls.fetch_add(1, Ordering::Relaxed);
        self.shadowed.inc();
        Ok(())
    }

    fn describe(&self, call: &RecordedCall, differences: Vec<Difference>) -> Value {
        let whole = serde_json::to_value(call).unwrap_or_default();
        let reported = differences.into_iter().take(TOLD_OF_ONE);
        let reported: Vec<_> = reported.map(|difference| self.one(&whole, difference)).collect();
        json!({ "at": call.at, "call": call.job.name(), "differences": reported })
    }

    /// A difference without what is to be hidden, and of bounded length.
    fn one(&self, call: &Value, difference: Difference) -> Value {
        let cut = |value: Option<Value>| {
            let mut value = value?;
            self.redactor.beside(call, &mut value);
            let text = value.to_string();
            let end = text.floor_char_boundary(TOLD_BYTES);
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
