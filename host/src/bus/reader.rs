//! One plugin's reader of the outbox: its lanes and its position. Handles no message.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::progress::Progress;
use super::work::Work;
use crate::call::breaker::Source;
use crate::call::deployed_plugin::DeployedPlugin;

/// How long a notice waits for room in its lane.
const NOTICE_WAIT: Duration = Duration::from_secs(1);

/// One plugin's reader of the outbox.
pub(crate) struct Reader {
    pub(crate) deployed: Arc<DeployedPlugin>,
    lanes: Vec<mpsc::Sender<Work>>,
    /// Separate lanes: while the circuit breaker of one source is open, calls of the other do not wait.
    notice_lanes: Vec<mpsc::Sender<Work>>,
    progress: Mutex<Progress>,
    pub(crate) wake: Notify,
    /// The number of the plugin's reread that this reader has begun.
    reread: AtomicU32,
    /// Whether the last notice was dropped.
    drops_notices: AtomicBool,
}

impl Reader {
    /// `lanes` for messages and as many for notices, each with `queue` entries. The receivers are for the tasks that handle them.
    pub(crate) fn new(deployed: Arc<DeployedPlugin>, lanes: usize, queue: usize) -> (Self, Vec<mpsc::Receiver<Work>>) {
        let lanes = lanes.max(1);
        let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..2 * lanes).map(|_| mpsc::channel(queue.max(1))).unzip();
        let notice_lanes = senders.split_off(lanes);
        let (progress, wake, drops_notices) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        let reread = AtomicU32::new(deployed.rereads());
        (Self { deployed, lanes: senders, notice_lanes, progress, wake, reread, drops_notices }, receivers)
    }

    /// Whether the plugin subscribes to topics that it did not subscribe to before, so that skipped rows are for it now.
    pub(crate) fn must_restart(&self) -> bool {
        self.reread.load(Ordering::Acquire) != self.deployed.rereads()
    }

    /// Restarts at the oldest row if the plugin subscribes to new topics. Messages that it has handled are not handled again.
    pub(crate) fn restart_if_needed(&self) {
        let rereads = self.deployed.rereads();
        if self.reread.swap(rereads, Ordering::AcqRel) != rereads {
            *self.progress() = Progress::default();
        }
    }

    /// The row up to which the plugin has handled the outbox.
    pub(crate) fn done(&self) -> u64 {
        if self.must_restart() { 0 } else { self.progress().done() }
    }

    fn lane(&self, work: &Work) -> &mpsc::Sender<Work> {
        let mut hasher = DefaultHasher::new();
        work.key().hash(&mut hasher);
        let lanes = if work.seq.is_some() { &self.lanes } else { &self.notice_lanes };
        &lanes[(hasher.finish() % lanes.len() as u64) as usize]
    }

    pub(crate) async fn send(&self, work: Work) {
        // The lane closes only with the bus.
        let _ = self.lane(&work).send(work).await;
    }

    /// Puts a notice into its lane. False: the lane was full.
    pub(crate) async fn send_notice(&self, work: Work) -> bool {
        let lane = self.lane(&work);
        let is_called = || self.deployed.live().is_some_and(|live| live.breakers.of(Source::Notices).allows(Instant::now()));
        let sent = match lane.try_send(work) {
            Err(mpsc::error::TrySendError::Full(work)) if is_called() => lane.send_timeout(work, NOTICE_WAIT).await.is_ok(),
            sent => sent.is_ok(),
        };
        if !sent && !self.drops_notices.load(Ordering::Relaxed) {
            tracing::warn!(release = self.deployed.label(), "notices are dropped: too many wait for the plugin");
        }
        self.drops_notices.store(!sent, Ordering::Relaxed);
        sent
    }

    pub(crate) fn progress(&self) -> parking_lot::MutexGuard<'_, Progress> {
        self.progress.lock()
    }
}
