//! Who reads the outbox beside the plugins: rows stay until a follower is done with them as well. Keeps a position, and decides
//! nothing of what is read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Bus;
use crate::names::PluginName;
use crate::storage::{DeadLetter, OutboxMessage, OutboxRow, Unavailable};

/// One of them.
pub struct Follower {
    /// Among the plugins' names, and none of theirs.
    pub name: PluginName,
    done: AtomicU64,
    /// Whether this node is the one that follows.
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

    /// The named value that its position is kept in.
    fn blob(&self) -> String {
        format!("followers/{}", self.name)
    }
}

impl Bus {
    /// One more follower, known before any row is removed.
    pub fn add_follower(&self, name: PluginName) -> Arc<Follower> {
        let follower = Follower { name, done: AtomicU64::new(0), at_work: AtomicBool::new(false), wake: Notify::new() };
        let follower = Arc::new(follower);
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(follower.clone());
        follower
    }

    /// Whether this node is the one that follows. While nodes come or go two may believe so: what is sent then may be sent twice.
    pub fn may_follow(&self, follower: &Follower) -> bool {
        let mine = self.services.cluster.as_ref().is_none_or(|cluster| cluster.nodes.is_mine(follower.name.as_str()));
        if !mine {
            follower.at_work.store(false, Ordering::Release);
        }
        mine
    }

    /// Goes on where the follower was left, on whichever node. Does nothing while this node has been at it.
    pub async fn take_up(&self, follower: &Follower) -> Result<(), Unavailable> {
        if follower.is_at_work() {
            return Ok(());
        }
        let kept = self.services.storage.blob(&follower.blob()).await?;
        let kept = kept.and_then(|kept| std::str::from_utf8(&kept).ok()?.parse().ok()).unwrap_or(0);
        follower.done.store(kept, Ordering::Release);
        follower.at_work.store(true, Ordering::Release);
        Ok(())
    }

    /// What comes next for a follower, at most so many rows.
    pub async fn rows_for(&self, follower: &Follower, most: usize) -> Result<Vec<OutboxRow>, Unavailable> {
        self.services.storage.outbox_after(follower.done(), most).await
    }

    /// How many messages of a topic wait for a follower, counted up to `most`.
    pub async fn waits_for(&self, follower: &Follower, topic: &str, most: usize) -> Result<u64, Unavailable> {
        self.services.storage.outbox_waiting(topic, follower.done(), most).await
    }

    /// Waits until there may be more rows; a second at the longest while nothing goes on.
    pub async fn more(&self, follower: &Follower) {
        follower.wake.notified().await;
    }

    /// Says that a follower is done with all rows up to one, and keeps it where `keep`: where it does not, they are read again after
    /// a restart.
    pub async fn followed(&self, follower: &Follower, seq: u64, keep: bool) -> Result<(), Unavailable> {
        if keep {
            self.services.storage.put_blob(follower.blob(), Bytes::from(seq.to_string())).await?;
        }
        follower.done.store(seq, Ordering::Release);
        self.services.published.notify_one();
        Ok(())
    }

    /// Keeps a message where an operator finds it. `who` could not take it, and is no plugin.
    pub async fn to_dead_letters_for(&self, who: &PluginName, message: OutboxMessage, error: String) -> Result<(), Unavailable> {
        let letter = DeadLetter { plugin: who.clone(), message, error };
        self.services.storage.dead_letter(letter.clone()).await?;
        let DeadLetter { message, error, .. } = letter;
        tracing::error!(source = %who, topic = %message.topic, id = %message.id, "a dead letter: {error}");
        self.services.metrics.bus_dead.inc();
        Ok(())
    }

    pub(crate) fn followers(&self) -> Vec<Arc<Follower>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn wake_followers(&self) {
        self.followers().iter().for_each(|follower| follower.wake.notify_one());
    }
}
