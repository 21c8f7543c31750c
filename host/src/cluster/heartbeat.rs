//! Keeps this node in the cluster: sends heartbeats, publishes its state again to a Redis that has lost it, and removes the state
//! of dead nodes. It never changes the sockets and rooms of this node.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::presence_store::StatusChange;
use super::redis::{Epoch, RedisUnavailable};
use crate::clock::Clock;
use crate::rooms::Rooms;

/// The time between two heartbeats of a node that Redis answers, but that does not count as connected yet.
const RETRY: Duration = Duration::from_millis(50);

/// This node's presence, which the heartbeat publishes and updates.
pub trait PresenceMember: Send + Sync + 'static {
    /// Publishes this node's presence again, to a Redis that has lost it.
    fn restate(&self) -> impl Future<Output = Result<(), RedisUnavailable>> + Send;

    /// A key's status has changed because a dead node's presence was retracted.
    fn status_changed(&self, change: StatusChange) -> impl Future<Output = ()> + Send;
}

/// Sends heartbeats and cleans up after dead nodes, until the future is dropped.
pub async fn run(cluster: Arc<Cluster>, rooms: Arc<Rooms>, clock: Clock, presence: impl PresenceMember) {
    let mut epochs = cluster.link.epochs();
    let mut published: Epoch = None;
    let mut was_up = true;
    loop {
        let beat = cluster.nodes.heartbeat().await;
        if beat.is_ok() != was_up {
            was_up = beat.is_ok();
            match &beat {
                Ok(_) => tracing::info!("Redis answers: this node is part of the cluster"),
                Err(error) => tracing::warn!("this node is on its own: {error}"),
            }
        }
        let epoch = *epochs.borrow_and_update();
        if epoch.is_some() && epoch != published && presence.restate().await.is_ok() {
            published = epoch;
        }
        for dead in beat.into_iter().flat_map(|beat| beat.dead) {
            if let Err(error) = clean_up(&cluster, &rooms, &clock, &presence, &dead).await {
                tracing::warn!(node = dead, "the state of a dead node is not yet removed: {error}");
            }
        }
        // One of the connections may not be ready yet.
        let pause = if was_up && !cluster.link.is_up() { RETRY } else { cluster.link.config.heartbeat };
        tokio::select! {
            () = tokio::time::sleep(pause.min(cluster.link.config.heartbeat)) => {}
            // When the connection is lost, the next heartbeat is sent at once.
            _ = epochs.wait_for(Option::is_none), if epoch.is_some() => {}
        }
    }
}

/// Removes a dead node's room counts, presence and status.
async fn clean_up(
    cluster: &Cluster,
    rooms: &Rooms,
    clock: &Clock,
    presence: &impl PresenceMember,
    dead: &str,
) -> Result<(), RedisUnavailable> {
    if !cluster.nodes.may_reap(dead).await? {
        return Ok(());
    }
    tracing::warn!(node = dead, "a node is dead: its sockets no longer count");
    for (namespace, room) in cluster.peers.room_counts.forget(dead).await? {
        rooms.note_change(&namespace, &room);
    }
    let statuses = cluster.presence_store.published_by(dead).await?;
    for change in cluster.presence_store.retract(dead, statuses, clock.now_ms()).await? {
        presence.status_changed(change).await;
    }
    cluster.node_status.forget(dead).await?;
    cluster.nodes.forget(dead).await
}
