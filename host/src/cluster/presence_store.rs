//! Cluster-wide presence, merged from every node's status per key. The script that changes a node's status also returns the change
//! of the merged status, so each change is reported to exactly one node, once. The meaning of groups and keys is the callers'.

use std::sync::{Arc, LazyLock};

use fred::interfaces::{HashesInterface, SetsInterface};
use fred::types::scripts::Script;
use futures_util::future::join_all;

use super::redis::{Redis, RedisUnavailable};

/// Statuses published together.
const BATCH: usize = 256;

/// Marks the status of a key that waits for a reconnect.
const WAITS: &str = " waits";

/// Publishes a node's status of a key. `KEYS`: the merged statuses of the group, its keys in order, the nodes' statuses of the key,
/// all keys that the node has published. Returns the old and the new merged status if they differ.
///
/// A node on which all connections of a key broke writes `online waits`. The next node that reports the key for the first time has
/// received the reconnect: it replaces the other node's status by `taken`, which does not count. Without this, a clean disconnect
/// from the second node would not be the last one.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local merged, order, statuses, mine = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
         local node, group, key, status, meta, since, believed = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
         local waits = ARGV[8]
         if status == '' then redis.call('HDEL', statuses, node) redis.call('SREM', mine, group .. '\\t' .. key)
         else
           local taken = redis.call('HGET', statuses, node) == 'taken'
           if taken then believed = '' end
           if believed == '' and waits == '' then
             local others = redis.call('HGETALL', statuses)
             for i = 1, #others, 2 do
               if others[i] ~= node and string.match(others[i + 1], ' waits$') then
                 redis.call('HSET', statuses, others[i], 'taken')
                 break
               end
             end
           end
           if waits == '' or not taken then redis.call('HSET', statuses, node, status .. waits) end
           redis.call('SADD', mine, group .. '\\t' .. key)
         end
         local now = ''
         for _, other in ipairs(redis.call('HVALS', statuses)) do
           local each = string.match(other, '^%l+')
           if each == 'online' then now = 'online' elseif now == '' and each ~= 'taken' then now = each end
         end
         local old = redis.call('HGET', merged, key)
         local was, at, old_meta
         if old then was, at, old_meta = string.match(old, '^(%l+) (%d+) (.*)$')
         else was, at, old_meta = believed, since, meta end
         if status == '' or meta == '' then meta = old_meta end
         if now == '' then redis.call('HDEL', merged, key) redis.call('ZREM', order, key)
         else
           if now ~= was then at = since end
           redis.call('HSET', merged, key, now .. ' ' .. at .. ' ' .. meta)
           redis.call('ZADD', order, 0, key)
         end
         if now == was then return {} end
         return {was, now, meta}",
    )
});

/// Keys of a group after one, in order, with the merged status of each.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local after = '-'
         if ARGV[1] ~= '' then after = '(' .. ARGV[1] end
         local answer = {}
         for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], after, '+', 'LIMIT', 0, ARGV[2])) do
           local merged = redis.call('HGET', KEYS[1], key)
           if merged then answer[#answer + 1] = key answer[#answer + 1] = merged end
         end
         return answer",
    )
});

/// The statuses of all nodes.
pub struct PresenceStore {
    link: Arc<Redis>,
    me: String,
}

/// This node's status of a key in a group: `online`, `away`, or empty for none.
#[derive(Debug, Clone)]
pub struct PresenceStatement {
    pub group: String,
    pub key: String,
    pub status: &'static str,
    /// The last merged status that this node has seen, for a Redis that has lost it.
    pub believed: &'static str,
    pub meta: String,
    /// All connections of the key to this node broke, so it waits for a reconnect.
    pub waits: bool,
    pub now_ms: u64,
}

/// A change of a key's merged status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    pub group: String,
    pub key: String,
    pub from: &'static str,
    pub to: &'static str,
    pub meta: String,
}

/// A key with its merged status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub status: &'static str,
    pub since_ms: u64,
    pub meta: String,
}

impl PresenceStore {
    pub fn new(link: Arc<Redis>, me: String) -> Self {
        Self { link, me }
    }

    /// Publishes this node's status of a key. Returns the change of the merged status, if any.
    pub async fn publish(&self, statement: &PresenceStatement) -> Result<Option<StatusChange>, RedisUnavailable> {
        self.publish_for(&self.me, statement).await
    }

    async fn publish_for(&self, node: &str, statement: &PresenceStatement) -> Result<Option<StatusChange>, RedisUnavailable> {
        let PresenceStatement { group, key, status, believed, meta, waits, now_ms } = statement;
        let keys = vec![
            self.merged(group),
            self.order(group),
            self.link.name(format_args!("said:{group}\t{key}")),
            self.link.name(format_args!("says:{node}")),
        ];
        let args = vec![
            node.to_owned(),
            group.clone(),
            key.clone(),
            (*status).to_owned(),
            meta.clone(),
            now_ms.to_string(),
            (*believed).to_owned(),
            if *waits { WAITS } else { "" }.to_owned(),
        ];
        let changed: Vec<String> = self.link.eval(&PUBLISH, keys, args).await?;
        let [from, to, meta] = changed.as_slice() else { return Ok(None) };
        let (from, to, meta) = (status_of(from), status_of(to), meta.clone());
        Ok(Some(StatusChange { group: group.clone(), key: key.clone(), from, to, meta }))
    }

    /// The groups and keys that a node has published.
    pub async fn published_by(&self, node: &str) -> Result<Vec<(String, String)>, RedisUnavailable> {
        let key = self.link.name(format_args!("says:{node}"));
        let published: Vec<String> = self.link.client.smembers(key).await?;
        let parts = |id: &String| id.rsplit_once('\t').map(|(group, key)| (group.to_owned(), key.to_owned()));
        Ok(published.iter().filter_map(parts).collect())
    }

    /// Removes a node's status of these keys. Returns the changes of the merged statuses.
    pub async fn retract(
        &self,
        node: &str,
        published: Vec<(String, String)>,
        now_ms: u64,
    ) -> Result<Vec<StatusChange>, RedisUnavailable> {
        let nothing =
            |(group, key)| PresenceStatement { group, key, status: "", believed: "", meta: String::new(), waits: false, now_ms };
        let statements: Vec<_> = published.into_iter().map(nothing).collect();
        let mut changes = Vec::new();
        for statements in statements.chunks(BATCH) {
            for changed in join_all(statements.iter().map(|statement| self.publish_for(node, statement))).await {
                changes.extend(changed?);
            }
        }
        Ok(changes)
    }

    /// At most `limit` keys after `after`, in order.
    pub async fn list(&self, group: &str, after: &str, limit: usize) -> Result<Vec<Entry>, RedisUnavailable> {
        let keys = vec![self.merged(group), self.order(group)];
        let listed: Vec<String> = self.link.eval(&LIST, keys, vec![after.to_owned(), limit.to_string()]).await?;
        let entry = |pair: &[String]| {
            let [key, merged] = pair else { return None };
            let mut parts = merged.splitn(3, ' ');
            let (status, since, meta) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Entry { key: key.clone(), status: status_of(status), since_ms: since.parse().ok()?, meta: meta.to_owned() })
        };
        Ok(listed.chunks(2).filter_map(entry).collect())
    }

    /// The number of keys in a group.
    pub async fn count(&self, group: &str) -> Result<u64, RedisUnavailable> {
        if !self.link.is_up() {
            return Err(RedisUnavailable::new("the connection is down"));
        }
        Ok(self.link.client.hlen(self.merged(group)).await?)
    }

    fn merged(&self, group: &str) -> String {
        self.link.name(format_args!("told:{group}"))
    }

    fn order(&self, group: &str) -> String {
        self.link.name(format_args!("keys:{group}"))
    }
}

fn status_of(status: &str) -> &'static str {
    match status {
        "online" => "online",
        "away" => "away",
        _ => "",
    }
}
