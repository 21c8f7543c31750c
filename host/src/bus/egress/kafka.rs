//! Sends to Kafka: one request at a time, acknowledged by all replicas, so that the order holds over retries. Does not choose the
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::{CHECK_INTERVAL, Delivery, Sent};
use crate::bus::ingest::SetupError;
use crate::bus::ingest::kafka::Brokers;
use crate::bus::ingest::kafka::client::Context;
use crate::bus::ingest::outside::Outside;
use crate::telemetry::traces::TRACEPARENT;

/// Settings that order and durability depend on.
const OURS: [(&str, &str); 4] = [
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "1"),
    // Records never expire: otherwise a later record could be sent first.
    ("message.timeout.ms", "0"),
    // Batches are sent without delay.
    ("linger.ms", "0"),
];

/// Records that wait in memory for the brokers: more than one batch.
const DEFAULTS: [(&str, &str); 1] = [("queue.buffering.max.messages", "1024")];

/// The producer, created on first use.
pub(crate) struct Sender {
    settings: ClientConfig,
    outside: Arc<Outside>,
    doubt: Arc<AtomicBool>,
    producer: std::sync::OnceLock<FutureProducer<Context>>,
}

impl Sender {
    pub(crate) fn build(brokers: &Brokers, outside: Arc<Outside>) -> Result<Self, SetupError> {
        if brokers.brokers.is_empty() {
            return Err(SetupError::Kafka("egress.kafka sends there, and no brokers are named: set KAFKA_BROKERS".to_owned()));
        }
        let settings = brokers.settings(&DEFAULTS, &OURS)?;
        Ok(Self { settings, outside, doubt: Arc::default(), producer: std::sync::OnceLock::new() })
    }

    fn producer(&self) -> Result<&FutureProducer<Context>, KafkaError> {
        if let Some(producer) = self.producer.get() {
            return Ok(producer);
        }
        let context = Context { doubt: self.doubt.clone(), ..Context::default() };
        let made = FutureProducer::from_config_and_context(&self.settings, context)?;
        Ok(self.producer.get_or_init(|| made))
    }

    /// Sends messages in order. Waits without a limit, unless another node becomes the sender.
    pub(crate) async fn send(&self, deliveries: &[Delivery<'_>], may_send: impl Fn() -> bool) -> Vec<Sent> {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return deliveries.iter().map(|_| Sent::Failed(error.to_string())).collect(),
        };
        let queued: Vec<_> =
            deliveries.iter().map(|delivery| producer.send_result(record(delivery)).map_err(|(error, _)| error)).collect();
        let mut answers = std::pin::pin!(future::join_all(queued.into_iter().map(|queued| async move {
            match queued {
                Err(error) => outcome(Err(error)),
                Ok(delivery) => match delivery.await {
                    Ok(answer) => outcome(answer.map(drop).map_err(|(error, _)| error)),
                    Err(_) => Sent::Failed("the producer was closed".to_owned()),
                },
            }
        })));
        loop {
            tokio::select! {
                results = &mut answers => return results,
                () = tokio::time::sleep(CHECK_INTERVAL) => {
                    if self.doubt.swap(false, Ordering::Relaxed) {
                        self.outside.missed(&"no broker answers");
                    }
                    if !may_send() {
                        // Another node sends them; each is answered now, mostly as failed.
                        producer.purge(PurgeConfig::default().queue().inflight());
                    }
                }
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Unsent messages stay in the outbox: a stop does not wait for brokers.
        if let Some(producer) = self.producer.get() {
            producer.purge(PurgeConfig::default().queue().inflight());
            // The results are not used; the producer needs a moment to drain its queue.
            let _ = producer.flush(Duration::from_millis(100));
        }
    }
}

fn record<'a>(delivery: &Delivery<'a>) -> FutureRecord<'a, str, str> {
    let message = delivery.message;
    let header = |headers: OwnedHeaders, key: &str, value: &str| headers.insert(Header { key, value: Some(value) });
    let mut headers = header(OwnedHeaders::new(), "id", &message.id);
    headers = header(headers, "topic", message.address().1);
    if let Some(tenant) = &message.tenant {
        headers = header(headers, "tenant", tenant);
    }
    if let Some(trace) = &message.trace {
        headers = header(headers, TRACEPARENT, trace);
    }
    let record = FutureRecord::to(delivery.destination).payload(message.data.as_str()).headers(headers);
    let record = record.timestamp(i64::try_from(message.at_ms).unwrap_or_default());
    match &message.key {
        Some(key) => record.key(key.as_str()),
        None => record,
    }
}

fn outcome(answer: Result<(), KafkaError>) -> Sent {
    let Err(error) = answer else { return Sent::Taken };
    match error.rdkafka_error_code() {
        // Errors of the record itself: another attempt would fail as well.
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize | RDKafkaErrorCode::InvalidRecord) => {
            Sent::Refused(error.to_string())
        }
        _ => Sent::Failed(error.to_string()),
    }
}
