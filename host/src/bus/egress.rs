//! Chosen topics of the bus, sent on to Kafka and to Redis Streams: in order, at least once, from the outbox, which keeps them while
//! the other system is away. Never holds up plugins, and never sends out what it takes in.

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
    /// Topics that go to Kafka, under both their names.
    pub fn to_kafka(&self) -> BTreeSet<String> {
        self.kafka.iter().flat_map(|(topic, there)| [topic.clone(), there.clone()]).collect()
    }

    /// Checks names and numbers, and that nothing goes round.
    pub fn check(&self, taken_in: &ingest::Config) -> Result<(), SetupError> {
        for (key, map) in [("egress.kafka", &self.kafka), ("egress.redis", &self.redis)] {
            if map.len() > MAX_TOPICS {
                return Err(SetupError::TooMany(key, map.len(), MAX_TOPICS));
            }
            for (topic, there) in map {
                names::check_topic(topic)?;
                names::check(key, there)?;
            }
        }
        let kafka: BTreeSet<String> = taken_in.kafka.topics.iter().flatten().cloned().collect();
        let looped = |sent: &BTreeMap<String, String>, taken: &BTreeSet<String>| {
            sent.iter().find(|(topic, there)| taken.contains(*topic) || taken.contains(*there)).map(|(topic, _)| topic.clone())
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

/// The most topics that go to one system.
const MAX_TOPICS: usize = 1000;

/// Rows that are read at a time, and sent as one.
const TOGETHER: usize = 256;

/// The first and the longest wait between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Between two looks at who sends.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at how much waits, and the number from which on it is not counted further.
const WAITING: (Duration, usize) = (Duration::from_secs(2), 100_000);

/// One message, and where it goes.
struct Parcel<'a> {
    seq: u64,
    there: &'a str,
    message: &'a OutboxMessage,
}

/// What came of a parcel that was sent.
enum Sent {
    Taken,
    /// It never will be: what is wrong with it.
    Refused(String),
    /// It may be, later.
    Failed(String),
}

/// Another system.
enum System {
    Kafka(Box<kafka::Sender>),
    Redis(redis::Sender),
}

/// What goes to one system.
pub struct Sink {
    name: &'static str,
    system: System,
    topics: BTreeMap<String, String>,
    follower: Arc<Follower>,
    bus: Arc<Bus>,
    services: Arc<Services>,
    outside: Arc<Outside>,
    /// Parcels of the rows at hand that were taken, where others were not.
    taken: HashSet<u64>,
    looked: Option<Instant>,
}

/// Everything that goes out.
pub struct Egress {
    ways: Vec<Sink>,
    /// For `/ready`.
    pub outsides: Vec<(&'static str, Arc<Outside>)>,
}

impl Egress {
    /// Checks what is configured. From here on the outbox keeps what is still to be sent.
    pub fn build(
        config: &Config,
        brokers: &Brokers,
        bus: &Arc<Bus>,
        services: &Arc<Services>,
        redis: &cluster_redis::Config,
    ) -> Result<Self, SetupError> {
        let mut ways = Vec::new();
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
            ways.push(Sink { name, system, topics, follower, bus, services, outside, taken: HashSet::new(), looked: None });
            Ok::<_, SetupError>(())
        };
        sink("kafka", &config.kafka, &|outside| Ok(System::Kafka(Box::new(kafka::Sender::build(brokers, outside)?))))?;
        sink("redis", &config.redis, &|_| {
            let url = config.redis_url.as_ref().or(redis.url.as_ref()).ok_or(SetupError::NoRedis("egress.redis"))?;
            Ok(System::Redis(redis::Sender::build(url, redis.timeout, config.maxlen)?))
        })?;
        let outsides = ways.iter().map(|sink| (sink.name, sink.outside.clone())).collect();
        Ok(Self { ways, outsides })
    }

    /// Begins to send.
    pub fn start(self, tasks: &mut JoinSet<()>) {
        for sink in self.ways {
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
                tokio::time::sleep(LOOK).await;
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

    /// The next rows: sent, and done with.
    async fn step(&mut self) -> Result<(), String> {
        let storage = |error: crate::storage::Unavailable| error.to_string();
        self.bus.take_up(&self.follower).await.map_err(storage)?;
        self.report_waiting().await;
        let rows = self.bus.rows_for(&self.follower, TOGETHER).await.map_err(storage)?;
        let Some(last) = rows.last().map(|row| row.seq) else {
            self.bus.more(&self.follower).await;
            return Ok(());
        };
        let parcels: Vec<_> =
            rows.iter().filter_map(|row| self.parcel(row)).filter(|parcel| !self.taken.contains(&parcel.seq)).collect();
        let keep = !parcels.is_empty() || !self.taken.is_empty();
        let (taken, failed) = self.send(&parcels).await;
        self.taken.extend(taken);
        if let Some(why) = failed {
            return Err(why);
        }
        self.bus.followed(&self.follower, last, keep).await.map_err(storage)?;
        self.taken.clear();
        Ok(())
    }

    /// Sends parcels: those that are done with, and why others are not, if any.
    async fn send(&self, parcels: &[Parcel<'_>]) -> (Vec<u64>, Option<String>) {
        if parcels.is_empty() {
            return (Vec::new(), None);
        }
        let came = match &self.system {
            System::Kafka(sender) => sender.send(parcels, || self.bus.may_follow(&self.follower)).await,
            System::Redis(sender) => sender.send(parcels).await,
        };
        let (mut taken, mut failed) = (Vec::new(), None);
        for (parcel, sent) in parcels.iter().zip(came) {
            match sent {
                Sent::Taken => {
                    self.outside.found();
                    self.services.metrics.exchange.sent(self.name, parcel.message.address().1);
                    taken.push(parcel.seq);
                }
                Sent::Refused(why) => {
                    let mut message = parcel.message.clone();
                    message.topic = message.address().1.to_owned();
                    let buried = self.bus.to_dead_letters_for(&self.follower.name, message, why).await;
                    match buried {
                        Ok(()) => taken.push(parcel.seq),
                        Err(error) => drop(failed.get_or_insert(error.to_string())),
                    }
                }
                Sent::Failed(why) => drop(failed.get_or_insert(why)),
            }
        }
        (taken, failed)
    }

    fn parcel<'a>(&'a self, row: &'a OutboxRow) -> Option<Parcel<'a>> {
        let (to, topic) = row.message.address();
        let there = self.topics.get(topic)?;
        let ours = to.is_none_or(|to| to == self.follower.name.as_str());
        ours.then_some(Parcel { seq: row.seq, there, message: &row.message })
    }

    async fn report_waiting(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < WAITING.0) {
            return;
        }
        self.looked = Some(Instant::now());
        let mut waiting = 0;
        for topic in self.topics.keys() {
            waiting += self.bus.waits_for(&self.follower, topic, WAITING.1).await.unwrap_or(0);
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
    fn what_would_go_round_is_refused_with_a_sentence() {
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
