//! What each node says of itself for operators, a text a node. Reading it waits for no other node: who is silent is shown as he was
//! last.

use std::collections::BTreeMap;
use std::sync::Arc;

use fred::interfaces::HashesInterface;

use super::nodes::Nodes;
use super::redis::{Redis, RedisUnavailable};

/// The texts of all nodes.
pub struct NodeStatus {
    link: Arc<Redis>,
    nodes: Arc<Nodes>,
}

/// A node, as it was last.
#[derive(Debug, Clone)]
pub struct Posted {
    pub node: String,
    /// It shows no sign of life: it was so a while ago.
    pub is_silent: bool,
    pub text: String,
}

impl NodeStatus {
    pub fn new(link: Arc<Redis>, nodes: Arc<Nodes>) -> Self {
        Self { link, nodes }
    }

    /// Posts this node's text, and reads everyone's, in the order of the nodes' names.
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

    /// Takes away what a node posted that has gone.
    pub async fn forget(&self, node: &str) -> Result<(), RedisUnavailable> {
        let key = self.key();
        Ok(self.link.client.hdel::<(), _, _>(&key, node).await?)
    }

    fn key(&self) -> String {
        self.link.name(format_args!("board"))
    }
}
