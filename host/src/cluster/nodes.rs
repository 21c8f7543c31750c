//! The nodes of the cluster: which are alive, which one does a piece of work for all, and which have been silent for longer than
//! their lease, so that their state is removed. Times are Redis's, because nodes' clocks may differ. A step of Redis's clock ends
//! no lease.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use fred::interfaces::{HashesInterface, KeysInterface, SortedSetsInterface};
use fred::types::scripts::Script;
use sha2::{Digest, Sha256};

use super::redis::{Redis, RedisUnavailable};
use crate::clock::Clock;

/// How long one node has to clean up after a dead one before another node may.
const REAP: Duration = Duration::from_secs(30);

/// Records a heartbeat. Returns whether the node was listed, the nodes alive, and the dead nodes.
///
/// Redis has only a wall clock, which may be set. So each node sends its own monotonic time, and `KEYS[3]` stores the last one of
/// each node. If Redis's clock and the node's have advanced by amounts that differ by more than the nodes' timeout, Redis's clock
/// was set: `KEYS[2]` stores the difference, and every script subtracts it.
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

/// Leaves: backdates the node's last heartbeat so that its lease ends with the grace period.
static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(redis.call('GET', KEYS[2]) or '0')
         redis.call('ZADD', KEYS[1], now - ARGV[2], ARGV[1])
         redis.call('HDEL', KEYS[3], ARGV[1])
         return 1",
    )
});

/// Claims a name for a while unless another node holds it. A claim with more time left than any claim is given was made before
/// Redis's clock was set back, and counts as expired.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local left = redis.call('PTTL', KEYS[1])
         if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return 1",
    )
});

/// Acquires or renews a lease on a name unless another node holds it. As with a claim, too much time left means that Redis's clock
/// was set back.
static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local holder = redis.call('GET', KEYS[1])
         if holder and holder ~= ARGV[1] and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return 1",
    )
});

/// Gives up a lease, if this node holds it.
static GIVE_UP: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

/// The lease of the node that subscribes to external channels for the cluster.
pub const INGEST: &str = "ingest";

/// The cluster's nodes, as of this node's last heartbeat.
pub struct Nodes {
    link: Arc<Redis>,
    /// This node's name.
    pub me: String,
    /// The nodes alive, this one included, sorted by name. Not updated while Redis is unavailable.
    live: ArcSwap<Vec<String>>,
    lease: Duration,
    clock: Clock,
}

/// The result of a heartbeat.
pub struct Heartbeat {
    /// Nodes with an expired lease.
    pub dead: Vec<String>,
    /// Whether the set of live nodes has changed.
    pub changed: bool,
}

impl Nodes {
    pub fn new(link: Arc<Redis>, me: String, lease: Duration) -> Self {
        let live = ArcSwap::from_pointee(vec![me.clone()]);
        Self { link, me, live, lease, clock: Clock::system() }
    }

    /// The nodes alive, this one included.
    pub fn live(&self) -> Arc<Vec<String>> {
        self.live.load_full()
    }

    /// Whether the cluster has other live nodes.
    pub fn has_others(&self) -> bool {
        self.live.load().len() > 1
    }

    /// Whether this node does a thing for all nodes, by rendezvous hashing: a node that joins or leaves moves only its own share.
    /// Meanwhile two nodes may get `true`, so the work itself must detect a second worker.
    pub fn is_mine(&self, thing: &str) -> bool {
        let rank = |node: &String| Sha256::new().chain_update(node).chain_update([0]).chain_update(thing).finalize();
        self.live.load().iter().max_by_key(|node| rank(node)).is_none_or(|node| *node == self.me)
    }

    /// Sends a heartbeat.
    pub async fn heartbeat(&self) -> Result<Heartbeat, RedisUnavailable> {
        let (timeout, lease) = (self.link.config.node_timeout.as_millis() as u64, self.lease.as_millis() as u64);
        let own = self.clock.steady_ms().to_string();
        let args = vec![self.me.clone(), timeout.to_string(), lease.max(timeout).to_string(), own];
        // Not through `eval`, which fails while Redis counts as down: the heartbeat detects that it is up again.
        let answer = BEAT.evalsha_with_reload(&self.link.client, self.keys(), args).await;
        let (known, mut live, mut dead): (bool, Vec<String>, Vec<String>) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.link.mark_down();
                return Err(error.into());
            }
        };
        if !known {
            self.link.mark_down();
        }
        self.link.mark_up();
        live.sort_unstable();
        dead.retain(|node| *node != self.me);
        let changed = **self.live.load() != live;
        if changed {
            tracing::info!(nodes = live.len(), "the nodes of the cluster are {}", live.join(", "));
            self.live.store(Arc::new(live));
        }
        Ok(Heartbeat { dead, changed })
    }

    /// Whether this node may clean up after a dead one.
    pub async fn may_reap(&self, dead: &str) -> Result<bool, RedisUnavailable> {
        self.claim(&format!("reap:{dead}"), REAP).await
    }

    /// Removes a dead node from the list, after its state.
    pub async fn forget(&self, dead: &str) -> Result<(), RedisUnavailable> {
        let [nodes, _, own] = self.key_names();
        self.link.client.hdel::<(), _, _>(own, dead).await?;
        Ok(self.link.client.zrem::<(), _, _>(nodes, dead).await?)
    }

    /// Claims a name for a while. One node at a time has it; the claim expires by itself.
    pub async fn claim(&self, what: &str, time: Duration) -> Result<bool, RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        self.link.eval(&CLAIM, vec![key], vec![self.me.clone(), time.as_millis().to_string()]).await
    }

    /// Acquires or renews a lease that expires after `time`, unless another node holds it. The holder must renew it before that.
    pub async fn hold(&self, what: &str, time: Duration) -> Result<bool, RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        self.link.eval(&HOLD, vec![key], vec![self.me.clone(), time.as_millis().to_string()]).await
    }

    /// Gives up a lease, if this node holds it.
    pub async fn give_up(&self, what: &str) -> Result<(), RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        self.link.eval(&GIVE_UP, vec![key], vec![self.me.clone()]).await
    }

    /// Removes a claim.
    pub async fn release(&self, what: &str) -> Result<(), RedisUnavailable> {
        let key = self.link.name(format_args!("claim:{what}"));
        Ok(self.link.client.del::<(), _>(key).await?)
    }

    /// Leaves the cluster. This node's presence stays valid for `grace`.
    pub async fn leave(&self, grace: Duration) -> Result<(), RedisUnavailable> {
        let ago = self.lease.saturating_sub(grace).max(self.link.config.node_timeout * 2);
        self.link.eval(&LEAVE, self.keys(), vec![self.me.clone(), ago.as_millis().to_string()]).await
    }

    fn keys(&self) -> Vec<String> {
        self.key_names().into()
    }

    /// The keys of the last heartbeats, of the correction of Redis's clock, and of the nodes' own times.
    fn key_names(&self) -> [String; 3] {
        ["nodes", "nodes:set", "nodes:own"].map(|name| self.link.name(format_args!("{name}")))
    }
}
