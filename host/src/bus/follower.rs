//! Followers: readers of the outbox besides the plugins. Rows stay until every follower has handled them as well. Only keeps
//! positions, and never interprets rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Bus;
use crate::names::PluginName;
use crate::storage::{DeadLetter, OutboxMessage, OutboxRow, Unavailable};

/// A reader of the outbox that is not a plugin.
pub struct Follower {
    /// A name of the form of a plugin's name, but not one that a plugin can have.
    pub name: PluginName,
    done: AtomicU64,
    /// Whether this node follows.
    at_work: AtomicBool,
    wake: Notify,
}

impl Follower {
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    pub(crate) fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::Acquire)
    }

    /// The named value that stores the position.
    fn blob(&self) -> String {
        format!("followers/{}", self.name)
    }
}

impl Bus {
    /// Adds a follower. Must be called before any row is removed.
    pub fn add_follower(&self, name: PluginName) -> Arc<Follower> {
        let follower = Follower { name, done: AtomicU64::new(0), at_work: AtomicBool::new(false), wake: Notify::new() };
        let follower = Arc::new(follower);
        self.followers.lock().push(follower.clone());
        follower
    }

    /// Whether this node follows. While the set of nodes changes, two nodes may follow, and messages may be sent twice.
    pub fn may_follow(&self, follower: &Follower) -> bool {
        let mine = self.services.cluster.as_ref().is_none_or(|cluster| cluster.nodes.is_mine(follower.name.as_str()));
        if !mine {
            follower.at_work.store(false, Ordering::Release);
        }
        mine
    }

    /// Resumes from the stored position, which any node may have written. Does nothing if this node already follows.
    pub async fn resume_follower(&self, follower: &Follower) -> Result<(), Unavailable> {
        if follower.is_at_work() {
            return Ok(());
        }
        let kept = self.services.storage.blob(&follower.blob()).await?;
        let kept = kept.and_then(|kept| std::str::from_utf8(&kept).ok()?.parse().ok()).unwrap_or(0);
        follower.done.store(kept, Ordering::Release);
        follower.at_work.store(true, Ordering::Release);
        Ok(())
    }

    /// The next rows for a follower, at most `most`.
    pub async fn next_rows(&self, follower: &Follower, most: usize) -> Result<Vec<OutboxRow>, Unavailable> {
        self.services.storage.outbox_after(follower.done(), most).await
    }

    /// How many messages of a topic wait for a follower, counted up to `most`.
    pub async fn waiting_for(&self, follower: &Follower, topic: &str, most: usize) -> Result<u64, Unavailable> {
        self.services.storage.outbox_waiting(topic, follower.done(), most).await
    }

    /// Waits until there may be more rows; at most a second.
    pub async fn wait_for_rows(&self, follower: &Follower) {
        follower.wake.notified().await;
    }

    /// Marks all rows up to one as handled by a follower, and stores the position if `keep`: without that, they are read again
    /// after a restart.
    pub async fn advance_follower(&self, follower: &Follower, seq: u64, keep: bool) -> Result<(), Unavailable> {
        if keep {
            self.services.storage.put_blob(follower.blob(), Bytes::from(seq.to_string())).await?;
        }
        follower.done.store(seq, Ordering::Release);
        self.services.published.notify_one();
        Ok(())
    }

    /// Stores a dead letter of `source`, which is not a plugin.
    pub async fn to_dead_letters_for(
        &self,
        source: &PluginName,
        message: OutboxMessage,
        error: String,
    ) -> Result<(), Unavailable> {
        let letter = DeadLetter { plugin: source.clone(), message, error };
        self.services.storage.dead_letter(letter.clone()).await?;
        let DeadLetter { message, error, .. } = letter;
        tracing::error!(%source, topic = %message.topic, id = %message.id, "a dead letter: {error}");
        self.services.metrics.bus_dead.inc();
        Ok(())
    }

    pub(crate) fn followers(&self) -> Vec<Arc<Follower>> {
        self.followers.lock().clone()
    }

    pub(crate) fn wake_followers(&self) {
        self.followers().iter().for_each(|follower| follower.wake.notify_one());
    }
}
