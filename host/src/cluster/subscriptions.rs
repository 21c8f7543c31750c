//! The channels that this node subscribes to: one for each room with a member here, and one for each user, so that it receives only
//! what it needs. It never changes a room's members.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::interfaces::PubsubInterface;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

use super::redis::Redis;

/// Channels in one command.
const BATCH: usize = 1000;

/// How long a join waits for its subscription. Past it the room's events from other nodes arrive a little later.
const WAIT: Duration = Duration::from_secs(1);

/// The wanted subscriptions, and the changes that Redis has not confirmed.
pub struct Subscriptions {
    link: Arc<Redis>,
    /// A pattern that is always subscribed to.
    pattern: Option<String>,
    table: Mutex<Table>,
    wakeup: Notify,
    /// Changes made, and the confirmed ones.
    asked: AtomicU64,
    done: watch::Sender<Done>,
}

/// The changes that Redis has confirmed, and the number of the connection that has all of them.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    changes: u64,
    connection: u64,
}

#[derive(Default)]
struct Table {
    wanted: HashSet<Arc<str>>,
    dirty: HashSet<Arc<str>>,
}

impl Subscriptions {
    /// `pattern`: subscribed to in addition to the channels.
    pub fn new(link: Arc<Redis>, pattern: Option<String>) -> Self {
        Self {
            link,
            pattern,
            table: Mutex::default(),
            wakeup: Notify::new(),
            asked: AtomicU64::new(0),
            done: watch::Sender::new(Done::default()),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Subscribes to a channel, or unsubscribes from it, in the background.
    pub fn set(&self, channel: String, wanted: bool) {
        let channel: Arc<str> = channel.into();
        let mut table = self.table();
        let changed = if wanted { table.wanted.insert(channel.clone()) } else { table.wanted.remove(&channel) };
        if changed {
            table.dirty.insert(channel);
            self.asked.fetch_add(1, Ordering::Relaxed);
            drop(table);
            self.wakeup.notify_one();
        }
    }

    /// Waits until the changes made before are confirmed. Returns at once without Redis.
    pub async fn settled(&self) {
        let (asked, connection) = (self.asked.load(Ordering::Relaxed), *self.link.connections().borrow());
        let is_done = |done: &Done| done.changes >= asked && done.connection >= connection;
        let mut done = self.done.subscribe();
        if is_done(&done.borrow()) || !self.link.is_up() {
            return;
        }
        let mut epochs = self.link.epochs();
        let confirmed = async {
            tokio::select! {
                _ = done.wait_for(is_done) => {}
                _ = epochs.wait_for(Option::is_none) => {}
            }
        };
        // Past the timeout, the subscription still completes in the background.
        let _ = tokio::time::timeout(WAIT, confirmed).await;
    }

    /// Keeps Redis's subscriptions equal to the wanted ones, until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut epochs = self.link.epochs();
        let mut subscribed: HashSet<Arc<str>> = HashSet::new();
        let mut seen = None;
        let mut has_pattern = false;
        let connections = self.link.connections();
        let mut connection = 0;
        loop {
            let epoch = *epochs.borrow_and_update();
            if epoch != seen {
                // A new connection has no subscriptions: all are made again.
                seen = epoch;
                connection = *connections.borrow();
                subscribed.clear();
                has_pattern = false;
                let mut table = self.table();
                table.dirty = table.wanted.clone();
            }
            if epoch.is_none() {
                if epochs.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if !has_pattern && self.subscribe_pattern().await.is_err() {
                self.link.mark_down();
                continue;
            }
            has_pattern = true;
            let (asked, add, remove) = self.take_changes(&subscribed);
            if self.apply(&add, &remove).await.is_err() {
                self.link.mark_down();
                continue;
            }
            subscribed.extend(add);
            subscribed.retain(|channel| !remove.contains(channel));
            self.done.send_replace(Done { changes: asked, connection });
            tokio::select! {
                () = self.wakeup.notified() => {}
                _ = epochs.changed() => {}
            }
        }
    }

    fn take_changes(&self, subscribed: &HashSet<Arc<str>>) -> (u64, Vec<Arc<str>>, Vec<Arc<str>>) {
        let mut table = self.table();
        let asked = self.asked.load(Ordering::Relaxed);
        let dirty = std::mem::take(&mut table.dirty);
        let (add, remove): (Vec<_>, Vec<_>) = dirty.into_iter().partition(|channel| table.wanted.contains(channel));
        let add = add.into_iter().filter(|channel| !subscribed.contains(channel)).collect();
        let remove = remove.into_iter().filter(|channel| subscribed.contains(channel)).collect();
        (asked, add, remove)
    }

    async fn subscribe_pattern(&self) -> Result<(), fred::error::Error> {
        match &self.pattern {
            Some(pattern) => self.link.subscriber.psubscribe(pattern.as_str()).await,
            None => Ok(()),
        }
    }

    async fn apply(&self, add: &[Arc<str>], remove: &[Arc<str>]) -> Result<(), fred::error::Error> {
        let names = |channels: &[Arc<str>]| channels.iter().map(|channel| channel.to_string()).collect::<Vec<_>>();
        for channels in remove.chunks(BATCH) {
            self.link.subscriber.unsubscribe(names(channels)).await?;
        }
        for channels in add.chunks(BATCH) {
            self.link.subscriber.subscribe(names(channels)).await?;
        }
        Ok(())
    }
}
