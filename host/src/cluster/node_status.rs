//! The status that each node publishes for operators, as one text. It is read from Redis without asking the other nodes, so that a
//! silent node is listed with its last status.

use std::collections::BTreeMap;
use std::sync::Arc;

use fred::interfaces::HashesInterface;

use super::nodes::Nodes;
use super::redis::{Redis, RedisUnavailable};

/// The status texts of all nodes.
pub struct NodeStatus {
    link: Arc<Redis>,
    nodes: Arc<Nodes>,
}

/// A node and its last status.
#[derive(Debug, Clone)]
pub struct Posted {
    pub node: String,
    /// It sends no heartbeats, so the text may be old.
    pub is_silent: bool,
    pub text: String,
}

impl NodeStatus {
    pub fn new(link: Arc<Redis>, nodes: Arc<Nodes>) -> Self {
        Self { link, nodes }
    }

    /// Publishes this node's text and returns the texts of all nodes, sorted by the nodes' names.
    pub async fn post(&self, text: String) -> Result<Vec<Posted>, RedisUnavailable> {
        if !self.link.is_up() {
            return Err(RedisUnavailable::new("the connection is down"));
        }
        let key = self.key();
        self.link.client.hset::<(), _, _>(&key, (self.nodes.me.clone(), text)).await?;
        let posted: BTreeMap<String, String> = self.link.client.hgetall(&key).await?;
        let live = self.nodes.live();
        Ok(posted.into_iter().map(|(node, text)| Posted { is_silent: !live.contains(&node), node, text }).collect())
    }

    /// Removes the text of a node that has left.
    pub async fn forget(&self, node: &str) -> Result<(), RedisUnavailable> {
        let key = self.key();
        Ok(self.link.client.hdel::<(), _, _>(&key, node).await?)
    }

    fn key(&self) -> String {
        self.link.name(format_args!("board"))
    }
}
