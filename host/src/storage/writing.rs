//! Whether storage can be written: by the outcome of the last commits, and by a trial on request. A trial runs at most once a second,
//! leaves nothing behind, and syncs only if the last commit failed.

use std::time::{Duration, Instant};

use super::Unavailable;
use super::queue::Queue;
use super::stats::Writing;

/// The shortest time between two trials.
const EVERY: Duration = Duration::from_secs(1);

/// How long a trial may take, with the commits before it.
const WITHIN: Duration = Duration::from_secs(2);

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
