//! Metrics that storage, rooms and the process keep themselves, read at each scrape. Nothing here may block.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cluster::peers::Peers;
use crate::rooms::Rooms;
use crate::storage::{Stats, Storage};
use crate::telemetry::collected::{self, Metric};
use crate::telemetry::{self, Metrics};
use crate::{descriptors, memory};

/// Registers the metrics of storage, rooms, the other nodes and the process.
pub(super) fn register(metrics: &Metrics, storage: Arc<dyn Storage>, rooms: Arc<Rooms>, peers: Option<Arc<Peers>>) {
    let read = move || {
        let log = peers.as_ref().and_then(|peers| peers.relay.log.as_ref());
        let shared = log.map_or(0, |log| log.bytes.load(Ordering::Relaxed));
        let peers = peers.iter().flat_map(|peers| peers.metrics());
        let rooms = OfRooms {
            deliveries: rooms.deliveries.load(Ordering::Relaxed),
            stalled: rooms.waiting() as i64,
            log_bytes: (rooms.log.bytes() + shared) as i64,
        };
        of(&storage.stats(), &rooms, peers)
    };
    metrics.extend(|registry| collected::register(registry, read));
}

/// The counts of rooms.
#[derive(Default)]
pub(crate) struct OfRooms {
    deliveries: u64,
    stalled: i64,
    log_bytes: i64,
}

/// The metrics of storage, of rooms, of the other nodes and of the process.
pub(crate) fn of(stats: &Stats, rooms: &OfRooms, peers: impl IntoIterator<Item = Metric>) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::Counter("deliveries", "Packets that were sent to clients, or put into their queues", rooms.deliveries),
        Metric::Gauge("stalled_clients", "Sockets with packets in their queue", rooms.stalled),
        Metric::Gauge("recovery_log_bytes", "Bytes of events that clients may have missed", rooms.log_bytes),
        Metric::Gauge("storage_queued", "Commits that wait to be written", stats.queued as i64),
        Metric::Counter("storage_groups", "Groups of commits that were written, each with one sync", stats.groups),
        Metric::Counter("storage_commits", "Commits that were written", stats.sets),
        Metric::Counter(
            "storage_conflicts",
            "Commits that were refused because a key that they had read was changed",
            stats.conflicts,
        ),
        Metric::Counter("storage_queue_full", "Commits that were refused because the queue stayed full", stats.queue_full),
        Metric::Counter("storage_groups_failed", "Groups of commits that could not be written", stats.groups_failed),
        Metric::Gauge("storage_failing", "1 while the last group of commits was refused", stats.failing.into()),
        Metric::Counter("storage_effects_panicked", "Effects of a commit that panicked", stats.effects_panicked),
        Metric::Seconds("storage_sync_seconds", "Time spent in writing and syncing groups", stats.sync.sum_seconds),
        Metric::Counter("storage_outages", "Outages of PostgreSQL", stats.outages),
        Metric::Counter(
            "storage_connections_busy",
            "Reads that were refused because all connections stayed busy",
            stats.connections_busy,
        ),
        Metric::Counter(
            "once_replies_dropped",
            "Replies to events that take effect once, dropped before their time because there were too many",
            stats.first_replies_dropped,
        ),
        Metric::Gauge("storage_log_bytes", "Bytes of log that are not yet in the database", stats.log_bytes as i64),
    ];
    metrics.extend(peers);
    metrics.extend([
        Metric::Counter("log_lines_lost", "Lines of the log that could not be written", telemetry::lost_lines()),
        Metric::Gauge("descriptors_limit", "File descriptors that the process may have open", descriptors::limit()),
    ]);
    metrics.extend(descriptors::open().map(|open| Metric::Gauge("descriptors_open", "File descriptors that are open", open)));
    metrics.extend(
        memory::resident_bytes()
            .map(|bytes| Metric::Gauge("process_resident_memory_bytes", "Resident memory of the process", bytes)),
    );
    metrics
}
