//! Metrics that the parts keep for themselves, read when they are asked for. It only reads: nothing here may wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cluster::rooms::Rooms;
use crate::gateway::descriptors;
use crate::memory;
use crate::storage::{Stats, Storage};
use crate::telemetry::figures::{self, Figure};
use crate::telemetry::{self, Metrics};

/// Adds the metrics that storage and rooms keep for themselves, and those of the process.
pub(super) fn register(metrics: &Metrics, storage: Arc<dyn Storage>, rooms: Arc<Rooms>) {
    let read = move || {
        let peers = rooms.peers.iter().flat_map(|peers| peers.figures());
        of(&storage.stats(), rooms.deliveries.load(Ordering::Relaxed), peers)
    };
    metrics.extend(|registry| figures::register(registry, read));
}

/// The metrics of storage, of deliveries, of the other nodes and of the process.
pub(crate) fn of(stats: &Stats, deliveries: u64, peers: impl IntoIterator<Item = Figure>) -> Vec<Figure> {
    let mut figures = vec![
        Figure::Counter("deliveries", "Packets that were put into clients' queues", deliveries),
        Figure::Gauge("storage_queued", "Commits that wait to be written", stats.queued as i64),
        Figure::Counter("storage_groups", "Groups of commits that were written, each with one sync", stats.groups),
        Figure::Counter("storage_commits", "Commits that were written", stats.sets),
        Figure::Counter(
            "storage_conflicts",
            "Commits that were refused because a key that they had read was changed",
            stats.conflicts,
        ),
        Figure::Counter("storage_queue_full", "Commits that were refused because the queue stayed full", stats.queue_full),
        Figure::Counter("storage_groups_failed", "Groups of commits that could not be written", stats.groups_failed),
        Figure::Gauge("storage_failing", "1 while the last group of commits was refused", stats.failing.into()),
        Figure::Counter("storage_effects_panicked", "Effects of a commit that panicked", stats.effects_panicked),
        Figure::Seconds("storage_sync_seconds", "Time spent in writing and syncing groups", stats.sync.sum_seconds),
        Figure::Counter("storage_outages", "Outages of PostgreSQL", stats.outages),
        Figure::Counter(
            "storage_connections_busy",
            "Reads that were refused because all connections stayed busy",
            stats.connections_busy,
        ),
        Figure::Gauge("storage_log_bytes", "Bytes of log that are not yet in the database", stats.log_bytes as i64),
    ];
    figures.extend(peers);
    figures.extend([
        Figure::Counter("log_lines_lost", "Lines of the log that could not be written", telemetry::lost_lines()),
        Figure::Gauge("descriptors_limit", "File descriptors that the process may have open", descriptors::limit()),
    ]);
    figures.extend(descriptors::open().map(|open| Figure::Gauge("descriptors_open", "File descriptors that are open", open)));
    figures.extend(
        memory::resident_bytes()
            .map(|bytes| Figure::Gauge("process_resident_memory_bytes", "Resident memory of the process", bytes)),
    );
    figures
}
