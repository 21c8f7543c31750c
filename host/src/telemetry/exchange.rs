//! Metrics of bus ingest and egress. Topic names come from outside: past a number of names, the rest share one label.

use std::collections::HashSet;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::registrar::{Registrar, register};

/// The most topics and streams with their own series.
const MAX_NAMES: usize = 256;

/// The label of all others.
const OTHER: &str = "other";

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Topic {
    source: &'static str,
    topic: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    source: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    system: &'static str,
    topic: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct System {
    system: &'static str,
}

/// The metrics of ingest and egress.
pub struct Exchange {
    accepted: Family<Topic, Counter>,
    rejected: Family<Reason, Counter>,
    lag: Family<Topic, Gauge>,
    paused: Family<Topic, Gauge>,
    reconnects: Family<Source, Counter>,
    sent: Family<Sent, Counter>,
    waiting: Family<System, Gauge>,
    sent_reconnects: Family<System, Counter>,
    names: Mutex<HashSet<String>>,
}

impl Exchange {
    pub(super) fn register(r: &mut Registrar) -> Self {
        Self {
            accepted: register(
                r,
                "ingest_messages",
                "Messages of other systems that were accepted, by source: kafka, streams or pubsub",
                Family::default(),
            ),
            rejected: register(
                r,
                "ingest_rejected",
                "Messages of other systems that were not accepted, by reason: not_json, too_large, bad_topic, bad_name, not_a_message, trimmed or lost",
                Family::default(),
            ),
            lag: register(r, "ingest_lag", "Messages that wait in another system, as it last reported", Family::default()),
            paused: register(r, "ingest_paused", "1 while a topic or stream waits at its source", Family::default()),
            reconnects: register(r, "ingest_reconnects", "Reconnects to a source", Family::default()),
            sent: register(r, "egress_messages", "Messages that another system has accepted", Family::default()),
            waiting: register(r, "egress_waiting", "Messages that wait to be sent to another system", Family::default()),
            sent_reconnects: register(
                r,
                "egress_reconnects",
                "Reconnects to a system that messages are sent to",
                Family::default(),
            ),
            names: Mutex::default(),
        }
    }

    pub fn accepted(&self, source: &'static str, topic: &str) {
        self.accepted.get_or_create(&Topic { source, topic: self.name(topic) }).inc();
    }

    pub fn rejected(&self, source: &'static str, reason: &'static str, how_many: u64) {
        self.rejected.get_or_create(&Reason { source, reason }).inc_by(how_many);
    }

    pub fn lag(&self, source: &'static str, topic: &str, lag: i64) {
        self.lag.get_or_create(&Topic { source, topic: self.name(topic) }).set(lag);
    }

    pub fn paused(&self, source: &'static str, topic: &str, paused: bool) {
        self.paused.get_or_create(&Topic { source, topic: self.name(topic) }).set(paused.into());
    }

    pub fn sent(&self, system: &'static str, topic: &str) {
        self.sent.get_or_create(&Sent { system, topic: self.name(topic) }).inc();
    }

    pub fn waiting(&self, system: &'static str, waiting: u64) {
        self.waiting.get_or_create(&System { system }).set(waiting as i64);
    }

    /// The counter of reconnects to a source. Exists from now on, with 0.
    pub fn reconnects(&self, source: &'static str) -> Counter {
        self.reconnects.get_or_create(&Source { source }).clone()
    }

    /// The same for a system that messages are sent to.
    pub fn sent_reconnects(&self, system: &'static str) -> Counter {
        self.sent_reconnects.get_or_create(&System { system }).clone()
    }

    fn name(&self, name: &str) -> String {
        let mut names = self.names.lock();
        if names.contains(name) || (names.len() < MAX_NAMES && names.insert(name.to_owned())) {
            return name.to_owned();
        }
        OTHER.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_past_the_limit_share_one_label() {
        let exchange = Exchange::register(&mut Registrar::new());
        for n in 0..MAX_NAMES {
            assert_eq!(exchange.name(&format!("t{n}")), format!("t{n}"));
        }
        assert_eq!(exchange.name("one.more"), OTHER);
        assert_eq!(exchange.name("t0"), "t0");
    }
}
