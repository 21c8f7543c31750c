//! Runs the effects of what is on the disk, one after the other, in commit order, and tells who waits. Never lets one that panics
//! keep the next from running.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::stats::{Counters, count};
use super::{CommitError, Effects};

/// Groups that are written and wait for their effects, besides the one whose effects run. Past it the writer waits.
pub(super) const GROUPS_AHEAD: usize = 1;

/// One commit whose outcome is certain.
pub(super) struct Settled {
    pub(super) outcome: Result<bool, CommitError>,
    pub(super) effects: Option<Effects>,
    pub(super) reply: oneshot::Sender<Result<bool, CommitError>>,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Runs until the writer has gone.
pub(super) async fn run(mut groups: mpsc::Receiver<Vec<Settled>>, counters: Arc<Counters>) {
    while let Some(group) = groups.recv().await {
        for Settled { outcome, effects, reply, room } in group {
            let calm = match effects {
                Some(effects) if outcome.is_ok() => finish(effects).await,
                // What a dropped effect owns may panic as well.
                effects => catch_unwind(AssertUnwindSafe(|| drop(effects))).is_ok(),
            };
            if !calm {
                count(&counters.effects_panicked, 1);
            }
            drop(room);
            // Nobody listening is no reason to stop.
            let _ = reply.send(outcome);
            tokio::task::consume_budget().await;
        }
    }
}

/// Polls to the end; false if it panicked.
async fn finish(effects: Effects) -> bool {
    let mut effects = Some(effects);
    std::future::poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| match &mut effects {
            Some(running) => running.as_mut().poll(context),
            None => Poll::Ready(()),
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            ended => {
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(effects.take())));
                Poll::Ready(ended.is_ok() && dropped.is_ok())
            }
        }
    })
    .await
}
