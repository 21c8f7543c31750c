//! Observers of a plugin's calls: a recording, a shadow, usually none. They do not delay the client: an observed call is sent to
//! a bounded queue when it has ended, or dropped and counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::error::CallError;
use super::job::Job;
use super::recorded_call::{Outcome, RecordedCall, RecordedJob};
use super::release::Release;
use crate::sandbox::Fault;
use crate::transaction::import_log::ImportLog;
use crate::transaction::state::State;

/// The observers of one plugin.
#[derive(Default)]
pub struct Observers {
    watching: Arc<AtomicUsize>,
    /// Numbers the calls while there is an observer.
    calls: AtomicU64,
    recording: Mutex<Weak<Inbox>>,
}

/// Keeps the calls observed until it is dropped.
pub struct ObserverGuard(Arc<AtomicUsize>);

impl Drop for ObserverGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Observers {
    /// Whether there is an observer.
    pub fn is_observed(&self) -> bool {
        self.watching.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn watch(&self) -> ObserverGuard {
        self.watching.fetch_add(1, Ordering::Relaxed);
        ObserverGuard(self.watching.clone())
    }

    /// Registers a recording, unless there is one. It ends when the recording is dropped.
    pub(crate) fn record(&self, recording: &Arc<Inbox>) -> bool {
        let mut known = self.recording.lock();
        let is_free = known.upgrade().is_none();
        if is_free {
            *known = Arc::downgrade(recording);
        }
        is_free
    }

    fn recording(&self) -> Option<Arc<Inbox>> {
        self.recording.lock().upgrade()
    }
}

/// The receiver of observed calls.
pub struct Inbox {
    /// The release that must have served the calls.
    pub(crate) digest: String,
    pub(crate) percent: u8,
    pub(crate) call_bytes: usize,
    pub(crate) queue: mpsc::Sender<Arc<RecordedCall>>,
    pub(crate) dropped: Counter,
    pub(crate) dropped_here: AtomicU64,
}

impl Inbox {
    fn wants(&self, number: u64) -> bool {
        // 61 and 100 have no common factor: each of a hundred calls gets its own place, spread evenly.
        number.wrapping_mul(61) % 100 < u64::from(self.percent)
    }

    fn put(&self, call: Option<Arc<RecordedCall>>) {
        if call.is_none_or(|call| self.queue.try_send(call).is_err()) {
            self.dropped.inc();
            self.dropped_here.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observers {
    /// The observation of the call that begins, if there is an observer.
    pub(crate) fn sample(&self, shadow: impl FnOnce() -> Option<Arc<Inbox>>) -> Option<Box<Sample>> {
        if self.is_observed() { self.observe(shadow()) } else { None }
    }

    #[cold]
    fn observe(&self, shadow: Option<Arc<Inbox>>) -> Option<Box<Sample>> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let recording = self.recording().filter(|recording| recording.wants(number));
        let shadow = shadow.filter(|shadow| shadow.wants(number));
        if recording.is_none() && shadow.is_none() {
            return None;
        }
        Some(Box::new(Sample { recording, shadow, seen: None }))
    }
}

/// The observation of one call. The drop sends the call to its receivers.
pub struct Sample {
    recording: Option<Arc<Inbox>>,
    shadow: Option<Arc<Inbox>>,
    seen: Option<Seen>,
}

struct Seen {
    digest: String,
    /// None: the call was too large to keep.
    call: Option<Arc<RecordedCall>>,
}

impl Sample {
    fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.recording.iter().chain(&self.shadow).map(AsRef::as_ref)
    }

    /// Called before the handler runs.
    pub(crate) fn begin(&self, state: &mut State) {
        let bytes = self.inboxes().map(|inbox| inbox.call_bytes).max().unwrap_or_default();
        state.call.import_log = Some(ImportLog::recording(bytes));
    }

    /// Called after the handler has run. If it runs again, the last run counts.
    pub(crate) fn end(
        &mut self,
        release: &Release,
        job: Job<'_>,
        state: &mut State,
        answer: &Result<Result<Option<String>, CallError>, Fault>,
        cpu: Duration,
    ) {
        let recorded = match state.call.import_log.take().map(|import_log| *import_log) {
            Some(ImportLog::Recording(recorded)) => recorded.complete(),
            _ => None,
        };
        let call = recorded.map(|imports| {
            let (job, outcome) = (RecordedJob::of(job), Outcome::of(answer));
            Arc::new(RecordedCall { at: state.call.now_ms, job, imports, outcome, cpu_ns: cpu.as_nanos() as u64 })
        });
        self.seen = Some(Seen { digest: release.digest.clone(), call });
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let Some(seen) = self.seen.take() else { return };
        for inbox in self.inboxes().filter(|inbox| inbox.digest == seen.digest) {
            inbox.put(seen.call.clone());
        }
    }
}
