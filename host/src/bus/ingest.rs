//! Messages from other systems: those of Kafka and Redis are accepted into the outbox like a backend's, and only then
//! acknowledged to the source. Never acknowledges a message that is not stored, and never lets one bad message block those behind
//! it.

pub mod incoming;
pub mod kafka;
pub mod outside;
pub mod pubsub;
pub mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{Backpressure, Bus};
use crate::cluster::redis;
use crate::names::{InvalidName, PluginName};
use crate::storage::{MAX_SET_BYTES, MAX_SET_WRITES, OutboxMessage};
use crate::telemetry::traces::{Kind, Span};
use crate::transaction::services::Services;
use incoming::Incoming;
use outside::Outside;

/// `[ingest]`: messages from other systems.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Messages of a topic that may wait for its plugins. Past it no more are read, and the rest waits at its source; messages of
    /// pub/sub cannot wait, and are stored all the same. Metric: `ingest_paused`.
    pub backlog: usize,
    /// The Redis of the streams and channels. Default: `redis.url`.
    pub redis_url: Option<redis::Url>,
    pub kafka: kafka::Config,
    pub streams: streams::Config,
    pub pubsub: pubsub::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backlog: 10_000,
            redis_url: None,
            kafka: kafka::Config::default(),
            streams: streams::Config::default(),
            pubsub: pubsub::Config::default(),
        }
    }
}

/// Why the configuration of ingest or egress is refused.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("kafka: {0}")]
    Kafka(String),
    #[error("{0} uses Redis, but no url is set: set redis.url (REDIS_URL) or its own")]
    NoRedis(&'static str),
    #[error("{0} must be greater than 0")]
    Zero(&'static str),
    #[error("{0} has {1} entries; at most {2}")]
    TooMany(&'static str, usize, usize),
    #[error("{0} is empty, or over 256 bytes, or has a control character")]
    Name(&'static str),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    #[error("the topic {0} comes in from {1} and goes out to it as well: messages would loop. Remove it from one of them")]
    Loop(String, &'static str),
}

/// The first and the longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The time between two checks of which topics accept messages.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The time between two attempts to reach a source.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The time between two measurements of a source's lag.
const LAG_INTERVAL: Duration = Duration::from_secs(2);

/// Accepts messages of all sources.
pub struct Ingest {
    bus: Arc<Bus>,
    services: Arc<Services>,
    writer: PluginName,
    backlog: usize,
    /// Whether storage refused the last attempt.
    refused: AtomicBool,
}

/// A source, with its name in metrics and dead letters.
pub struct Source {
    pub name: &'static str,
    letters: PluginName,
    pub outside: Arc<Outside>,
}

/// The configured sources, before they are started.
pub struct Sources {
    kafka: Option<kafka::Kafka>,
    streams: Option<streams::Streams>,
    pubsub: Option<pubsub::Pubsub>,
    /// For `/ready`.
    pub outsides: Vec<(&'static str, Arc<Outside>)>,
}

impl Sources {
    /// Checks the configuration. Nothing connects before `start`. `sent` are the topics that are sent to Kafka, under both names:
    /// they are read only if the configuration lists them.
    pub fn build(
        config: &Config,
        brokers: &kafka::Brokers,
        sent: BTreeSet<String>,
        bus: &Arc<Bus>,
        services: &Arc<Services>,
        redis: &redis::Config,
        writer: &PluginName,
    ) -> Result<Self, SetupError> {
        if config.backlog == 0 {
            return Err(SetupError::Zero("ingest.backlog"));
        }
        let (bus, services, writer) = (bus.clone(), services.clone(), writer.clone());
        let ingest = Arc::new(Ingest { bus, services, writer, backlog: config.backlog, refused: AtomicBool::new(false) });
        let kafka = kafka::Kafka::build(&config.kafka, brokers, sent, &ingest)?;
        let url = config.redis_url.as_ref().or(redis.url.as_ref());
        let streams = streams::Streams::build(&config.streams, url, redis, &ingest)?;
        let pubsub = pubsub::Pubsub::build(&config.pubsub, url, redis, &ingest)?;
        let of = |source: &Source| (source.name, source.outside.clone());
        let outsides = kafka.iter().map(|kafka| of(&kafka.source));
        let outsides = outsides.chain(streams.iter().map(|streams| of(&streams.source)));
        let outsides = outsides.chain(pubsub.iter().map(|pubsub| of(&pubsub.source))).collect();
        Ok(Self { kafka, streams, pubsub, outsides })
    }

    /// Starts reading.
    pub fn start(self, tasks: &mut JoinSet<()>) {
        self.kafka.map(|kafka| tasks.spawn(kafka.run()));
        self.streams.map(|streams| tasks.spawn(streams.run()));
        self.pubsub.map(|pubsub| tasks.spawn(pubsub.run()));
    }
}

impl Ingest {
    fn source(&self, name: &'static str) -> Result<Source, SetupError> {
        let outside = Arc::new(Outside::new(name, self.services.metrics.exchange.reconnects(name)));
        Ok(Source { name, letters: PluginName::parse(&format!("ingest-{name}"))?, outside })
    }

    /// Accepts messages in order: on return each is in the outbox or among the dead letters. Waits while storage refuses.
    async fn accept(&self, source: &Source, batch: Vec<Incoming>) {
        // Without tracing no span is kept.
        let (mut set, mut spans, mut bytes) = (Vec::new(), Vec::new(), 0);
        for incoming in batch {
            let span = self.services.tracer.follow_or_begin(incoming.trace, Kind::Producer, "publish");
            span.iter().for_each(|span| span.text("hubbub.source", source.name));
            match incoming.into_message() {
                Ok(mut message) => {
                    let size = message.bytes();
                    if set.len() == MAX_SET_WRITES || bytes + size > MAX_SET_BYTES {
                        self.publish(source, std::mem::take(&mut set), std::mem::take(&mut spans)).await;
                        bytes = 0;
                    }
                    bytes += size;
                    if let Some(span) = span {
                        span.text("hubbub.topic", &message.topic);
                        message.trace = Some(span.parent().to_string());
                        spans.push(span);
                    }
                    set.push(message);
                }
                Err(rejected) => {
                    span.iter().for_each(|span| span.outcome(rejected.reason, true));
                    self.services.metrics.exchange.rejected(source.name, rejected.reason, 1);
                    let to_dead_letters =
                        || self.bus.to_dead_letters_for(&source.letters, rejected.message.clone(), rejected.error.clone());
                    self.until_taken(to_dead_letters).await;
                }
            }
        }
        if !set.is_empty() {
            self.publish(source, set, spans).await;
        }
    }

    async fn publish(&self, source: &Source, set: Vec<OutboxMessage>, spans: Vec<Span>) {
        self.until_taken(|| self.bus.publish(&self.writer, set.clone())).await;
        spans.iter().for_each(|span| span.outcome("ok", false));
        set.iter().for_each(|message| self.services.metrics.exchange.accepted(source.name, &message.topic));
    }

    /// Retries until storage accepts it.
    async fn until_taken<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(&self, attempt: impl Fn() -> F) {
        let mut wait = RETRY.0;
        while let Err(error) = attempt().await {
            if !self.refused.swap(true, Ordering::Relaxed) {
                tracing::error!("a message cannot be stored, and waits at its source: {error}");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
        if self.refused.swap(false, Ordering::Relaxed) {
            tracing::info!("incoming messages are stored again");
        }
    }

    /// Whether these topics accept more messages. The result is also reported in a metric under `label`.
    async fn is_open(&self, source: &Source, label: &str, topics: &[&str]) -> bool {
        let mut open = true;
        for topic in topics {
            // If storage does not answer, pausing does not help: the next batch waits to be stored.
            let backpressure = self.bus.backpressure(topic, self.backlog).await.unwrap_or(Backpressure::Open);
            if backpressure != Backpressure::Open {
                tracing::debug!(source = source.name, topic, ?backpressure, "left at its source");
                open = false;
            }
        }
        self.services.metrics.exchange.paused(source.name, label, !open);
        open
    }

    /// Whether this node reads a source that only one node may read.
    fn is_mine(&self, what: &str) -> bool {
        self.services.cluster.as_ref().is_none_or(|cluster| cluster.nodes.is_mine(what))
    }

    fn now_ms(&self) -> u64 {
        self.services.clock.now_ms()
    }
}
