//! Who is there over all nodes, by what each node says of a key. The one step that changes what the nodes say together also tells
//! that it has changed: each change is told to one node, once. What a key or a group means is not for it to know.

use std::sync::{Arc, LazyLock};

use fred::interfaces::{HashesInterface, SetsInterface};
use fred::types::scripts::Script;
use futures_util::future::join_all;

use super::redis::{Redis, RedisUnavailable};

/// Statements made together.
const BATCH: usize = 256;

/// Marks the status of a key that waits for a reconnect.
const WAITS: &str = " waits";

/// Says what a node says of a key. `KEYS`: what was told of the group, its keys in order, what the nodes say of the key, what the
/// node says at all. Answers what it was and what it is, where that is not the same.
///
/// A node whose connections of a key all broke writes `online waits`. The next node that reports the key for the first time has
/// received the reconnect: it replaces the other node's status by `taken`, which does not count. Without this, a clean disconnect from
/// the second node would not be the last one.
static SAY: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local told, order, said, mine = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
         local node, group, key, status, meta, since, believed = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
         local waits = ARGV[8]
         if status == '' then redis.call('HDEL', said, node) redis.call('SREM', mine, group .. '\\t' .. key)
         else
           local taken = redis.call('HGET', said, node) == 'taken'
           if taken then believed = '' end
           if believed == '' and waits == '' then
             local others = redis.call('HGETALL', said)
             for i = 1, #others, 2 do
               if others[i] ~= node and string.match(others[i + 1], ' waits$') then
                 redis.call('HSET', said, others[i], 'taken')
                 break
               end
             end
           end
           if waits == '' or not taken then redis.call('HSET', said, node, status .. waits) end
           redis.call('SADD', mine, group .. '\\t' .. key)
         end
         local now = ''
         for _, other in ipairs(redis.call('HVALS', said)) do
           local says = string.match(other, '^%l+')
           if says == 'online' then now = 'online' elseif now == '' and says ~= 'taken' then now = says end
         end
         local old = redis.call('HGET', told, key)
         local was, at, old_meta
         if old then was, at, old_meta = string.match(old, '^(%l+) (%d+) (.*)$')
         else was, at, old_meta = believed, since, meta end
         if status == '' or meta == '' then meta = old_meta end
         if now == '' then redis.call('HDEL', told, key) redis.call('ZREM', order, key)
         else
           if now ~= was then at = since end
           redis.call('HSET', told, key, now .. ' ' .. at .. ' ' .. meta)
           redis.call('ZADD', order, 0, key)
         end
         if now == was then return {} end
         return {was, now, meta}",
    )
});

/// Keys of a group after one, in order, with what was told of each.
static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local after = '-'
         if ARGV[1] ~= '' then after = '(' .. ARGV[1] end
         local answer = {}
         for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], after, '+', 'LIMIT', 0, ARGV[2])) do
           local told = redis.call('HGET', KEYS[1], key)
           if told then answer[#answer + 1] = key answer[#answer + 1] = told end
         end
         return answer",
    )
});

/// The statements of all nodes.
pub struct PresenceStore {
    link: Arc<Redis>,
    me: String,
}

/// What this node says of a key of a group. A status is `online`, `away`, or nothing.
#[derive(Debug, Clone)]
pub struct PresenceStatement {
    pub group: String,
    pub key: String,
    pub status: &'static str,
    /// What was told of it last, as far as this node knows: for a Redis that has forgotten.
    pub believed: &'static str,
    pub meta: String,
    /// All connections of the key to this node broke: it waits for a reconnect.
    pub waits: bool,
    pub now_ms: u64,
}

/// What the nodes say together has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub group: String,
    pub key: String,
    pub from: &'static str,
    pub to: &'static str,
    pub meta: String,
}

/// A key that somebody says something of.
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

    /// Says what this node says of a key; answers what has changed by it.
    pub async fn publish(&self, statement: &PresenceStatement) -> Result<Option<Turn>, RedisUnavailable> {
        self.publish_for(&self.me, statement).await
    }

    async fn publish_for(&self, node: &str, statement: &PresenceStatement) -> Result<Option<Turn>, RedisUnavailable> {
        let PresenceStatement { group, key, status, believed, meta, waits, now_ms } = statement;
        let keys = vec![
            self.told(group),
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
        let turned: Vec<String> = self.link.eval(&SAY, keys, args).await?;
        let [from, to, meta] = turned.as_slice() else { return Ok(None) };
        let (from, to, meta) = (status_of(from), status_of(to), meta.clone());
        Ok(Some(Turn { group: group.clone(), key: key.clone(), from, to, meta }))
    }

    /// Of what a node says something: a group and a key each.
    pub async fn published_by(&self, node: &str) -> Result<Vec<(String, String)>, RedisUnavailable> {
        let key = self.link.name(format_args!("says:{node}"));
        let said: Vec<String> = self.link.client.smembers(key).await?;
        let parts = |id: &String| id.rsplit_once('\t').map(|(group, key)| (group.to_owned(), key.to_owned()));
        Ok(said.iter().filter_map(parts).collect())
    }

    /// Takes back what a node said of these; answers what has changed by it.
    pub async fn take_back(&self, node: &str, said: Vec<(String, String)>, now_ms: u64) -> Result<Vec<Turn>, RedisUnavailable> {
        let nothing =
            |(group, key)| PresenceStatement { group, key, status: "", believed: "", meta: String::new(), waits: false, now_ms };
        let statements: Vec<_> = said.into_iter().map(nothing).collect();
        let mut turns = Vec::new();
        for statements in statements.chunks(BATCH) {
            for turned in join_all(statements.iter().map(|statement| self.publish_for(node, statement))).await {
                turns.extend(turned?);
            }
        }
        Ok(turns)
    }

    /// Keys in order after one, at most `limit`.
    pub async fn list(&self, group: &str, after: &str, limit: usize) -> Result<Vec<Entry>, RedisUnavailable> {
        let keys = vec![self.told(group), self.order(group)];
        let listed: Vec<String> = self.link.eval(&LIST, keys, vec![after.to_owned(), limit.to_string()]).await?;
        let entry = |pair: &[String]| {
            let [key, told] = pair else { return None };
            let mut parts = told.splitn(3, ' ');
            let (status, since, meta) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Entry { key: key.clone(), status: status_of(status), since_ms: since.parse().ok()?, meta: meta.to_owned() })
        };
        Ok(listed.chunks(2).filter_map(entry).collect())
    }

    /// How many keys a group has.
    pub async fn count(&self, group: &str) -> Result<u64, RedisUnavailable> {
        if !self.link.is_up() {
            return Err(RedisUnavailable::new("the connection is down"));
        }
        Ok(self.link.client.hlen(self.told(group)).await?)
    }

    fn told(&self, group: &str) -> String {
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
