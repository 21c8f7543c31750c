//! Kafka as a source: one consumer of a group. Offsets are stored when their records are in the outbox, and committed from there.
//! A record that is read again has the same id. Never commits an offset that is not accepted.

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
use super::{CHECK_INTERVAL, Ingest, LAG_INTERVAL, SetupError, Source};
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

/// The most topics that the configuration can list.
const MAX_TOPICS: usize = 1000;

/// How long the brokers have to answer a request about topics.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a stop waits for the consumer to leave its group; otherwise the other consumers wait for its session timeout.
const LEAVE: Duration = Duration::from_secs(2);

/// Records after which backpressure is checked again, before the second is over.
const CHECK_AFTER: usize = 1024;

/// A consumer's default settings, which the operator can override.
const DEFAULTS: [(&str, &str); 4] = [
    // A new group starts at the oldest record, so that earlier records are not lost.
    ("auto.offset.reset", "earliest"),
    ("auto.commit.interval.ms", "1000"),
    // The partitions of a node that is silent for this long go to another node.
    ("session.timeout.ms", "10000"),
    // Limit of prefetched records: 16 MiB over all partitions.
    ("queued.max.messages.kbytes", "16384"),
];

/// The consumer, not connected yet.
pub struct Kafka {
    settings: ClientConfig,
    config: Config,
    /// Topics that are read only if the configuration lists them.
    sent: BTreeSet<String>,
    ingest: Arc<Ingest>,
    pub(crate) source: Source,
}

/// A connected consumer.
struct Running {
    consumer: Leaving,
    config: Config,
    sent: BTreeSet<String>,
    ingest: Arc<Ingest>,
    source: Source,
    subscribed: BTreeSet<String>,
    positions: Positions,
    /// Whether each assigned partition is paused, as last set.
    paused: HashMap<(String, i32), bool>,
    brokers_checked_at: Option<Instant>,
    lag_reported_at: Instant,
    /// The version of the deployed plugins at the last check of the brokers.
    plugins: u64,
    unchecked: usize,
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
            // Stored offsets are committed, and only offsets of accepted records are stored.
            ("enable.auto.commit", "true"),
            ("enable.auto.offset.store", "false"),
        ];
        let settings = brokers.settings(&DEFAULTS, &ours)?;
        let (config, ingest, source) = (config.clone(), ingest.clone(), ingest.source("kafka")?);
        Ok(Some(Self { settings, config, sent, ingest, source }))
    }

    /// Reads until it is dropped.
    pub(crate) async fn run(self) {
        let Self { settings, config, sent, ingest, source } = self;
        let consumer = match StreamConsumer::from_config_and_context(&settings, Context::default()) {
            Ok(consumer) => Leaving(Some(Arc::new(consumer))),
            Err(error) => {
                // The settings were checked before: the operating system has no thread or memory left.
                tracing::error!("Kafka is not read until the next start: {error}");
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
            paused: HashMap::new(),
            brokers_checked_at: None,
            lag_reported_at: Instant::now(),
            plugins,
            unchecked: 0,
        };
        running.run().await;
    }
}

impl Running {
    async fn run(mut self) {
        let Some(consumer) = self.consumer.0.clone() else { return };
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                _ = checks.tick() => {
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
            self.unchecked += batch.len();
            self.ingest.accept(&self.source, batch).await;
            // Fails if the partition was reassigned: its new consumer reads the records again, with the same ids.
            let _ = consumer.store_offsets(&self.positions.accept());
            if self.unchecked >= CHECK_AFTER {
                self.pause_or_resume().await;
            }
        }
    }

    /// The first record, with those that are already available behind it.
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

    /// Runs once a second: checks the topics and the backpressure, and measures the lag.
    async fn check(&mut self) {
        let plugins = self.ingest.bus.plugins_version();
        let every = if self.source.outside.is_there() && !self.subscribed.is_empty() { self.config.look } else { CHECK_INTERVAL };
        let doubt = self.consumer.0.as_ref().is_some_and(|consumer| consumer.context().doubt.swap(false, Ordering::Relaxed));
        if doubt || plugins != self.plugins || self.brokers_checked_at.is_none_or(|at| at.elapsed() >= every) {
            self.plugins = plugins;
            self.brokers_checked_at = Some(Instant::now());
            self.subscribe().await;
        }
        self.pause_or_resume().await;
        if self.lag_reported_at.elapsed() >= LAG_INTERVAL {
            self.lag_reported_at = Instant::now();
            self.report_lag().await;
        }
    }

    /// After a rebalance: clears the metrics of the topics. The new owners of the partitions report them.
    fn forget(&mut self) {
        self.positions.forget();
        for ((topic, _), _) in self.paused.drain() {
            self.ingest.services.metrics.exchange.paused(self.source.name, &topic, false);
            self.ingest.services.metrics.exchange.lag(self.source.name, &topic, 0);
        }
    }

    async fn subscribe(&mut self) {
        let asked = self.ask(|consumer| {
            let metadata = consumer.fetch_metadata(None, ANSWER)?;
            Ok(metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| topic.name().to_owned()).collect())
        });
        let available: BTreeSet<String> = match asked.await {
            Ok(available) => available,
            Err(error) => return self.source.outside.missed(&error),
        };
        self.source.outside.found();
        let wanted: BTreeSet<String> = match &self.config.topics {
            Some(topics) => topics.iter().filter(|topic| available.contains(*topic)).cloned().collect(),
            None => self.ingest.bus.topics().into_iter().filter(|t| available.contains(t) && !self.sent.contains(t)).collect(),
        };
        if wanted == self.subscribed || wanted.is_empty() {
            return;
        }
        let Some(consumer) = &self.consumer.0 else { return };
        let topics: Vec<&str> = wanted.iter().map(String::as_str).collect();
        match consumer.subscribe(&topics) {
            Ok(()) => {
                tracing::info!(topics = wanted.len(), "reads from Kafka: {}", topics.join(", "));
                self.subscribed = wanted;
            }
            Err(error) => tracing::error!("the subscription to topics of Kafka failed: {error}"),
        }
    }

    /// Pauses partitions under backpressure, and resumes the others.
    async fn pause_or_resume(&mut self) {
        self.unchecked = 0;
        let Some(consumer) = self.consumer.0.clone() else { return };
        let Ok(ours) = consumer.assignment() else { return };
        let mut partitions: HashMap<String, Vec<i32>> = HashMap::new();
        for one in ours.elements() {
            partitions.entry(one.topic().to_owned()).or_default().push(one.partition());
        }
        let (mut hold, mut go) = (rdkafka::TopicPartitionList::new(), rdkafka::TopicPartitionList::new());
        for (topic, partitions) in partitions {
            let paused = !self.ingest.is_open(&self.source, &topic, &[topic.as_str()]).await;
            for partition in partitions {
                if self.paused.insert((topic.clone(), partition), paused) != Some(paused) {
                    let list = if paused { &mut hold } else { &mut go };
                    list.add_partition(&topic, partition);
                }
            }
        }
        let paused = if hold.count() > 0 { consumer.pause(&hold) } else { Ok(()) };
        let resumed = if go.count() > 0 { consumer.resume(&go) } else { Ok(()) };
        if let Err(error) = paused.and(resumed) {
            // The partitions were reassigned, or the next check tries again.
            tracing::debug!(target: "kafka", "{error}");
            self.paused.clear();
        }
    }

    async fn report_lag(&mut self) {
        let accepted = self.positions.accepted();
        let lags = match self.ask(move |consumer| positions::lag(consumer, &accepted, ANSWER)).await {
            Ok(lags) => lags,
            Err(error) => return tracing::debug!(target: "kafka", "{error}"),
        };
        for (topic, lag) in lags {
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

/// A consumer that leaves its group when it is dropped. The drop waits for the brokers, at most [`LEAVE`].
struct Leaving(Option<Arc<StreamConsumer<Context>>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let (left, leaving) = mpsc::sync_channel(1);
        let consumer = self.0.take();
        let thread = std::thread::Builder::new().name("kafka-leaves".to_owned()).spawn(move || {
            drop(consumer);
            // The receiver may have timed out.
            let _ = left.send(());
        });
        if thread.is_ok() {
            let _ = leaving.recv_timeout(LEAVE);
        }
    }
}
