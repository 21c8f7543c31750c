//! How far each plugin has come in the bus, told by the node that handles its messages. It only decides which rows nobody needs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fred::interfaces::HashesInterface;

use super::redis::{Redis, RedisUnavailable};

/// Everyone's progress.
pub struct Progress {
    link: Arc<Redis>,
    /// As all told it last.
    told: Mutex<HashMap<String, u64>>,
}

impl Progress {
    pub fn new(link: Arc<Redis>) -> Self {
        Self { link, told: Mutex::default() }
    }

    /// Tells how far the plugins of this node have come. Answers how far all have; none where that of one is not known.
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
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
        Ok(least)
    }

    /// Forgets how far these plugins have come: no row is removed before their nodes tell it anew.
    pub async fn forget(&self, plugins: Vec<String>) -> Result<(), RedisUnavailable> {
        if !self.link.is_up() || plugins.is_empty() {
            return Ok(());
        }
        Ok(self.link.client.hdel::<(), _, _>(self.link.name(format_args!("progress")), plugins).await?)
    }

    /// How far a plugin had come when the nodes last told: a second ago, while Redis is there.
    pub fn last_told(&self, plugin: &str) -> Option<u64> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(plugin).copied()
    }
}
