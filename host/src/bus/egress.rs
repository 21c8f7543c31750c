//! Sends chosen topics of the bus to Kafka and to Redis Streams: in order and at least once. The outbox keeps the messages while
//! the other system is down. Never delays plugins, and never sends out what was read from the same system.

mod kafka;
mod redis;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::ingest::kafka::Brokers;
use super::ingest::outside::Outside;
use super::ingest::{self, SetupError};
use super::{Bus, Follower};
use crate::cluster::redis as cluster_redis;
use crate::names::{self, PluginName};
use crate::storage::{OutboxMessage, OutboxRow};
use crate::transaction::services::Services;

/// `[egress]`: topics of the bus that are sent to other systems.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Topics that are sent to Kafka, each with the name of the topic in Kafka, at most 1000.
    pub kafka: BTreeMap<String, String>,
    /// Topics that are sent to Redis Streams, each with the name of the stream, at most 1000.
    pub redis: BTreeMap<String, String>,
    /// Entries that a stream keeps, approximately; 0 means all. Past it the oldest are removed.
    pub maxlen: u64,
    /// The Redis of these streams. Default: `redis.url`.
    pub redis_url: Option<cluster_redis::Url>,
}

impl Default for Config {
    fn default() -> Self {
        Self { kafka: BTreeMap::new(), redis: BTreeMap::new(), maxlen: 100_000, redis_url: None }
    }
}

impl Config {
    /// Topics that go to Kafka, under both names.
    pub fn to_kafka(&self) -> BTreeSet<String> {
        self.kafka.iter().flat_map(|(topic, destination)| [topic.clone(), destination.clone()]).collect()
    }

    /// Checks names and numbers, and that no message loops.
    pub fn check(&self, taken_in: &ingest::Config) -> Result<(), SetupError> {
        for (key, map) in [("egress.kafka", &self.kafka), ("egress.redis", &self.redis)] {
            if map.len() > MAX_TOPICS {
                return Err(SetupError::TooMany(key, map.len(), MAX_TOPICS));
            }
            for (topic, destination) in map {
                names::check_topic(topic)?;
                names::check(key, destination)?;
            }
        }
        let kafka: BTreeSet<String> = taken_in.kafka.topics.iter().flatten().cloned().collect();
        let looped = |sent: &BTreeMap<String, String>, taken: &BTreeSet<String>| {
            sent.iter()
                .find(|(topic, destination)| taken.contains(*topic) || taken.contains(*destination))
                .map(|(topic, _)| topic.clone())
        };
        if let Some(topic) = looped(&self.kafka, &kafka) {
            return Err(SetupError::Loop(topic, "Kafka"));
        }
        match looped(&self.redis, &taken_in.streams.streams.all()) {
            Some(topic) => Err(SetupError::Loop(topic, "Redis")),
            None => Ok(()),
        }
    }
}

/// The most topics that are sent to one system.
const MAX_TOPICS: usize = 1000;

/// Rows that are read at a time and sent as one batch.
const TOGETHER: usize = 256;

/// The first and the longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The time between two checks of which node sends.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The time between two counts of the waiting messages, and the number above which counting stops.
const COUNT_WAITING: (Duration, usize) = (Duration::from_secs(2), 100_000);

/// One message and its destination.
struct Delivery<'a> {
    seq: u64,
    destination: &'a str,
    message: &'a OutboxMessage,
}

/// The result of sending one message.
enum Sent {
    Taken,
    /// It will never be accepted, with the reason.
    Refused(String),
    /// It may be accepted later.
    Failed(String),
}

/// Another system.
enum System {
    Kafka(Box<kafka::Sender>),
    Redis(redis::Sender),
}

/// The sink that sends to one system.
pub struct Sink {
    name: &'static str,
    system: System,
    topics: BTreeMap<String, String>,
    follower: Arc<Follower>,
    bus: Arc<Bus>,
    services: Arc<Services>,
    outside: Arc<Outside>,
    /// Messages of the current rows that were accepted while others were not.
    taken: HashSet<u64>,
    measured_at: Option<Instant>,
}

/// All sinks.
pub struct Egress {
    sinks: Vec<Sink>,
    /// For `/ready`.
    pub outsides: Vec<(&'static str, Arc<Outside>)>,
}

impl Egress {
    /// Checks the configuration. From here on the outbox keeps the messages that are still to be sent.
    pub fn build(
        config: &Config,
        brokers: &Brokers,
        bus: &Arc<Bus>,
        services: &Arc<Services>,
        redis: &cluster_redis::Config,
    ) -> Result<Self, SetupError> {
        let mut sinks = Vec::new();
        let mut sink = |name: &'static str,
                        topics: &BTreeMap<String, String>,
                        system: &dyn Fn(Arc<Outside>) -> Result<System, SetupError>| {
            if topics.is_empty() {
                return Ok(());
            }
            let outside = Arc::new(Outside::new(name, services.metrics.exchange.sent_reconnects(name)));
            let system = system(outside.clone())?;
            let follower = bus.add_follower(PluginName::parse(&format!("egress-{name}"))?);
            bus.sends_out(topics.keys());
            let (bus, services, topics) = (bus.clone(), services.clone(), topics.clone());
            sinks.push(Sink { name, system, topics, follower, bus, services, outside, taken: HashSet::new(), measured_at: None });
            Ok::<_, SetupError>(())
        };
        sink("kafka", &config.kafka, &|outside| Ok(System::Kafka(Box::new(kafka::Sender::build(brokers, outside)?))))?;
        sink("redis", &config.redis, &|_| {
            let url = config.redis_url.as_ref().or(redis.url.as_ref()).ok_or(SetupError::NoRedis("egress.redis"))?;
            Ok(System::Redis(redis::Sender::build(url, redis.timeout, config.maxlen)?))
        })?;
        let outsides = sinks.iter().map(|sink| (sink.name, sink.outside.clone())).collect();
        Ok(Self { sinks, outsides })
    }

    /// Starts sending.
    pub fn start(self, tasks: &mut JoinSet<()>) {
        for sink in self.sinks {
            tasks.spawn(sink.run());
        }
    }
}

impl Sink {
    async fn run(mut self) {
        let _ends = match &mut self.system {
            System::Kafka(_) => None,
            System::Redis(sender) => Some(sender.connect().await),
        };
        let mut wait = RETRY.0;
        loop {
            if !self.bus.may_follow(&self.follower) {
                self.taken.clear();
                tokio::time::sleep(CHECK_INTERVAL).await;
                continue;
            }
            match self.step().await {
                Ok(()) => wait = RETRY.0,
                Err(why) => {
                    self.outside.missed(&why);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Sends the next rows and marks them as handled.
    async fn step(&mut self) -> Result<(), String> {
        let storage = |error: crate::storage::Unavailable| error.to_string();
        self.bus.resume_follower(&self.follower).await.map_err(storage)?;
        self.report_waiting().await;
        let rows = self.bus.next_rows(&self.follower, TOGETHER).await.map_err(storage)?;
        let Some(last) = rows.last().map(|row| row.seq) else {
            self.bus.wait_for_rows(&self.follower).await;
            return Ok(());
        };
        let deliveries: Vec<_> =
            rows.iter().filter_map(|row| self.delivery(row)).filter(|delivery| !self.taken.contains(&delivery.seq)).collect();
        let keep = !deliveries.is_empty() || !self.taken.is_empty();
        let (taken, failed) = self.send(&deliveries).await;
        self.taken.extend(taken);
        if let Some(why) = failed {
            return Err(why);
        }
        self.bus.advance_follower(&self.follower, last, keep).await.map_err(storage)?;
        self.taken.clear();
        Ok(())
    }

    /// Sends messages. Returns those that need no further attempt, and the error of the others, if any.
    async fn send(&self, deliveries: &[Delivery<'_>]) -> (Vec<u64>, Option<String>) {
        if deliveries.is_empty() {
            return (Vec::new(), None);
        }
        let results = match &self.system {
            System::Kafka(sender) => sender.send(deliveries, || self.bus.may_follow(&self.follower)).await,
            System::Redis(sender) => sender.send(deliveries).await,
        };
        let (mut taken, mut failed) = (Vec::new(), None);
        for (delivery, sent) in deliveries.iter().zip(results) {
            match sent {
                Sent::Taken => {
                    self.outside.found();
                    self.services.metrics.exchange.sent(self.name, delivery.message.address().1);
                    taken.push(delivery.seq);
                }
                Sent::Refused(why) => {
                    let mut message = delivery.message.clone();
                    message.topic = message.address().1.to_owned();
                    let stored = self.bus.to_dead_letters_for(&self.follower.name, message, why).await;
                    match stored {
                        Ok(()) => taken.push(delivery.seq),
                        Err(error) => drop(failed.get_or_insert(error.to_string())),
                    }
                }
                Sent::Failed(why) => drop(failed.get_or_insert(why)),
            }
        }
        (taken, failed)
    }

    fn delivery<'a>(&'a self, row: &'a OutboxRow) -> Option<Delivery<'a>> {
        let (to, topic) = row.message.address();
        let destination = self.topics.get(topic)?;
        let ours = to.is_none_or(|to| to == self.follower.name.as_str());
        ours.then_some(Delivery { seq: row.seq, destination, message: &row.message })
    }

    async fn report_waiting(&mut self) {
        if self.measured_at.is_some_and(|at| at.elapsed() < COUNT_WAITING.0) {
            return;
        }
        self.measured_at = Some(Instant::now());
        let mut waiting = 0;
        for topic in self.topics.keys() {
            waiting += self.bus.waiting_for(&self.follower, topic, COUNT_WAITING.1).await.unwrap_or(0);
        }
        self.services.metrics.exchange.waiting(self.name, waiting);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ingest(table: &str) -> ingest::Config {
        toml::from_str(table).unwrap()
    }

    #[test]
    fn a_loop_through_another_system_is_refused() {
        let egress: Config = toml::from_str("kafka = {\"a.b\" = \"out.a\"}\nredis = {\"c.d\" = \"out\"}").unwrap();
        egress.check(&ingest::Config::default()).unwrap();
        egress.check(&ingest("[kafka]\ntopics = [\"c.d\"]\n[streams]\nstreams = [\"in\"]")).unwrap();
        let round = [
            "[kafka]\ntopics = [\"a.b\"]",
            "[kafka]\ntopics = [\"out.a\"]",
            "[streams]\nstreams = [\"out\"]",
            "[streams.streams]\nother = \"c.d\"",
        ];
        for table in round {
            let error = egress.check(&ingest(table)).unwrap_err().to_string();
            assert!(error.contains("goes out to it as well"), "{error}");
        }
        assert_eq!(egress.to_kafka().into_iter().collect::<Vec<_>>(), ["a.b", "out.a"]);
    }
}
