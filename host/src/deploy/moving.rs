//! Moves stored data from one plugin to another that takes it over: keys, durable timers, dead letters, waiting messages and
//! handled ids. Runs in bounded atomic batches, so that an interrupted move can be continued or reverted. The plugin that held
//! the data must not be called meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::history::History;
use crate::call::manifest::Taken;
use crate::call::release::Release;
use crate::names::{PluginName, SEPARATOR};
use crate::storage::{HOST_KEYS, HandOver, Storage, Unavailable};

/// Keys, ids, dead letters or rows in one batch.
const BATCH: usize = 500;

/// The prefix of tenants' keys; see `store::tenant_key` of the SDK.
const TENANT_KEYS: &str = "%t/";

/// The key under which unfinished moves are stored.
pub const UNFINISHED: &str = "moving";

/// A move of one prefix of a plugin's keys to another plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub from: PluginName,
    pub to: PluginName,
    pub prefix: String,
}

/// Moves that have started, kept over restarts until their releases are live.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    pub moves: Vec<Move>,
    /// Plugins that were stopped only for the moves.
    pub stopped: Vec<PluginName>,
}

/// The number of moved items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    pub keys: usize,
    pub timers: usize,
    pub handled: usize,
    pub letters: usize,
    pub messages: usize,
    /// Keys that were not moved, because the other plugin has them already.
    pub left: usize,
}

/// The topics that each plugin subscribes to after the moves.
pub type TopicListeners = BTreeMap<PluginName, Vec<String>>;

impl Move {
    /// The reverse move.
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from, prefix: self.prefix }
    }

    /// Moves that a release needs and that were not made yet.
    pub fn pending(release: &Release, history: &History) -> Vec<Self> {
        let to =
            |taken: &Taken| Self { from: taken.from.clone(), to: release.manifest.name.clone(), prefix: taken.prefix.clone() };
        release.manifest.takes.iter().filter(|taken| !history.took.contains(taken)).map(to).collect()
    }

    /// Moves back to the original plugins: all data if no release remains, else the data that the active release takes over and
    /// the earlier one does not.
    pub fn returning(name: &PluginName, history: &History, active: Option<&Release>, before: Option<&Release>) -> Vec<Self> {
        let takes = |release: &Release, taken: &Taken| release.manifest.takes.contains(taken);
        let returns = |taken: &&Taken| match before {
            None => true,
            Some(before) => active.is_some_and(|active| takes(active, taken)) && !takes(before, taken),
        };
        let back = |taken: &Taken| Self { from: name.clone(), to: taken.from.clone(), prefix: taken.prefix.clone() };
        history.took.iter().filter(returns).map(back).collect()
    }
}

impl Unfinished {
    /// Reads the unfinished moves, if there are any.
    pub async fn read(storage: &dyn Storage) -> Result<Option<Self>, Unavailable> {
        let found = storage.blob(UNFINISHED).await?;
        found.map(|json| serde_json::from_slice(&json).map_err(Unavailable::new)).transpose()
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, timers, handled, letters, messages, .. } = self;
        write!(f, "{keys} keys, {timers} durable timers, {handled} handled ids, {letters} dead letters, {messages} messages")
    }
}

/// Runs moves, in order. Idempotent: moved items are no longer found.
pub async fn run_moves(storage: &Arc<dyn Storage>, moves: &[Move], topic_listeners: &TopicListeners) -> Result<(), Unavailable> {
    let mut with_messages = BTreeSet::new();
    for one in moves {
        let mut moved = Moved::default();
        one.keys(&**storage, &mut moved).await?;
        if with_messages.insert((&one.from, &one.to)) {
            one.handled(&**storage, &mut moved).await?;
            one.letters(&**storage, topic_listeners, &mut moved).await?;
            one.messages(&**storage, topic_listeners, &mut moved).await?;
        }
        let Move { from, to, prefix } = one;
        match moved == Moved::default() {
            true => tracing::debug!(%from, %to, prefix, "there is nothing to move of what the plugin takes"),
            false => tracing::info!(%from, %to, prefix, "moved what the plugin takes: {moved}"),
        }
        if moved.left > 0 {
            tracing::warn!(%from, %to, prefix, keys = moved.left, "keys were not moved, because the plugin has them already");
        }
    }
    Ok(())
}

impl Move {
    fn hand_over(&self) -> HandOver {
        HandOver::new(self.from.clone(), self.to.clone())
    }

    /// Keys with the prefix: bare, of any tenant, and those of durable timers.
    async fn keys(&self, storage: &dyn Storage, moved: &mut Moved) -> Result<(), Unavailable> {
        let bare = |key: &str| key.starts_with(&self.prefix);
        let of_tenant = |key: &str| {
            let rest = key.strip_prefix(TENANT_KEYS).and_then(|rest| rest.split_once('/'));
            rest.is_some_and(|(_, rest)| rest.starts_with(&self.prefix))
        };
        let timer = |key: &str| key.split_once(SEPARATOR).is_some_and(|(_, key)| key.starts_with(&self.prefix));
        let bare = self.range(storage, &self.prefix, bare).await?;
        let of_tenants = self.range(storage, TENANT_KEYS, of_tenant).await?;
        let timers = self.range(storage, &format!("{HOST_KEYS}timer/"), timer).await?;
        (moved.keys, moved.timers) = (bare.0 + of_tenants.0, timers.0);
        moved.left = bare.1 + of_tenants.1 + timers.1;
        Ok(())
    }

    /// The numbers of keys of a range that were moved and that were not.
    async fn range(
        &self,
        storage: &dyn Storage,
        start: &str,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<(usize, usize), Unavailable> {
        let (mut moved, mut left, mut after) = (0, 0, String::new());
        loop {
            let page = storage.keys(&self.from, start, &after, BATCH).await?;
            let Some(last) = page.last().cloned() else { return Ok((moved, left)) };
            let keys: Vec<_> = page.into_iter().filter(|key| is_ours(key)).collect();
            if !keys.is_empty() {
                let count = keys.len();
                storage.hand_over(HandOver { keys, ..self.hand_over() }).await?;
                let stay = storage.keys(&self.from, start, &after, BATCH).await?;
                let stay = stay.iter().filter(|key| **key <= last && is_ours(key)).count();
                (moved, left) = (moved + count - stay, left + stay);
            }
            after = last;
        }
    }

    /// The ids of all messages that the plugin has handled: their topics are not stored.
    async fn handled(&self, storage: &dyn Storage, moved: &mut Moved) -> Result<(), Unavailable> {
        let mut after = String::new();
        loop {
            let handled = storage.handled_after(&self.from, &after, BATCH).await?;
            let Some((last, _)) = handled.last() else { return Ok(()) };
            after.clone_from(last);
            moved.handled += handled.len();
            storage.hand_over(HandOver { handled, ..self.hand_over() }).await?;
        }
    }

    /// Whether the other plugin subscribes to a topic and this one does not.
    fn topic_moves(&self, topic: &str, topic_listeners: &TopicListeners) -> bool {
        let subscribes =
            |by: &PluginName| topic_listeners.get(by).is_some_and(|topics| topics.iter().any(|subscribed| subscribed == topic));
        subscribes(&self.to) && !subscribes(&self.from)
    }

    async fn letters(
        &self,
        storage: &dyn Storage,
        topic_listeners: &TopicListeners,
        moved: &mut Moved,
    ) -> Result<(), Unavailable> {
        let mut after = 0;
        loop {
            let rows = storage.dead_letters(after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.seq;
            let ours = rows.iter().filter(|row| {
                row.letter.plugin == self.from && self.topic_moves(row.letter.message.address().1, topic_listeners)
            });
            let letters: Vec<_> = ours.map(|row| row.seq).collect();
            if !letters.is_empty() {
                moved.letters += letters.len();
                storage.hand_over(HandOver { letters, ..self.hand_over() }).await?;
            }
        }
    }

    /// Waiting messages that are addressed to the plugin. The other plugin finds messages without an address by itself.
    async fn messages(
        &self,
        storage: &dyn Storage,
        topic_listeners: &TopicListeners,
        moved: &mut Moved,
    ) -> Result<(), Unavailable> {
        let mut after = 0;
        loop {
            let rows = storage.outbox_after(after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.seq;
            let messages: Vec<_> =
                rows.iter().filter_map(|row| self.readdressed(row.seq, row.message.address(), topic_listeners)).collect();
            if !messages.is_empty() {
                moved.messages += messages.len();
                storage.hand_over(HandOver { messages, ..self.hand_over() }).await?;
            }
        }
    }

    fn readdressed(
        &self,
        seq: u64,
        (to, topic): (Option<&str>, &str),
        topic_listeners: &TopicListeners,
    ) -> Option<(u64, String)> {
        (to == Some(self.from.as_str()) && self.topic_moves(topic, topic_listeners)).then(|| (seq, topic.to_owned()))
    }
}

#[cfg(test)]
#[path = "moving/tests.rs"]
mod tests;
