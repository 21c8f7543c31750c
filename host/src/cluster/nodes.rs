//! The nodes of the cluster: who shows signs of life, who does what one node does for all, and who has been silent for so long that
//! what it said of itself no longer counts. Times are Redis's own: nodes' clocks may differ. A step of
//! Redis's clock ends no lease.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use fred::interfaces::{HashesInterface, KeysInterface, SortedSetsInterface};
use fred::types::scripts::Script;
use sha2::{Digest, Sha256};

use super::redis::{Redis, RedisUnavailable};
use crate::clock::Clock;

/// How long one node has to clear up after a dead one before another may.
const REAP: Duration = Duration::from_secs(30);

/// Shows a sign of life. Answers whether the node was known, who is alive, and who is dead.
///
/// Redis has only a wall clock, which may be set. So each node sends its own monotonic time, and `KEYS[3]` keeps the last one of each
/// node. If Redis's clock and the node's have advanced by amounts that differ by more than the nodes' timeout, Redis's clock was set:
/// `KEYS[2]` keeps by how much, and every script subtracts it.
static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local time = redis.call('TIME')
         local set = tonumber(redis.call('GET', KEYS[2]) or '0')
         local now = time[1] * 1000 + math.floor(time[2] / 1000) - set
         local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
         local own = redis.call('HGET', KEYS[3], ARGV[1])
         if known and own then
           local apart = (now - known) - (ARGV[4] - own)
           if apart > tonumber(ARGV[2]) or apart < -tonumber(ARGV[2]) then
             redis.call('SET', KEYS[2], string.format('%d', set + apart))
             now = now - apart
           end
         end
         redis.call('ZADD', KEYS[1], now, ARGV[1])
         redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
         return {known and 1 or 0,
           redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[2], '+inf'),
           redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])}",
    )
});

/// Leaves: silent since so long ago that the lease ends when the grace period does.
static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(redis.call('GET', KEYS[2]) or '0')
         redis.call('ZADD', KEYS[1], now - ARGV[2], ARGV[1])
         redis.call('HDEL', KEYS[3], ARGV[1])
         return 1",
    )
});

/// Claims something for a while unless another node holds it. A claim with more time left than any claim has was made before
/// Redis's clock was set back, and is free.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local left = redis.call('PTTL', KEYS[1])
         if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return 1",
    )
});

/// Holds something unless another node does. As with a claim, too much time left means that Redis's clock was set back.
static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local holder = redis.call('GET', KEYS[1])
         if holder and holder ~= ARGV[1] and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return 1",
    )
});

/// Lets go of it.
static LET_GO: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

/// What the node holds that listens to channels for all.
pub const INGEST: &str = "ingest";

/// The nodes, as this one knows them.
pub struct Nodes {
    link: Arc<Redis>,
    /// This node's name.
    pub me: String,
    /// Who is alive, this node among them, in the order of their names. While Redis is away: as it was last.
    live: ArcSwap<Vec<String>>,
    lease: Duration,
    clock: Clock,
}

/// What a sign of life was answered with.
pub struct Heartbeat {
    /// Nodes whose lease has ended.
    pub dead: Vec<String>,
    /// Whether the nodes alive are others than before.
    pub changed: bool,
}

impl Nodes {
    pub fn new(link: Arc<Redis>, me: String, lease: Duration) -> Self {
        let live = ArcSwap::from_pointee(vec![me.clone()]);
        Self { link, me, live, lease, clock: Clock::system() }
    }

    /// Who is alive.
    pub fn live(&self) -> Arc<Vec<String>> {
        self.live.load_full()
    }

    /// Whether anybody else is there to be told.
    pub fn has_others(&self) -> bool {
        self.live.load().len() > 1
    }

    /// Whether this node is the one that does a thing for all. While nodes come or go two may believe so: what they do must be
    /// such that the second is found out.
    pub fn is_mine(&self, thing: &str) -> bool {
        let rank = |node: &String| Sha256::new().chain_update(node).chain_update([0]).chain_update(thing).finalize();
        self.live.load().iter().max_by_key(|node| rank(node)).is_none_or(|node| *node == self.me)
    }

    /// Shows a sign of life.
    pub async fn heartbeat(&self) -> Result<Heartbeat, RedisUnavailable> {
        let (timeout, lease) = (self.link.config.node_timeout.as_millis() as u64, self.lease.as_millis() as u64);
        let own = self.clock.steady_ms().to_string();
        let args = vec![self.me.clone(), timeout.to_string(), lease.max(timeout).to_string(), own];
        // Not through `eval`: this is what finds out whether Redis answers.
        let answer = BEAT.evalsha_with_reload(&self.link.client, self.keys(), args).await;
        let (known, mut live, mut dead): (bool, Vec<String>, Vec<String>) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.link.lost();
                return Err(error.into());
            }
        };
        if !known {
            self.link.lost();
        }
        self.link.found();
        live.sort_unstable();
        dead.retain(|node| *node != self.me);
        let changed = **self.live.load() != live;
        if changed {
            tracing::info!(nodes = live.len(), "the cluster is {}", live.join(", "));
            self.live.store(Arc::new(live));
        }
        Ok(Heartbeat { dead, changed })
    }

    /// Whether this node is the one to clear up after a dead one.
    pub async fn may_reap(&self, dead: &str) -> Result<bool, RedisUnavailable> {
        self.claim(&format!("reap:{dead}"), REAP).await
    }

    /// Forgets a dead node, when all it said of itself is gone.
    pub async fn forget(&self, dead: &str) -> Result<(), RedisUnavailable> {
        let [nodes, _, own] = self.key_names();
        self.link.client.hdel::<(), _, _>(own, dead).await?;
        Ok(self.link.client.zrem::<(), _, _>(nodes, dead).await?)
    }

    /// Claims something for a while. One node at a time has it; it is free again by itself.
    pub async fn claim(&self, what: &str, time: Duration) -> Result<bool, RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        self.link.eval(&CLAIM, vec![key], vec![self.me.clone(), time.as_millis().to_string()]).await
    }

    /// Holds something until so long from now, if nobody else does. Whoever holds it asks again before that.
    pub async fn hold(&self, what: &str, time: Duration) -> Result<bool, RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        self.link.eval(&HOLD, vec![key], vec![self.me.clone(), time.as_millis().to_string()]).await
    }

    /// Lets go of what this node holds, if it does.
    pub async fn let_go(&self, what: &str) -> Result<(), RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        self.link.eval(&LET_GO, vec![key], vec![self.me.clone()]).await
    }

    /// Frees what was claimed.
    pub async fn release(&self, what: &str) -> Result<(), RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        Ok(self.link.client.del::<(), _>(key).await?)
    }

    /// Leaves, for what it said of itself to be believed for `grace` longer.
    pub async fn leave(&self, grace: Duration) -> Result<(), RedisUnavailable> {
        let ago = self.lease.saturating_sub(grace).max(self.link.config.node_timeout * 2);
        self.link.eval(&LEAVE, self.keys(), vec![self.me.clone(), ago.as_millis().to_string()]).await
    }

    fn keys(&self) -> Vec<String> {
        self.key_names().into()
    }

    /// The nodes' signs of life, how far Redis's clock was set, and the nodes' own times.
    fn key_names(&self) -> [String; 3] {
        ["nodes", "nodes:set", "nodes:own"].map(|name| self.link.name(format_args!("{name}")))
    }
}
