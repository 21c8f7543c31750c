//! Who looks at a plugin's calls: a recording, a shadow, mostly nobody. A look costs the client nothing: what was seen is handed on
//! when the call is done, into a bounded queue, or dropped and counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::error::CallError;
use super::job::Job;
use super::recorded_call::{Outcome, RecordedCall, RecordedJob};
use super::release::Release;
use crate::sandbox::Fault;
use crate::transaction::import_log::ImportLog;
use crate::transaction::state::State;

/// Who looks.
#[derive(Default)]
pub struct Observers {
    watching: Arc<AtomicUsize>,
    /// Numbers the calls while somebody looks.
    calls: AtomicU64,
    recording: Mutex<Weak<Inbox>>,
}

/// Somebody who looks, for as long as this is kept.
pub struct ObserverGuard(Arc<AtomicUsize>);

impl Drop for ObserverGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Observers {
    /// Whether anybody looks at all.
    pub fn is_observed(&self) -> bool {
        self.watching.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn watch(&self) -> ObserverGuard {
        self.watching.fetch_add(1, Ordering::Relaxed);
        ObserverGuard(self.watching.clone())
    }

    /// Lets a recording look, unless there is one. It looks until it is dropped.
    pub(crate) fn record(&self, recording: &Arc<Inbox>) -> bool {
        let mut known = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = known.upgrade().is_none();
        if is_free {
            *known = Arc::downgrade(recording);
        }
        is_free
    }

    fn recording(&self) -> Option<Arc<Inbox>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

/// Where calls are handed on to.
pub struct Inbox {
    /// The release that they must have been served by.
    pub(crate) digest: String,
    pub(crate) percent: u8,
    pub(crate) call_bytes: usize,
    pub(crate) queue: mpsc::Sender<Arc<RecordedCall>>,
    pub(crate) dropped: Counter,
    pub(crate) dropped_here: AtomicU64,
}

impl Inbox {
    fn wants(&self, number: u64) -> bool {
        // 61 and 100 have no common factor: of a hundred calls each has its own place, spread evenly.
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
    /// The look at the call that begins, where somebody wants one.
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

/// A look at one call. Dropped, it hands on what it saw.
pub struct Sample {
    recording: Option<Arc<Inbox>>,
    shadow: Option<Arc<Inbox>>,
    seen: Option<Seen>,
}

struct Seen {
    digest: String,
    /// None: it was too much to keep.
    call: Option<Arc<RecordedCall>>,
}

impl Sample {
    fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.recording.iter().chain(&self.shadow).map(AsRef::as_ref)
    }

    /// The handler is about to run.
    pub(crate) fn begin(&self, state: &mut State) {
        let bytes = self.inboxes().map(|inbox| inbox.call_bytes).max().unwrap_or_default();
        state.call.import_log = Some(ImportLog::recording(bytes));
    }

    /// The handler has run. Where it is run again, the last time counts.
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
