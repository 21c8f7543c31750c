//! How far each plugin has read the bus, reported by the node that handles its messages. It only decides which rows can be deleted.

use std::collections::HashMap;
use std::sync::Arc;

use fred::interfaces::HashesInterface;
use parking_lot::Mutex;

use super::redis::{Redis, RedisUnavailable};

/// The progress of all plugins.
pub struct Progress {
    link: Arc<Redis>,
    /// The last reports, by plugin.
    told: Mutex<HashMap<String, u64>>,
}

impl Progress {
    pub fn new(link: Arc<Redis>) -> Self {
        Self { link, told: Mutex::default() }
    }

    /// Reports how far the plugins of this node have read. Returns the least progress of all plugins; none if one has not reported.
    pub async fn share(&self, mine: Vec<(String, u64)>, all: &[String]) -> Result<Option<u64>, RedisUnavailable> {
        if !self.link.is_up() {
            return Err(RedisUnavailable::new("the connection is down"));
        }
        let key = self.link.name(format_args!("progress"));
        if !mine.is_empty() {
            let fields: Vec<_> = mine.into_iter().map(|(plugin, done)| (plugin, done.to_string())).collect();
            self.link.client.hset::<(), _, _>(&key, fields).await?;
        }
        let told: HashMap<String, u64> = self.link.client.hgetall(&key).await?;
        let least = all
            .iter()
            .map(|plugin| told.get(plugin).copied())
            .collect::<Option<Vec<_>>>()
            .and_then(|done| done.into_iter().min());
        *self.told.lock() = told;
        Ok(least)
    }

    /// Removes the progress of these plugins: no row is deleted before their nodes report again.
    pub async fn forget(&self, plugins: Vec<String>) -> Result<(), RedisUnavailable> {
        if !self.link.is_up() || plugins.is_empty() {
            return Ok(());
        }
        Ok(self.link.client.hdel::<(), _, _>(self.link.name(format_args!("progress")), plugins).await?)
    }

    /// A plugin's progress in the last reports, which are a second old while Redis is available.
    pub fn last_told(&self, plugin: &str) -> Option<u64> {
        self.told.lock().get(plugin).copied()
    }
}
