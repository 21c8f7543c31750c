//! Metrics that the parts keep for themselves, read when they are asked for. It only reads: nothing here may wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cluster::peers::Peers;
use crate::rooms::Rooms;
use crate::storage::Storage;
use crate::telemetry::collected::{self, Metric};
use crate::telemetry::{self, Metrics};
use crate::{descriptors, memory};

/// Adds the metrics that storage and rooms keep for themselves, and those of the process.
pub(super) fn register(metrics: &Metrics, storage: Arc<dyn Storage>, rooms: Arc<Rooms>, peers: Option<Arc<Peers>>) {
    let read = move || {
        let stats = storage.stats();
        let deliveries = rooms.deliveries.load(Ordering::Relaxed);
        let mut values = vec![
            Metric::Counter("deliveries", "Packets put into clients' queues", deliveries),
            Metric::Gauge("storage_queued", "Commits that wait to be written", stats.queued as i64),
            Metric::Counter("storage_groups", "Groups of commits written, each with one sync", stats.groups),
            Metric::Counter("storage_commits", "Commits written", stats.sets),
            Metric::Counter("storage_conflicts", "Commits refused because what they read had changed", stats.conflicts),
            Metric::Counter("storage_queue_full", "Commits refused because the queue stayed full", stats.queue_full),
            Metric::Counter("storage_groups_failed", "Groups of commits that the disk refused", stats.groups_failed),
            Metric::Gauge("storage_failing", "1 while the last group of commits was refused", stats.failing.into()),
            Metric::Counter("storage_effects_panicked", "Effects of a commit that panicked", stats.effects_panicked),
            Metric::Seconds("storage_sync_seconds", "Time spent in writing and syncing groups", stats.sync.sum_seconds),
            Metric::Counter("storage_outages", "Times the database elsewhere began not to answer", stats.outages),
            Metric::Counter(
                "storage_connections_busy",
                "Reads refused because all connections stayed busy",
                stats.connections_busy,
            ),
            Metric::Gauge("storage_log_bytes", "Bytes of log that are not yet in the database", stats.log_bytes as i64),
        ];
        values.extend(peers.iter().flat_map(|peers| peers.metrics()));
        values.extend([
            Metric::Counter("log_lines_lost", "Lines of the log that could not be written", telemetry::lost_lines()),
            Metric::Gauge("descriptors_limit", "File descriptors that the process may have open", descriptors::limit()),
        ]);
        values.extend(descriptors::open().map(|open| Metric::Gauge("descriptors_open", "File descriptors that are open", open)));
        values.extend(
            memory::resident_bytes().map(|bytes| Metric::Gauge("process_resident_memory_bytes", "Memory of the process", bytes)),
        );
        values
    };
    metrics.extend(|registry| collected::register(registry, read));
}
