//! The state that the nodes of one cluster share through Redis: rooms, presence, budgets, and which node does the work that one
//! node does for all. A node without Redis uses none of it.

pub mod bridge;
pub mod buckets;
pub mod heartbeat;
pub mod log;
pub mod logs;
pub mod node_status;
pub mod nodes;
pub mod peers;
pub mod presence_store;
pub mod progress;
pub mod redis;
pub mod relay;
pub mod repair;
pub mod room_counts;
pub mod sockets;
pub mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::rooms::Rooms;
use bridge::{Bridge, BridgeError};
use buckets::Buckets;
use log::Log;
use logs::Logs;
use node_status::NodeStatus;
use nodes::Nodes;
use peers::Peers;
use presence_store::PresenceStore;
use progress::Progress;
use redis::{Config, Redis, RedisError};
use relay::Relay;
use repair::Repair;
use room_counts::RoomCounts;
use sockets::Sockets;
use subscriptions::Subscriptions;

pub struct Cluster {
    pub link: Arc<Redis>,
    pub nodes: Arc<Nodes>,
    pub peers: Arc<Peers>,
    pub presence_store: PresenceStore,
    pub buckets: Buckets,
    pub progress: Progress,
    pub node_status: NodeStatus,
    /// Of all nodes. None: clients come back to the same node only.
    pub logs: Option<Arc<Logs>>,
}

/// The recovery of clients at any node.
pub struct Recovery {
    /// How long events are kept.
    pub keep: Duration,
    /// Bytes of this node's events that are kept.
    pub bytes: usize,
}

/// The receivers of the queues that `start` reads from.
pub struct Queues {
    parcels: mpsc::Receiver<relay::Parcel>,
    entries: mpsc::Receiver<room_counts::Entry>,
    bridged: Option<mpsc::Receiver<bridge::Parcel>>,
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum BuildError {
    Redis(#[from] RedisError),
    Bridge(#[from] BridgeError),
}

impl Cluster {
    /// Builds the cluster that the configuration names, if any. Sends nothing before `start`.
    pub fn build(
        config: &Config,
        bridge: &bridge::Config,
        me: String,
        lease: Duration,
        recovery: Option<Recovery>,
    ) -> Result<Option<(Arc<Self>, Queues)>, BuildError> {
        let has_bridge = bridge.check(config.url.is_some())?;
        let Some(link) = Redis::open(config.clone())? else { return Ok(None) };
        let nodes = Arc::new(Nodes::new(link.clone(), me.clone(), lease));
        // Events of Node.js servers are in no log: beside such servers clients come back to the same node only.
        let recovery = recovery.filter(|_| !has_bridge);
        let keep = recovery.as_ref().map(|recovery| recovery.keep);
        let log = recovery.map(|recovery| Log::new(link.clone(), me.clone(), recovery.keep, recovery.bytes));
        let (relay, parcels) = Relay::new(link.clone(), nodes.clone(), log);
        let sockets = keep.map(|keep| Arc::new(Sockets::new(relay.clone(), &me, keep)));
        let logs = keep.map(|keep| Arc::new(Logs::new(link.clone(), keep)));
        let (room_counts, entries) = RoomCounts::new(link.clone(), me.clone());
        let bridged = has_bridge.then(|| Bridge::new(bridge.clone(), link.clone(), &nodes.me));
        let (bridge, bridged) = bridged.unzip();
        let subscriptions = Arc::new(Subscriptions::new(link.clone(), bridge.as_ref().map(|bridge| bridge.pattern())));
        let peers = Arc::new(Peers { link: link.clone(), relay, subscriptions, room_counts, bridge, sockets });
        let (presence_store, buckets) = (PresenceStore::new(link.clone(), me), Buckets::new(link.clone()));
        let progress = Progress::new(link.clone());
        let node_status = NodeStatus::new(link.clone(), nodes.clone());
        let cluster = Self { link, nodes, peers, presence_store, buckets, progress, node_status, logs };
        Ok(Some((Arc::new(cluster), Queues { parcels, entries, bridged })))
    }

    /// Leaves the cluster. Room counts are removed at once; presence is kept for the grace period, so that users can reconnect
    /// to another node.
    pub async fn leave(&self, grace: Duration) {
        let left = async {
            self.peers.room_counts.forget(&self.nodes.me).await?;
            self.node_status.forget(&self.nodes.me).await?;
            self.nodes.give_up(nodes::INGEST).await?;
            self.nodes.leave(grace).await
        };
        if left.await.is_err() {
            tracing::warn!("Redis is unavailable, so the other nodes notice this node's stop only when its lease ends");
        }
    }

    /// Starts the tasks that run beside the rooms.
    pub fn start(&self, queues: Queues, rooms: &Arc<Rooms>, tasks: &mut JoinSet<()>) {
        let Peers { relay, subscriptions, room_counts, bridge, sockets, .. } = &*self.peers;
        let repair = self.logs.clone().zip(sockets.clone()).map(|(logs, sockets)| {
            let (link, subscriptions, me) = (self.link.clone(), subscriptions.clone(), self.nodes.me.clone());
            Repair { link, subscriptions, logs, sockets, me }
        });
        tasks.spawn(relay.clone().receive(rooms.clone(), repair));
        tasks.spawn(relay.clone().send(queues.parcels));
        if let (Some(bridge), Some(parcels)) = (bridge, queues.bridged) {
            tasks.spawn(bridge::receiver::run(bridge.clone(), rooms.clone()));
            tasks.spawn(bridge.clone().send(parcels));
        }
        subscriptions.set(relay::event::notice_channel(&self.link), true);
        if let Some(sockets) = sockets {
            tasks.spawn(sockets.clone().rewrite_after_outage());
            subscriptions.set(relay::event::taken_channel(&self.link, &self.nodes.me), true);
        }
        tasks.spawn(subscriptions.clone().run());
        tasks.spawn(room_counts.clone().run(queues.entries, rooms.clone()));
        tasks.spawn(room_counts.clone().rewrite_after_outage());
        tasks.spawn(self.link.clone().run());
    }
}
