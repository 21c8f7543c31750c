//! Kafka as a source: one consumer of a group, whose offsets are stored when their records are in the outbox, and committed from
//! there. A record that comes again has the id it had before. Never commits what is not accepted.

pub mod client;
mod positions;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use schemars::JsonSchema;
use serde::Deserialize;

use super::incoming::Incoming;
use super::{Ingest, LAG, LOOK, SetupError, Source};
use crate::names;
use crate::storage::{MAX_SET_BYTES, MAX_SET_WRITES};
use crate::telemetry::traces::{TRACEPARENT, TraceParent};
pub use client::Brokers;
use client::Context;
use positions::Positions;

/// `[ingest.kafka]`: Kafka as a source of messages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The consumer group: one for all nodes of a product. A new group begins with the oldest message.
    pub group: String,
    /// The topics to read, at most 1000. A topic has the same name on the bus. `[]` means none. Default: the topics that deployed
    /// plugins listen to and that Kafka has, except those that `[egress]` sends to Kafka.
    pub topics: Option<Vec<String>>,
    /// The time between two checks of which topics Kafka has.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub look: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { group: "hubbub".into(), topics: None, look: Duration::from_secs(30) }
    }
}

/// The most topics that can be listed.
const MAX_TOPICS: usize = 1000;

/// How long the brokers have to answer what is asked about topics.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a stop waits for the group to be left; without that, others wait for the session to time out.
const LEAVE: Duration = Duration::from_secs(2);

/// Records taken in after which somebody looks whether more are welcome, before the second is over.
const UNSEEN: usize = 1024;

/// A consumer's settings, below the operator's.
const DEFAULTS: [(&str, &str); 4] = [
    // A new group begins with all that is there: what was sent before it is not lost.
    ("auto.offset.reset", "earliest"),
    ("auto.commit.interval.ms", "1000"),
    // A node that is silent for so long has its partitions taken over.
    ("session.timeout.ms", "10000"),
    // Of records fetched ahead. 16 MiB, however many partitions there are.
    ("queued.max.messages.kbytes", "16384"),
];

/// The consumer, not connected yet.
pub struct Kafka {
    settings: ClientConfig,
    config: Config,
    /// Never taken in unasked.
    sent: BTreeSet<String>,
    ingest: Arc<Ingest>,
    pub(crate) source: Source,
}

/// One that is connected.
struct Running {
    consumer: Leaving,
    config: Config,
    sent: BTreeSet<String>,
    ingest: Arc<Ingest>,
    source: Source,
    subscribed: BTreeSet<String>,
    positions: Positions,
    /// Whether each partition of ours is held back, as it was last set.
    held: HashMap<(String, i32), bool>,
    looked_at_brokers: Option<Instant>,
    looked_at_lag: Instant,
    /// The deployed plugins, as of the last look at the brokers.
    plugins: u64,
    unseen: usize,
}

impl Kafka {
    pub(crate) fn build(
        config: &Config,
        brokers: &Brokers,
        sent: BTreeSet<String>,
        ingest: &Arc<Ingest>,
    ) -> Result<Option<Self>, SetupError> {
        let nothing = config.topics.as_ref().is_some_and(Vec::is_empty);
        if brokers.brokers.is_empty() || nothing {
            return Ok(None);
        }
        names::check("group", &config.group).map_err(|_| SetupError::Name("ingest.kafka.group"))?;
        let topics = config.topics.as_deref().unwrap_or_default();
        if topics.len() > MAX_TOPICS {
            return Err(SetupError::TooMany("ingest.kafka.topics", topics.len(), MAX_TOPICS));
        }
        topics.iter().try_for_each(|topic| names::check_topic(topic))?;
        let ours = [
            ("group.id", config.group.as_str()),
            // Committed is what is stored, and stored is what is accepted.
            ("enable.auto.commit", "true"),
            ("enable.auto.offset.store", "false"),
        ];
        let settings = brokers.settings(&DEFAULTS, &ours)?;
        let (config, ingest, source) = (config.clone(), ingest.clone(), ingest.source("kafka")?);
        Ok(Some(Self { settings, config, sent, ingest, source }))
    }

    /// Takes in until it is dropped.
    pub(crate) async fn run(self) {
        let Self { settings, config, sent, ingest, source } = self;
        let consumer = match StreamConsumer::from_config_and_context(&settings, Context::default()) {
            Ok(consumer) => Leaving(Some(Arc::new(consumer))),
            Err(error) => {
                // Its settings were found to hold: the system gives no thread, or no memory.
                tracing::error!("nothing is taken in from Kafka until the next start: {error}");
                return;
            }
        };
        let plugins = ingest.bus.plugins_version();
        let running = Running {
            consumer,
            config,
            sent,
            ingest,
            source,
            subscribed: BTreeSet::new(),
            positions: Positions::default(),
            held: HashMap::new(),
            looked_at_brokers: None,
            looked_at_lag: Instant::now(),
            plugins,
            unseen: 0,
        };
        running.run().await;
    }
}

impl Running {
    async fn run(mut self) {
        let Some(consumer) = self.consumer.0.clone() else { return };
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                _ = looks.tick() => {
                    self.check().await;
                    continue;
                }
                () = consumer.context().moved.notified() => {
                    self.forget();
                    self.pause_or_resume().await;
                    continue;
                }
                received = consumer.recv() => match received {
                    Ok(record) => self.incoming(&record),
                    Err(error) => {
                        tracing::debug!(target: "kafka", "{error}");
                        continue;
                    }
                },
            };
            let batch = self.gather(&consumer, first);
            self.source.outside.found();
            self.unseen += batch.len();
            self.ingest.accept(&self.source, batch).await;
            // For a partition that is somebody else's by now there is nothing to store: he has it come again, under the same ids.
            let _ = consumer.store_offsets(&self.positions.accept());
            if self.unseen >= UNSEEN {
                self.pause_or_resume().await;
            }
        }
    }

    /// What is there already, behind the first.
    fn gather(&mut self, consumer: &StreamConsumer<Context>, first: Incoming) -> Vec<Incoming> {
        let mut bytes = first.data.len();
        let mut batch = vec![first];
        while batch.len() < MAX_SET_WRITES && bytes < MAX_SET_BYTES {
            let Some(Ok(record)) = consumer.recv().now_or_never() else { break };
            let incoming = self.incoming(&record);
            bytes += incoming.data.len();
            batch.push(incoming);
        }
        batch
    }

    fn incoming(&mut self, record: &BorrowedMessage<'_>) -> Incoming {
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        self.positions.read(topic, partition, offset);
        let bytes = |name: &str| record.headers()?.iter().find(|header| header.key == name)?.value;
        let header = |name: &str| Some(String::from_utf8_lossy(bytes(name)?).into_owned());
        let now = self.ingest.now_ms();
        let at = record.timestamp().to_millis().and_then(|at| u64::try_from(at).ok()).filter(|at| *at > 0);
        Incoming {
            topic: topic.to_owned(),
            key: record.key().map(<[u8]>::to_vec),
            tenant: header("tenant"),
            id: header("id").unwrap_or_else(|| format!("kafka:{topic}:{partition}:{offset}")),
            data: record.payload().unwrap_or_default().to_vec(),
            at_ms: at.unwrap_or(now),
            trace: bytes(TRACEPARENT).and_then(TraceParent::read),
            wrong: None,
        }
    }

    /// Once a second: which topics there are, which are welcome, how much waits.
    async fn check(&mut self) {
        let plugins = self.ingest.bus.plugins_version();
        let every = if self.source.outside.is_there() && !self.subscribed.is_empty() { self.config.look } else { LOOK };
        let doubt = self.consumer.0.as_ref().is_some_and(|consumer| consumer.context().doubt.swap(false, Ordering::Relaxed));
        if doubt || plugins != self.plugins || self.looked_at_brokers.is_none_or(|at| at.elapsed() >= every) {
            self.plugins = plugins;
            self.looked_at_brokers = Some(Instant::now());
            self.subscribe().await;
        }
        self.pause_or_resume().await;
        if self.looked_at_lag.elapsed() >= LAG {
            self.looked_at_lag = Instant::now();
            self.report_lag().await;
        }
    }

    /// Partitions are others than before: what was told of topics is told anew, by whoever has them now.
    fn forget(&mut self) {
        self.positions.forget();
        for ((topic, _), _) in self.held.drain() {
            self.ingest.services.metrics.exchange.paused(self.source.name, &topic, false);
            self.ingest.services.metrics.exchange.lag(self.source.name, &topic, 0);
        }
    }

    async fn subscribe(&mut self) {
        let asked = self.ask(|consumer| {
            let metadata = consumer.fetch_metadata(None, ANSWER)?;
            Ok(metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| topic.name().to_owned()).collect())
        });
        let there: BTreeSet<String> = match asked.await {
            Ok(there) => there,
            Err(error) => return self.source.outside.missed(&error),
        };
        self.source.outside.found();
        let wanted: BTreeSet<String> = match &self.config.topics {
            Some(topics) => topics.iter().filter(|topic| there.contains(*topic)).cloned().collect(),
            None => self.ingest.bus.topics().into_iter().filter(|t| there.contains(t) && !self.sent.contains(t)).collect(),
        };
        if wanted == self.subscribed || wanted.is_empty() {
            return;
        }
        let Some(consumer) = &self.consumer.0 else { return };
        let topics: Vec<&str> = wanted.iter().map(String::as_str).collect();
        match consumer.subscribe(&topics) {
            Ok(()) => {
                tracing::info!(topics = wanted.len(), "taken in from Kafka: {}", topics.join(", "));
                self.subscribed = wanted;
            }
            Err(error) => tracing::error!("topics of Kafka cannot be subscribed to: {error}"),
        }
    }

    /// Holds partitions back, or lets them go on.
    async fn pause_or_resume(&mut self) {
        self.unseen = 0;
        let Some(consumer) = self.consumer.0.clone() else { return };
        let Ok(ours) = consumer.assignment() else { return };
        let mut partitions: HashMap<String, Vec<i32>> = HashMap::new();
        for one in ours.elements() {
            partitions.entry(one.topic().to_owned()).or_default().push(one.partition());
        }
        let (mut hold, mut go) = (rdkafka::TopicPartitionList::new(), rdkafka::TopicPartitionList::new());
        for (topic, partitions) in partitions {
            let held = !self.ingest.is_accepted(&self.source, &topic, &[topic.as_str()]).await;
            for partition in partitions {
                if self.held.insert((topic.clone(), partition), held) != Some(held) {
                    let list = if held { &mut hold } else { &mut go };
                    list.add_partition(&topic, partition);
                }
            }
        }
        let held = if hold.count() > 0 { consumer.pause(&hold) } else { Ok(()) };
        let gone = if go.count() > 0 { consumer.resume(&go) } else { Ok(()) };
        if let Err(error) = held.and(gone) {
            // They have been given to somebody else meanwhile, or it is tried again.
            tracing::debug!(target: "kafka", "{error}");
            self.held.clear();
        }
    }

    async fn report_lag(&mut self) {
        let accepted = self.positions.accepted();
        let told = match self.ask(move |consumer| positions::lag(consumer, &accepted, ANSWER)).await {
            Ok(told) => told,
            Err(error) => return tracing::debug!(target: "kafka", "{error}"),
        };
        for (topic, lag) in told {
            self.ingest.services.metrics.exchange.lag(self.source.name, &topic, lag);
        }
    }

    /// Asks the brokers, on a thread that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&StreamConsumer<Context>) -> rdkafka::error::KafkaResult<T> + Send + 'static,
    ) -> Result<T, String> {
        let Some(consumer) = self.consumer.0.clone() else { return Err("it is closed".to_owned()) };
        let asked = tokio::task::spawn_blocking(move || ask(&consumer).map_err(|error| error.to_string()));
        asked.await.map_err(|error| error.to_string())?
    }
}

/// A consumer that leaves its group when it is dropped, which waits for the brokers: not for longer than [`LEAVE`].
struct Leaving(Option<Arc<StreamConsumer<Context>>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let (left, leaving) = mpsc::sync_channel(1);
        let consumer = self.0.take();
        let thread = std::thread::Builder::new().name("kafka-leaves".to_owned()).spawn(move || {
            drop(consumer);
            // Nobody waits any more: all the better.
            let _ = left.send(());
        });
        if thread.is_ok() {
            let _ = leaving.recv_timeout(LEAVE);
        }
    }
}
