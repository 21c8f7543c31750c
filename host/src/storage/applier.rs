//! Runs the effects of written commits, one after the other, in commit order, and answers the callers. An effect that panics
//! never stops the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::stats::{Counters, count};
use super::{CommitError, Effects};

/// The most written groups that wait for their effects, besides the current one. Past it the writer waits.
pub(super) const GROUPS_AHEAD: usize = 1;

/// One commit with its final outcome.
pub(super) struct Settled {
    pub(super) outcome: Result<bool, CommitError>,
    pub(super) effects: Option<Effects>,
    pub(super) reply: oneshot::Sender<Result<bool, CommitError>>,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Runs until the writer ends.
pub(super) async fn run(mut groups: mpsc::Receiver<Vec<Settled>>, counters: Arc<Counters>) {
    while let Some(group) = groups.recv().await {
        for Settled { outcome, effects, reply, room } in group {
            let completed = match effects {
                Some(effects) if outcome.is_ok() => finish(effects).await,
                // The drop of unrun effects may panic as well.
                effects => catch_unwind(AssertUnwindSafe(|| drop(effects))).is_ok(),
            };
            if !completed {
                count(&counters.effects_panicked, 1);
            }
            drop(room);
            // The caller may have given up.
            let _ = reply.send(outcome);
            tokio::task::consume_budget().await;
        }
    }
}

/// Polls the effects to the end; false if they panicked.
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
