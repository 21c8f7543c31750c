//! Several nodes that share one Redis and one PostgreSQL. Must never outlive its value.

use std::net::SocketAddr;

use crate::postgres::Postgres;
use crate::redis::Redis;
use crate::server::{Builder, Server};

/// The nodes in the order of their start, and the servers that they share.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Server>,
    pub redis: Redis,
    /// The database's url.
    pub database: String,
}

impl Cluster {
    /// Starts this many nodes of `hubbub dev` with its defaults.
    pub async fn of(nodes: usize) -> Self {
        Self::with(nodes, |node| node).await
    }

    /// Starts this many nodes, each configured by `make`.
    pub async fn with(nodes: usize, make: impl Fn(Builder) -> Builder) -> Self {
        let (redis, database) = (Redis::start().await, Postgres::shared().await.empty().await);
        let mut cluster = Self { nodes: Vec::new(), redis, database };
        for _ in 0..nodes {
            let node = cluster.node(make(Server::dev())).await;
            cluster.nodes.push(node);
        }
        cluster.settled(nodes).await;
        cluster
    }

    /// Starts one more node, which is not added to `nodes`.
    pub async fn node(&self, builder: Builder) -> Server {
        self.node_over(builder, self.redis.address()).await
    }

    /// Starts one more node, which uses this address of Redis and is not added to `nodes`.
    pub async fn node_over(&self, builder: Builder, redis: SocketAddr) -> Server {
        builder.env("REDIS_URL", &format!("redis://{redis}")).env("DATABASE_URL", &self.database).start().await
    }

    /// Waits until every node sees this many nodes.
    pub async fn settled(&self, nodes: usize) {
        for node in &self.nodes {
            node.sees_nodes(nodes).await;
        }
    }
}
