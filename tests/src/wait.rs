//! Waits for conditions. Must never wait for time to pass.

use std::time::{Duration, Instant};

/// How long a test waits for anything before it fails. Generous: several servers share two cores.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The interval at which a condition is checked that cannot be awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Checks until `seen` returns a value, and fails with `what` after `deadline`.
pub async fn until<T, F: AsyncFnMut() -> Option<T>>(what: &str, deadline: Duration, mut seen: F) -> T {
    let end = Instant::now() + deadline;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if let Some(found) = seen().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}");
    }
}

/// Checks until `holds` is true, and fails with `what` at the [`DEADLINE`].
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    until(what, DEADLINE, async || holds().await.then_some(())).await;
}
