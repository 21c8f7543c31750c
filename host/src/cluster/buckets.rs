//! Token buckets that all nodes take from. Without Redis each node has its own.

use std::sync::{Arc, LazyLock};

use fred::types::scripts::Script;

use super::redis::{Redis, RedisUnavailable};

/// Takes points, as a node's own buckets do: what is missing is kept in thousandths of a point, as of a moment of Redis's clock.
/// Answers what is left, or below nothing the milliseconds to wait.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local points, capacity, period = tonumber(ARGV[1]) * 1000, tonumber(ARGV[2]) * 1000, tonumber(ARGV[3])
         local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         local missing, at = 0, now
         local kept = redis.call('GET', KEYS[1])
         if kept then
           local a, b = string.match(kept, '^(%d+) (%d+)$')
           missing, at = tonumber(a), tonumber(b)
           if at > now then
             -- Redis's clock was set back: no time has passed, and it goes on from here.
             at = now
             redis.call('SET', KEYS[1], string.format('%d %d', missing, at), 'PX', math.ceil(missing * period / capacity) + 1)
           end
           local back = math.floor((now - at) * capacity / period)
           if back >= missing then missing, at = 0, now
           elseif back > 0 then missing = missing - back at = at + math.floor(back * period / capacity) end
         end
         if missing + points > capacity then
           local wait = math.ceil((missing + points - capacity) * period / capacity) - (now - at)
           return -math.max(wait, 1)
         end
         missing = missing + points
         redis.call('SET', KEYS[1], string.format('%d %d', missing, at), 'PX', math.ceil(missing * period / capacity) + 1)
         return math.floor((capacity - missing) / 1000)",
    )
});

/// The buckets of all nodes.
pub struct Buckets {
    link: Arc<Redis>,
}

impl Buckets {
    pub fn new(link: Arc<Redis>) -> Self {
        Self { link }
    }

    /// Takes points: what is left, or after how many milliseconds it is worth trying again.
    pub async fn take(
        &self,
        key: &str,
        points: u32,
        capacity: u32,
        period_ms: u64,
    ) -> Result<Result<u32, u64>, RedisUnavailable> {
        let keys = vec![self.link.name(format_args!("bucket:{key}"))];
        let args = vec![points.to_string(), capacity.to_string(), period_ms.max(1).to_string()];
        let answer: i64 = self.link.eval(&TAKE, keys, args).await?;
        Ok(u32::try_from(answer).map_err(|_| answer.unsigned_abs()))
    }
}
