//! Whether storage can be written: by the outcome of the last commits, and by a probe on request. A probe runs at most once a
//! second, leaves nothing behind, and syncs only if the last commit failed.

use std::time::{Duration, Instant};

use super::Unavailable;
use super::queue::Queue;
use super::stats::Writing;

/// The shortest time between two probes.
const EVERY: Duration = Duration::from_secs(1);

/// How long a probe may take, including the commits before it.
const WITHIN: Duration = Duration::from_secs(2);

/// Runs probes.
#[derive(Default)]
pub(super) struct Probes {
    last: tokio::sync::Mutex<Option<(Instant, Result<(), Unavailable>)>>,
}

impl Probes {
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
