//! Releases free memory to the system after a storm of connects.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;

/// A storm of connects has ended when no client has connected for this long.
const STORM: Duration = Duration::from_millis(250);

/// Connects after which it is worth releasing free memory.
const TRIM_AFTER: u64 = 500;

pub(super) async fn trim_memory(gateway: Arc<Gateway>) {
    let (mut trimmed_at, mut seen) = (0, 0);
    loop {
        tokio::time::sleep(STORM).await;
        let connects = gateway.services.metrics.connects.get();
        let quiet = connects == seen;
        seen = connects;
        if quiet && connects - trimmed_at >= TRIM_AFTER {
            trimmed_at = connects;
            // The task cannot panic.
            let _ = tokio::task::spawn_blocking(crate::memory::trim).await;
        }
    }
}
