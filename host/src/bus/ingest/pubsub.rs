//! Redis pub/sub as a source: `{event, data}` on channels. Redis stores no messages, so they are lost while this node is
//! disconnected from Redis, and on a cluster until another node has taken over. Two nodes never accept the same message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::Message;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::incoming::Incoming;
use super::{CHECK_INTERVAL, Ingest, SetupError, Source};
use crate::cluster::nodes;
use crate::cluster::redis::{self, Ends, Url};
use crate::storage::MAX_SET_WRITES;
use crate::{json, names};

/// `[ingest.pubsub]`: Redis pub/sub as a source of messages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The channels, by their full names, at most 64.
    pub channels: Vec<String>,
    /// Messages that may wait to be stored. Past it the oldest are lost. Metric: `ingest_rejected`.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { channels: Vec::new(), queue: 4096 }
    }
}

/// The most channels.
const MAX_CHANNELS: usize = 64;

/// The channels, before they are subscribed to.
pub struct Pubsub {
    client: Client,
    channels: Vec<String>,
    ingest: Arc<Ingest>,
    pub(crate) source: Source,
    /// How long another node waits before it takes over.
    lease: Duration,
    /// Until when this node holds the lease to read all channels.
    held_until: Option<Instant>,
}

/// The form of a message.
#[derive(Deserialize)]
struct Sent<'a> {
    event: Option<String>,
    topic: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    key: Option<String>,
    tenant: Option<String>,
    id: Option<String>,
    /// Not checked: a bad value is no reason to refuse the message.
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
}

/// `chat:accepted` of pub/sub is the topic `chat.accepted` of the bus.
pub(crate) fn topic_of(event: &str) -> String {
    event.replace(':', ".")
}

impl Pubsub {
    pub(crate) fn build(
        config: &Config,
        url: Option<&Url>,
        redis: &redis::Config,
        ingest: &Arc<Ingest>,
    ) -> Result<Option<Self>, SetupError> {
        if config.channels.is_empty() {
            return Ok(None);
        }
        if config.channels.len() > MAX_CHANNELS {
            return Err(SetupError::TooMany("ingest.pubsub.channels", config.channels.len(), MAX_CHANNELS));
        }
        if config.queue == 0 {
            return Err(SetupError::Zero("ingest.pubsub.queue"));
        }
        let named = |channel: &String| names::check("channel", channel).is_ok();
        if !config.channels.iter().all(named) {
            return Err(SetupError::Name("a channel of ingest.pubsub"));
        }
        let url = url.ok_or(SetupError::NoRedis("ingest.pubsub"))?;
        let client = redis::client(url, redis.timeout, config.queue)?;
        let (channels, ingest, source) = (config.channels.clone(), ingest.clone(), ingest.source("pubsub")?);
        Ok(Some(Self { client, channels, ingest, source, lease: redis.node_timeout, held_until: None }))
    }

    /// Reads until it is dropped.
    pub(crate) async fn run(mut self) {
        let (mut messages, mut reconnects) = (self.client.message_rx(), self.client.reconnect_rx());
        let connection = self.client.connect();
        let _ends = Ends(vec![connection.abort_handle()]);
        // A server that is not reachable yet is treated like a lost connection.
        let _ = tokio::time::timeout(CHECK_INTERVAL, self.client.wait_for_connect()).await;
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut subscribed = false;
        loop {
            let first = tokio::select! {
                _ = checks.tick() => {
                    self.hold().await;
                    if !subscribed {
                        subscribed = self.subscribe().await;
                    } else if let Err(error) = self.client.ping::<()>(None).await {
                        self.source.outside.missed(&error.details());
                    } else {
                        self.source.outside.found();
                    }
                    continue;
                }
                // A new connection has no subscriptions.
                _ = reconnects.recv() => {
                    subscribed = self.subscribe().await;
                    continue;
                }
                received = messages.recv() => match received {
                    Ok(message) => message,
                    Err(RecvError::Lagged(missed)) => {
                        self.lost(missed);
                        continue;
                    }
                    Err(RecvError::Closed) => return,
                },
            };
            let mut batch = vec![self.incoming(&first)];
            while batch.len() < MAX_SET_WRITES {
                match messages.try_recv() {
                    Ok(message) => batch.push(self.incoming(&message)),
                    Err(TryRecvError::Lagged(missed)) => self.lost(missed),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            if self.is_holder() {
                self.ingest.accept(&self.source, batch).await;
            }
        }
    }

    async fn subscribe(&self) -> bool {
        match self.client.subscribe(self.channels.clone()).await {
            Ok(()) => {
                self.source.outside.found();
                true
            }
            Err(error) => {
                self.source.outside.missed(&error.details());
                false
            }
        }
    }

    /// Acquires or renews the lease of the one node that reads.
    async fn hold(&mut self) {
        let Some(cluster) = &self.ingest.services.cluster else { return };
        let asked = Instant::now();
        let holds = cluster.nodes.hold(nodes::INGEST, self.lease).await;
        // If Redis does not answer, another node can get the lease only after it has expired.
        if let Ok(holds) = holds {
            self.held_until = holds.then_some(asked + self.lease);
        }
    }

    fn is_holder(&self) -> bool {
        self.ingest.services.cluster.is_none() || self.held_until.is_some_and(|until| Instant::now() < until)
    }

    fn lost(&self, missed: u64) {
        if self.is_holder() {
            tracing::warn!(missed, "messages of channels were lost: they arrived faster than they could be stored");
            self.ingest.services.metrics.exchange.rejected(self.source.name, "lost", missed);
        }
    }

    fn incoming(&self, message: &Message) -> Incoming {
        let now = self.ingest.now_ms();
        let own_id = self.ingest.services.ids.next(now);
        let bytes = message.value.as_bytes().unwrap_or_default();
        let text = str::from_utf8(bytes).map(json::well_formed).map_err(|_| "it is not UTF-8 text".to_owned());
        let sent = text.as_ref().map_err(String::clone);
        let sent = sent.and_then(|text| serde_json::from_str::<Sent<'_>>(text).map_err(|error| error.to_string()));
        let named = sent.and_then(|sent| match sent.topic.clone().or_else(|| sent.event.as_deref().map(topic_of)) {
            Some(topic) => Ok((topic, sent)),
            None => Err("it has neither `topic` nor `event`".to_owned()),
        });
        match named {
            Ok((topic, sent)) => Incoming {
                topic,
                key: sent.key.map(String::into_bytes),
                tenant: sent.tenant,
                id: sent.id.unwrap_or(own_id),
                data: sent.data.get().as_bytes().to_vec(),
                at_ms: now,
                trace: sent.traceparent.and_then(|json| json.get().trim_matches('"').parse().ok()),
                wrong: None,
            },
            Err(wrong) => Incoming {
                topic: message.channel.to_string(),
                id: own_id,
                data: bytes.to_vec(),
                at_ms: now,
                wrong: Some(wrong),
                ..Incoming::default()
            },
        }
    }
}
