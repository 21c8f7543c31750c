//! The logs of all nodes as this node has read them, to find what a client has missed that comes back here. Read only when a client
//! comes back, and then from where the last reading ended.

pub mod read;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fred::interfaces::{HashesInterface, StreamsInterface};
use fred::types::Value;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use tokio::sync::{Mutex, MutexGuard};

use super::log::Keys;
use super::redis::{Redis, RedisUnavailable};
use super::sockets::State;
use read::Read;

/// Entries that are read together.
const BATCH: u64 = 1000;

/// The nodes with a log, and Redis's time in milliseconds. Removes those whose logs are gone.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local time = redis.call('TIME')
         local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
         return {now, redis.call('ZRANGE', KEYS[1], 0, -1)}",
    )
});

/// Moves a socket from one node to another one, or claims it for the same one, if its state is still that one. `ARGV`: its name, how long
/// to keep it (ms), the state, the next state. Returns whether it has, and the state that it found.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local state = redis.call('HGET', KEYS[1], ARGV[1])
         if state ~= ARGV[3] then return {0, state or ''} end
         redis.call('HDEL', KEYS[1], ARGV[1])
         redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
         redis.call('PEXPIRE', KEYS[2], ARGV[2])
         return {1, state}",
    )
});

/// Attempts to take a socket whose rooms change at the same time.
const ATTEMPTS: usize = 8;

/// The time without a client that comes back after which the copy of the logs is dropped.
const UNUSED: Duration = Duration::from_secs(60);

/// The reading side.
pub struct Logs {
    link: Arc<Redis>,
    keys: Keys,
    /// How long events are kept.
    pub keep: Duration,
    read: Mutex<Read>,
    /// How many have asked for a reading.
    asked: AtomicU64,
}

impl Logs {
    pub fn new(link: Arc<Redis>, keep: Duration) -> Self {
        Self { keys: Keys::new(link.clone()), link, keep, read: Mutex::default(), asked: AtomicU64::new(0) }
    }

    /// The state of a socket in any node's log, with the node.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn find(&self, private: &str) -> Result<Option<(String, State)>, RedisUnavailable> {
        let nodes = self.list().await?.1;
        let states =
            join_all(nodes.iter().map(|node| self.link.client.hget::<Option<Bytes>, _, _>(self.keys.sockets(node), private)))
                .await;
        let mut found: Option<(String, State)> = None;
        for (node, bytes) in nodes.into_iter().zip(states) {
            let state = bytes?.and_then(|bytes| State::decode(&bytes));
            if let Some(state) = state.filter(|state| found.as_ref().is_none_or(|(_, other)| other.is_before(state))) {
                found = Some((node, state));
            }
        }
        Ok(found)
    }

    /// Takes a socket from a node for this or another one, and returns its newest state. Of two that do it at the same time, one succeeds.
    /// None: it is not there any more.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn take(&self, from: &str, to: &str, private: &str, found: State) -> Result<Option<State>, RedisUnavailable> {
        let (claims, mut state) = (found.claims, found);
        for _ in 0..ATTEMPTS {
            let next = state.claimed(claims + 1);
            let keys = vec![self.keys.sockets(from), self.keys.sockets(to)];
            let args: Vec<Value> = vec![
                private.into(),
                (self.keep.as_millis() as i64 * 2).into(),
                Value::Bytes(state.encode().into()),
                Value::Bytes(next.encode().into()),
            ];
            let (has, now): (i64, Bytes) = self.link.eval(&TAKE, keys, args).await?;
            if has == 1 {
                return Ok(Some(next));
            }
            match State::decode(&now).filter(|now| now.claims == claims) {
                Some(now) => state = now,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Removes a socket of a node. Of two that do it at the same time, one succeeds.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn remove(&self, node: &str, private: &str) -> Result<bool, RedisUnavailable> {
        Ok(self.link.client.hdel::<i64, _, _>(self.keys.sockets(node), private).await? > 0)
    }

    /// The nodes with a log, also those that have ended.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn nodes(&self) -> Result<Vec<String>, RedisUnavailable> {
        Ok(self.list().await?.1)
    }

    /// The private ids of a node's sockets.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn sockets(&self, node: &str) -> Result<Vec<String>, RedisUnavailable> {
        Ok(self.link.client.hkeys(self.keys.sockets(node)).await?)
    }

    /// Reads all logs to their ends. One reading serves all who ask while another one runs.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn read(&self) -> Result<MutexGuard<'_, Read>, RedisUnavailable> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut read = self.read.lock().await;
        if read.covers >= asked {
            return Ok(read);
        }
        let covers = self.asked.load(Ordering::Relaxed);
        let (now_ms, nodes) = self.list().await?;
        read.keep(&nodes);
        let oldest = now_ms.saturating_sub(self.keep.as_millis() as u64) * 1000;
        for node in nodes {
            let (stream, log) = (self.keys.stream(&node), read.log_of(&node));
            loop {
                let from = format!("({}", log.last);
                let entries: Vec<(String, read::Fields)> =
                    self.link.client.xrange_values(&stream, from, "+", Some(BATCH)).await?;
                let count = entries.len() as u64;
                for (id, fields) in entries {
                    log.push(&fields);
                    log.last = id;
                }
                if count < BATCH {
                    break;
                }
            }
            log.trim(oldest);
        }
        (read.covers, read.at) = (covers, Some(Instant::now()));
        Ok(read)
    }

    /// Drops the copy of the logs if no client comes back any more.
    pub fn drop_unused(&self) {
        if let Ok(mut read) = self.read.try_lock()
            && read.at.is_some_and(|at| at.elapsed() > UNUSED)
        {
            *read = Read::default();
        }
    }

    async fn list(&self) -> Result<(u64, Vec<String>), RedisUnavailable> {
        let (now, nodes): (String, Vec<String>) = self.link.eval(&LIST, self.keys.logs(), Vec::<String>::new()).await?;
        Ok((now.parse().unwrap_or_default(), nodes))
    }
}
