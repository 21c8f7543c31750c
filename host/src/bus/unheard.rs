//! Messages that are published to a topic which no plugin listens to: mostly a name that is spelled wrongly. They are counted and
//! logged, and never refused: a plugin may be deployed later.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Bus;
use crate::storage::OutboxMessage;

/// Between two lines of the log, on one node. The metric counts every message.
const QUIET: Duration = Duration::from_secs(10);

/// The state of the log line, and the topics that other systems take.
#[derive(Default)]
pub(crate) struct Unheard {
    /// Topics that go to other systems.
    sent_out: Mutex<BTreeSet<String>>,
    said: Mutex<Said>,
}

/// Messages of one batch that nothing takes.
pub(crate) struct Among {
    /// The first one's.
    topic: String,
    messages: u64,
}

#[derive(Default)]
struct Said {
    at: Option<Instant>,
    /// Messages since then.
    since: u64,
}

impl Bus {
    /// These topics go to another system, so their messages are not unheard.
    pub fn sends_out<'a>(&self, topics: impl Iterator<Item = &'a String>) {
        self.unheard.sent_out.lock().unwrap_or_else(PoisonError::into_inner).extend(topics.cloned());
    }

    /// The messages that nothing deployed takes. A plugin that is disabled takes its own: they wait. One without a release may.
    pub(crate) fn unheard_among(&self, messages: &[OutboxMessage]) -> Option<Among> {
        let releases: Option<Vec<_>> = self.registry.deployed_plugins().iter().map(|deployed| deployed.installed()).collect();
        let releases = releases?;
        let sent_out = self.unheard.sent_out.lock().unwrap_or_else(PoisonError::into_inner);
        let is_heard = |topic: &str| {
            sent_out.contains(topic)
                || releases.iter().any(|release| release.manifest.topics.iter().any(|wanted| wanted == topic))
        };
        let mut unheard = messages.iter().filter(|message| match message.address() {
            (Some(_), _) => false,
            (None, topic) => !is_heard(topic),
        });
        let first = unheard.next()?;
        Some(Among { topic: first.topic.clone(), messages: 1 + unheard.count() as u64 })
    }

    /// Counts and logs what nothing takes.
    pub(crate) fn note(&self, unheard: &Among) {
        self.services.metrics.bus_unheard.inc_by(unheard.messages);
        let mut said = self.unheard.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.since += unheard.messages;
        if said.at.is_some_and(|at| at.elapsed() < QUIET) {
            return;
        }
        let messages = std::mem::take(&mut said.since);
        said.at = Some(Instant::now());
        drop(said);
        tracing::warn!(topic = %unheard.topic, messages, "published to a topic that no plugin listens to");
    }
}
