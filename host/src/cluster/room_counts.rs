//! How many are in each room over all nodes, kept in Redis by every node for its own members. It is written behind, in the order of
//! the changes; it never decides who is in a room, and local sizes are right without it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use fred::interfaces::SetsInterface;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::redis::{Redis, RedisUnavailable};
use crate::rooms::Rooms;
use crate::rooms::peers::{Change, Elsewhere};

/// Changes written together.
const BATCH: usize = 256;

/// Writes what a node says of a room, and one user who came or went. `KEYS`: sizes by node, nodes by user, the node's users, the
/// node's rooms. Repeating it changes nothing.
static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local sizes, users, mine, rooms = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
         local node, room, sockets, visitors, user, came = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
         if sockets == '0' then redis.call('HDEL', sizes, node) redis.call('SREM', rooms, room)
         else redis.call('HSET', sizes, node, sockets .. ' ' .. visitors) redis.call('SADD', rooms, room) end
         if user ~= '' then
           if came == '1' then
             if redis.call('SADD', mine, user) == 1 then redis.call('HINCRBY', users, user, 1) end
           elseif redis.call('SREM', mine, user) == 1 and redis.call('HINCRBY', users, user, -1) <= 0 then
             redis.call('HDEL', users, user)
           end
         end
         return 1",
    )
});

/// Forgets what a node said of a room.
static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "local sizes, users, mine, rooms = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
         for _, user in ipairs(redis.call('SMEMBERS', mine)) do
           if redis.call('HINCRBY', users, user, -1) <= 0 then redis.call('HDEL', users, user) end
         end
         redis.call('DEL', mine)
         redis.call('HDEL', sizes, ARGV[1])
         redis.call('SREM', rooms, ARGV[2])
         return 1",
    )
});

/// What all nodes say of a room, how many users that is, and on how many nodes one of them is.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "return {redis.call('HGETALL', KEYS[1]), redis.call('HLEN', KEYS[2]),
           tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')}",
    )
});

/// The way to Redis for what changes in rooms here.
pub struct RoomCounts {
    link: Arc<Redis>,
    me: String,
    queue: mpsc::Sender<Entry>,
    /// A change was lost: all must be written anew.
    incomplete: AtomicBool,
}

/// Something to write or to read, in its order.
pub enum Entry {
    Change(Change),
    Read { namespace: Arc<str>, room: String, user: String, answer: oneshot::Sender<Result<Elsewhere, RedisUnavailable>> },
}

impl RoomCounts {
    pub fn new(link: Arc<Redis>, me: String) -> (Arc<Self>, mpsc::Receiver<Entry>) {
        let (queue, entries) = mpsc::channel(link.config.room_counts);
        (Arc::new(Self { link, me, queue, incomplete: AtomicBool::new(false) }), entries)
    }

    /// Notes a change. Never waits; where too many wait, all rooms are written anew.
    pub fn note(&self, change: Change) {
        if self.queue.try_send(Entry::Change(change)).is_err() {
            self.incomplete.store(true, Ordering::Release);
        }
    }

    /// Reads a room, after all that was noted before.
    pub async fn read(&self, namespace: &Arc<str>, room: &str, user: &str) -> Result<Elsewhere, RedisUnavailable> {
        let (answer, answered) = oneshot::channel();
        let entry = Entry::Read { namespace: namespace.clone(), room: room.to_owned(), user: user.to_owned(), answer };
        if self.queue.try_send(entry).is_err() {
            return Err(RedisUnavailable::new("too many changes wait to be written"));
        }
        let wait = tokio::time::timeout(self.link.config.timeout, answered);
        wait.await.ok().and_then(Result::ok).unwrap_or_else(|| Err(RedisUnavailable::new("it takes too long")))
    }

    /// Writes what is noted, until it is dropped.
    pub async fn run(self: Arc<Self>, mut entries: mpsc::Receiver<Entry>, rooms: Arc<Rooms>) {
        let epochs = self.link.epochs();
        let (mut written, mut batch) = (None, Vec::with_capacity(BATCH));
        while entries.recv_many(&mut batch, BATCH).await > 0 {
            let epoch = *epochs.borrow();
            let complete = written == epoch && !self.incomplete.load(Ordering::Acquire);
            if epoch.is_some() && !complete {
                self.incomplete.store(false, Ordering::Release);
                // What is in the queue is in the rooms already; writing it again changes nothing.
                match self.write_all(&rooms).await {
                    Ok(()) => written = epoch,
                    Err(_) => self.incomplete.store(true, Ordering::Release),
                }
            }
            let written = batch.drain(..).map(|entry| self.write(entry));
            if join_all(written).await.contains(&false) {
                self.incomplete.store(true, Ordering::Release);
            }
        }
    }

    /// Sees to it that rooms are written anew after Redis was away, even where nothing changes.
    pub async fn wake(self: Arc<Self>) {
        let mut epochs = self.link.epochs();
        while epochs.changed().await.is_ok() {
            if epochs.borrow_and_update().is_some() {
                let (answer, _) = oneshot::channel();
                let (namespace, room, user) = (Arc::from("/"), String::new(), String::new());
                // Where the queue is full, it is awake.
                let _ = self.queue.try_send(Entry::Read { namespace, room, user, answer });
            }
        }
    }

    /// Writes an entry; answers whether Redis has it.
    async fn write(&self, entry: Entry) -> bool {
        match entry {
            Entry::Change(change) => self.change(&change).await.is_ok(),
            Entry::Read { namespace, room, user, answer } => {
                // Nobody waits for it any more: then nobody is told.
                let _ = answer.send(self.read_now(&namespace, &room, &user).await);
                true
            }
        }
    }

    async fn change(&self, change: &Change) -> Result<(), RedisUnavailable> {
        let id = room_id(&change.namespace, &change.room);
        let (user, came) = match &change.user {
            Some((user, came)) => (user.to_string(), *came),
            None => (String::new(), false),
        };
        let (sockets, visitors) = (change.size.sockets.to_string(), change.size.visitors.to_string());
        let args = vec![self.me.clone(), id.clone(), sockets, visitors, user, u8::from(came).to_string()];
        self.link.eval(&CHANGE, self.keys(&self.me, &id), args).await
    }

    async fn read_now(&self, namespace: &str, room: &str, user: &str) -> Result<Elsewhere, RedisUnavailable> {
        let id = room_id(namespace, room);
        let keys = self.keys(&self.me, &id)[..2].to_vec();
        let (sizes, users, nodes_of_user): (HashMap<String, String>, u64, u32) =
            self.link.eval(&READ, keys, vec![user.to_owned()]).await?;
        let others = sizes.iter().filter(|(node, _)| **node != self.me);
        let counts = others.filter_map(|(_, size)| size.split_once(' '));
        let mut elsewhere = Elsewhere { users, nodes_of_user, ..Elsewhere::default() };
        for (sockets, visitors) in counts {
            elsewhere.sockets += sockets.parse::<u64>().unwrap_or(0);
            elsewhere.visitors += visitors.parse::<u64>().unwrap_or(0);
        }
        Ok(elsewhere)
    }

    /// Writes all rooms anew, and forgets those that are no more.
    async fn write_all(&self, rooms: &Rooms) -> Result<(), RedisUnavailable> {
        self.forget(&self.me.clone()).await?;
        let changes = rooms.all().into_iter().flat_map(|adapter| adapter.count_changes());
        let changes: Vec<_> = changes.collect();
        for changes in changes.chunks(BATCH) {
            for written in join_all(changes.iter().map(|change| self.change(change))).await {
                written?;
            }
        }
        Ok(())
    }

    /// Forgets all that a node said of rooms. Answers which they were: a namespace and a room each.
    pub async fn forget(&self, node: &str) -> Result<Vec<(Arc<str>, Arc<str>)>, RedisUnavailable> {
        let key = self.link.name(format_args!("rooms:{node}"));
        let rooms: Vec<String> = self.link.client.smembers(key).await?;
        for rooms in rooms.chunks(BATCH) {
            let forgotten = rooms
                .iter()
                .map(|id| self.link.eval::<(), _, _>(&FORGET, self.keys(node, id), vec![node.to_owned(), id.clone()]));
            for forgotten in join_all(forgotten).await {
                forgotten?;
            }
        }
        let parts = |id: &String| id.split_once('\t').map(|(namespace, room)| (namespace.into(), room.into()));
        Ok(rooms.iter().filter_map(parts).collect())
    }

    fn keys(&self, node: &str, id: &str) -> Vec<String> {
        vec![
            self.link.name(format_args!("sizes:{id}")),
            self.link.name(format_args!("users:{id}")),
            self.link.name(format_args!("users:{id}\t{node}")),
            self.link.name(format_args!("rooms:{node}")),
        ]
    }
}

/// A room as Redis knows it. Names have no control characters.
fn room_id(namespace: &str, room: &str) -> String {
    format!("{namespace}\t{room}")
}
