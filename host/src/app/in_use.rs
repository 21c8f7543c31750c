//! Opens what another process may hold. Right after a server was killed, a child that it was just starting may still have its sockets
//! and its lock.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The time between two attempts.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `open` until it no longer fails because of another process, or until the timeout.
pub(super) async fn open_within<T, E: Display>(
    timeout: Duration,
    is_in_use: impl Fn(&E) -> bool,
    open: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    let end = Instant::now() + timeout;
    let mut opened = open().await;
    if let Err(error) = &opened
        && is_in_use(error)
    {
        tracing::info!(?timeout, "waiting: {error}");
    }
    while opened.as_ref().is_err_and(&is_in_use) && Instant::now() < end {
        sleep(INTERVAL).await;
        opened = open().await;
    }
    opened
}
