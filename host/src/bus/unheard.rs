//! Messages that are published to a topic without a subscriber, mostly because the topic is misspelled. They are counted and
//! logged, and never refused: a plugin may be deployed later.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Bus;
use crate::storage::OutboxMessage;

/// The time between two log lines on one node. The metric counts every message.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The state of the log line, and the topics that are sent to other systems.
#[derive(Default)]
pub(crate) struct Unheard {
    /// Topics that are sent to other systems.
    sent_out: Mutex<BTreeSet<String>>,
    log: Mutex<LogState>,
}

/// The messages of one batch that have no subscriber.
pub(crate) struct UnheardMessages {
    /// The topic of the first one.
    topic: String,
    messages: u64,
}

#[derive(Default)]
struct LogState {
    at: Option<Instant>,
    /// Messages since the last log line.
    since: u64,
}

impl Bus {
    /// Registers topics that are sent to another system, so that their messages are not counted.
    pub fn sends_out<'a>(&self, topics: impl Iterator<Item = &'a String>) {
        self.unheard.sent_out.lock().extend(topics.cloned());
    }

    /// The messages without a subscriber. A disabled plugin is a subscriber: its messages wait. A plugin without a release may
    /// become one.
    pub(crate) fn unheard_among(&self, messages: &[OutboxMessage]) -> Option<UnheardMessages> {
        let releases: Option<Vec<_>> = self.registry.deployed_plugins().iter().map(|deployed| deployed.installed()).collect();
        let releases = releases?;
        let sent_out = self.unheard.sent_out.lock();
        let is_heard = |topic: &str| {
            sent_out.contains(topic)
                || releases.iter().any(|release| release.manifest.topics.iter().any(|wanted| wanted == topic))
        };
        let mut unheard = messages.iter().filter(|message| match message.address() {
            (Some(_), _) => false,
            (None, topic) => !is_heard(topic),
        });
        let first = unheard.next()?;
        Some(UnheardMessages { topic: first.topic.clone(), messages: 1 + unheard.count() as u64 })
    }

    /// Counts and logs messages without a subscriber.
    pub(crate) fn note(&self, unheard: &UnheardMessages) {
        self.services.metrics.bus_unheard.inc_by(unheard.messages);
        let mut log = self.unheard.log.lock();
        log.since += unheard.messages;
        if log.at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        let messages = std::mem::take(&mut log.since);
        log.at = Some(Instant::now());
        drop(log);
        tracing::warn!(topic = %unheard.topic, messages, "published to a topic that no plugin listens to");
    }
}
