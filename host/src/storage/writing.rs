//! Whether storage can be written: by the outcome of the last commits, and by a trial on request. A trial runs at most once a second,
//! leaves nothing behind, and syncs only if the last commit failed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Unavailable;
use super::queue::Queue;

/// The shortest time between two trials.
const EVERY: Duration = Duration::from_secs(1);

/// How long a trial may take, with the commits before it.
const WITHIN: Duration = Duration::from_secs(2);

/// How long a failed commit means that storage cannot be written, if no commit follows.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// The outcome of the last group of commits.
#[derive(Debug, Default)]
pub(super) struct Writing(Mutex<Option<(Instant, Unavailable)>>);

impl Writing {
    pub(super) fn failed(&self, error: &Unavailable) {
        *self.last() = Some((Instant::now(), error.clone()));
    }

    pub(super) fn passed(&self) {
        *self.last() = None;
    }

    /// Whether the last group was not written.
    pub(super) fn is_failing(&self) -> bool {
        self.last().is_some()
    }

    fn just_failed(&self) -> Option<Unavailable> {
        self.last().as_ref().filter(|(at, _)| at.elapsed() < FAILED_FOR).map(|(_, error)| error.clone())
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, Unavailable)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs trials.
#[derive(Default)]
pub(super) struct Trials {
    last: tokio::sync::Mutex<Option<(Instant, Result<(), Unavailable>)>>,
}

impl Trials {
    /// Whether storage can be written now.
    pub(super) async fn ask(&self, queue: &Queue, writing: &Writing) -> Result<(), Unavailable> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < EVERY
        {
            return answer.clone().and_then(|()| writing.just_failed().map_or(Ok(()), Err));
        }
        let answer = match tokio::time::timeout(WITHIN, queue.try_writing()).await {
            Ok(Ok(())) => writing.just_failed().map_or(Ok(()), Err),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Unavailable::new(format!("a write did not end within {} s", WITHIN.as_secs()))),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
