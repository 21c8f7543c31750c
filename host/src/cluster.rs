//! The nodes of one cluster and what they share through Redis: rooms, presence, budgets, and who does what for all. A node by
//! itself has none of it but the adapter.

pub mod bridge;
pub mod buckets;
pub mod heartbeat;
pub mod node_status;
pub mod nodes;
pub mod peers;
pub mod presence_store;
pub mod progress;
pub mod redis;
pub mod relay;
pub mod room_counts;
pub mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::rooms::Rooms;
use bridge::{Bridge, BridgeError};
use buckets::Buckets;
use node_status::NodeStatus;
use nodes::Nodes;
use peers::Peers;
use presence_store::PresenceStore;
use progress::Progress;
use redis::{Config, Redis, RedisError};
use relay::Relay;
use room_counts::RoomCounts;
use subscriptions::Subscriptions;

/// This node's part of the cluster.
pub struct Cluster {
    pub link: Arc<Redis>,
    pub nodes: Arc<Nodes>,
    pub peers: Arc<Peers>,
    pub presence_store: PresenceStore,
    pub buckets: Buckets,
    pub progress: Progress,
    pub node_status: NodeStatus,
}

/// What waits to be sent, for `run`.
pub struct Queues {
    parcels: mpsc::Receiver<relay::Parcel>,
    entries: mpsc::Receiver<room_counts::Entry>,
    bridged: Option<mpsc::Receiver<bridge::Parcel>>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum BuildError {
    Redis(#[from] RedisError),
    Bridge(#[from] BridgeError),
}

impl Cluster {
    /// The cluster that the configuration names, if any. Nothing is sent before it runs.
    pub fn build(
        config: &Config,
        bridge: &bridge::Config,
        me: String,
        lease: Duration,
    ) -> Result<Option<(Arc<Self>, Queues)>, BuildError> {
        let has_bridge = bridge.check(config.url.is_some())?;
        let Some(link) = Redis::open(config.clone())? else { return Ok(None) };
        let nodes = Arc::new(Nodes::new(link.clone(), me.clone(), lease));
        let (relay, parcels) = Relay::new(link.clone(), nodes.clone());
        let (room_counts, entries) = RoomCounts::new(link.clone(), me.clone());
        let bridged = has_bridge.then(|| Bridge::new(bridge.clone(), link.clone(), &nodes.me));
        let (bridge, bridged) = bridged.unzip();
        let subscriptions = Arc::new(Subscriptions::new(link.clone(), bridge.as_ref().map(|bridge| bridge.pattern())));
        let peers = Arc::new(Peers { link: link.clone(), relay, subscriptions, room_counts, bridge });
        let (presence_store, buckets) = (PresenceStore::new(link.clone(), me), Buckets::new(link.clone()));
        let progress = Progress::new(link.clone());
        let node_status = NodeStatus::new(link.clone(), nodes.clone());
        let cluster = Self { link, nodes, peers, presence_store, buckets, progress, node_status };
        Ok(Some((Arc::new(cluster), Queues { parcels, entries, bridged })))
    }

    /// Takes leave of the other nodes. Rooms are empty at once; who was here has the grace period to come back elsewhere.
    pub async fn leave(&self, grace: Duration) {
        let left = async {
            self.peers.room_counts.forget(&self.nodes.me).await?;
            self.node_status.forget(&self.nodes.me).await?;
            self.nodes.let_go(nodes::INGEST).await?;
            self.nodes.leave(grace).await
        };
        if left.await.is_err() {
            tracing::warn!("the other nodes were not told of the stop: they find out when the lease ends");
        }
    }

    /// Starts what goes on beside the rooms.
    pub fn start(&self, queues: Queues, rooms: &Arc<Rooms>, tasks: &mut JoinSet<()>) {
        let Peers { relay, subscriptions, room_counts, bridge, .. } = &*self.peers;
        tasks.spawn(relay.clone().receive(rooms.clone()));
        tasks.spawn(relay.clone().send(queues.parcels));
        if let (Some(bridge), Some(parcels)) = (bridge, queues.bridged) {
            tasks.spawn(bridge::receiver::run(bridge.clone(), rooms.clone()));
            tasks.spawn(bridge.clone().send(parcels));
        }
        subscriptions.set(relay::notice_channel(&self.link), true);
        tasks.spawn(subscriptions.clone().run());
        tasks.spawn(room_counts.clone().run(queues.entries, rooms.clone()));
        tasks.spawn(room_counts.clone().wake());
        tasks.spawn(self.link.clone().run());
    }
}
