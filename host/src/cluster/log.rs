//! The log of this node in Redis: the events that it has sent, and the sockets that may come back. Written in the order of the events, in
//! the same pipeline as their fan-out, so that every node can bring back the sockets of a node that was killed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fred::types::Value;
use fred::types::scripts::Script;
use tokio::sync::watch;

use super::redis::{Redis, RedisUnavailable};

/// Writes a batch. Its time is later than that of every batch before, of any node, also if Redis's clock is set back. `KEYS`: the time
/// of the last batch, the node's stream, its sockets, the set of logs. The sockets are kept for longer than the events, so that their
/// ends can be noticed. `ARGV`: the node, how long to keep (ms), the entries that the stream may have (0: any number), the last position
/// that is missing (0: none), the number of entries; for each its position and text; then names of sockets with their states, empty for
/// one that does not come back.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local clock, stream, sockets, logs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
         local keep, most, gap, count = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
         local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local last = tonumber(redis.call('GET', clock) or '0')
         if now <= last then now = last + 1 end
         local t = string.format('%.0f', now)
         redis.call('SET', clock, t)
         if gap ~= '0' then redis.call('XADD', stream, '*', 'q', gap, 't', t, 'g', '1') end
         for i = 1, count do
           redis.call('XADD', stream, '*', 'q', ARGV[4 + 2 * i], 't', t, 'e', ARGV[5 + 2 * i])
         end
         for i = 6 + 2 * count, #ARGV, 2 do
           if ARGV[i + 1] == '' then redis.call('HDEL', sockets, ARGV[i])
           else redis.call('HSET', sockets, ARGV[i], ARGV[i + 1]) end
         end
         local ms = time[1] * 1000 + math.floor(time[2] / 1000)
         redis.call('XTRIM', stream, 'MINID', '~', string.format('%.0f', ms - keep))
         if most > 0 then redis.call('XTRIM', stream, 'MAXLEN', most) end
         redis.call('PEXPIRE', stream, keep)
         redis.call('PEXPIRE', sockets, 2 * keep)
         redis.call('ZADD', logs, string.format('%.0f', ms + 2 * keep), ARGV[1])
         return t",
    )
});

/// One entry of the log.
pub struct Entry {
    pub position: u64,
    /// The event with its recipients. Empty: a move of a socket.
    pub text: Bytes,
}

/// The names of the keys.
pub struct Keys {
    link: Arc<Redis>,
}

impl Keys {
    pub fn new(link: Arc<Redis>) -> Self {
        Self { link }
    }

    pub fn clock(&self) -> String {
        self.link.name(format_args!("log:time"))
    }

    pub fn logs(&self) -> String {
        self.link.name(format_args!("logs"))
    }

    pub fn stream(&self, node: &str) -> String {
        self.link.name(format_args!("log:{node}"))
    }

    pub fn sockets(&self, node: &str) -> String {
        self.link.name(format_args!("sockets:{node}"))
    }
}

/// The writing side.
pub struct Log {
    link: Arc<Redis>,
    keys: Keys,
    node: String,
    pub keep: Duration,
    max_bytes: usize,
    /// Bytes of the events that are kept.
    pub bytes: AtomicUsize,
    /// The last position that was written or given up.
    done: watch::Sender<u64>,
}

/// The stream as its writer knows it.
#[derive(Default)]
pub struct Written {
    /// Positions, bytes and times of the entries.
    entries: VecDeque<(u64, usize, Instant)>,
    bytes: usize,
    /// The last position that is missing, until that is written.
    gap: u64,
}

impl Log {
    pub fn new(link: Arc<Redis>, node: String, keep: Duration, max_bytes: usize) -> Self {
        Self {
            keys: Keys::new(link.clone()),
            link,
            node,
            keep,
            max_bytes,
            bytes: AtomicUsize::new(0),
            done: watch::Sender::new(0),
        }
    }

    /// Notes that everything up to a position was written or given up.
    pub fn done(&self, position: u64) {
        self.done.send_if_modified(|done| {
            let is_higher = position > *done;
            *done = position.max(*done);
            is_higher
        });
    }

    /// Waits until everything up to a position is written. Returns at once while Redis does not answer.
    pub async fn written(&self, position: u64) {
        if *self.done.borrow() >= position || !self.link.is_up() {
            return;
        }
        let (mut done, mut epochs) = (self.done.subscribe(), self.link.epochs());
        let written = async {
            tokio::select! {
                _ = done.wait_for(|done| *done >= position) => {}
                _ = epochs.wait_for(Option::is_none) => {}
            }
        };
        // Past the timeout Redis counts as down.
        let _ = tokio::time::timeout(self.link.config.timeout, written).await;
    }

    /// Writes a batch. `lost`: the last event that is missing.
    ///
    /// # Errors
    /// Redis does not answer. The entries are missing then.
    pub async fn write(
        &self,
        written: &mut Written,
        lost: u64,
        entries: Vec<Entry>,
        sockets: Vec<(String, Vec<u8>)>,
    ) -> Result<(), RedisUnavailable> {
        written.gap = written.gap.max(lost);
        let last_event = entries.iter().filter(|entry| !entry.text.is_empty()).map(|entry| entry.position).max();
        let now = Instant::now();
        for entry in &entries {
            written.entries.push_back((entry.position, entry.text.len(), now));
            written.bytes += entry.text.len();
        }
        let mut most = 0;
        while let Some((position, bytes, at)) = written.entries.front().copied() {
            let is_old = now.duration_since(at) > self.keep;
            if !is_old && written.bytes <= self.max_bytes {
                break;
            }
            written.entries.pop_front();
            written.bytes -= bytes;
            if !is_old {
                written.gap = written.gap.max(position);
                most = written.entries.len() + 1;
            }
        }
        self.bytes.store(written.bytes, Ordering::Relaxed);
        let keys = vec![self.keys.clock(), self.keys.stream(&self.node), self.keys.sockets(&self.node), self.keys.logs()];
        let mut args: Vec<Value> = vec![
            self.node.clone().into(),
            (self.keep.as_millis() as i64).into(),
            (most as i64).into(),
            (written.gap as i64).into(),
            (entries.len() as i64).into(),
        ];
        for Entry { position, text } in entries {
            args.extend([Value::Integer(position as i64), Value::Bytes(text)]);
        }
        for (name, state) in sockets {
            args.extend([name.into(), Value::Bytes(state.into())]);
        }
        match self.link.eval::<String, _, _>(&WRITE, keys, args).await {
            Ok(_) => {
                written.gap = 0;
                Ok(())
            }
            Err(error) => {
                written.gap = written.gap.max(last_event.unwrap_or_default());
                Err(error)
            }
        }
    }
}
