//! The other nodes of the cluster: this node's signs of life, what is said anew to a Redis that has forgotten, and clearing up after
//! nodes that have died. It takes no part in what happens on this node.

use std::sync::Arc;

use super::Cluster;
use super::presence_store::Turn;
use super::redis::{Epoch, RedisUnavailable};
use crate::clock::Clock;
use crate::rooms::Rooms;

/// The presence of this node, as the heartbeat needs it.
pub trait PresenceMember: Send + Sync + 'static {
    /// Publishes the presence of this node again, to a Redis that has lost it.
    fn restate(&self) -> impl Future<Output = Result<(), RedisUnavailable>> + Send;

    /// A key has changed, because what a node published was taken back.
    fn turned(&self, turn: Turn) -> impl Future<Output = ()> + Send;
}

/// Sends heartbeats and cleans up after dead nodes, until it is dropped.
pub async fn run(cluster: Arc<Cluster>, rooms: Arc<Rooms>, clock: Clock, presence: impl PresenceMember) {
    let mut epochs = cluster.link.epochs();
    let mut told: Epoch = None;
    let mut was_up = true;
    loop {
        let beat = cluster.nodes.heartbeat().await;
        if beat.is_ok() != was_up {
            was_up = beat.is_ok();
            match &beat {
                Ok(_) => tracing::info!("Redis answers again: this node is part of the cluster"),
                Err(error) => tracing::warn!("this node is by itself: {error}"),
            }
        }
        let epoch = *epochs.borrow_and_update();
        if epoch.is_some() && epoch != told && presence.restate().await.is_ok() {
            told = epoch;
        }
        for dead in beat.into_iter().flat_map(|beat| beat.dead) {
            if let Err(error) = clean_up(&cluster, &rooms, &clock, &presence, &dead).await {
                tracing::warn!(node = dead, "what a dead node said is still believed: {error}");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(cluster.link.config.heartbeat) => {}
            // Lost, it is looked for at once.
            _ = epochs.wait_for(Option::is_none), if epoch.is_some() => {}
        }
    }
}

/// Takes back what a dead node said: its members have gone.
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
    tracing::warn!(node = dead, "a node is dead: its members have gone");
    for (namespace, room) in cluster.peers.room_counts.forget(dead).await? {
        rooms.note_change(&namespace, &room);
    }
    let said = cluster.presence_store.published_by(dead).await?;
    for turn in cluster.presence_store.take_back(dead, said, clock.now_ms()).await? {
        presence.turned(turn).await;
    }
    cluster.node_status.forget(dead).await?;
    cluster.nodes.forget(dead).await
}
