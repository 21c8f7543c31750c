//! Sends to Kafka: one request at a time and acknowledged by all replicas, so that order holds over retries. Decides nothing of what
//! is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _, PurgeConfig};

use super::{LOOK, Parcel, Sent};
use crate::bus::ingest::SetupError;
use crate::bus::ingest::kafka::Brokers;
use crate::bus::ingest::kafka::client::Context;
use crate::bus::ingest::outside::Outside;
use crate::telemetry::traces::TRACEPARENT;

/// What order and durability rest on.
const OURS: [(&str, &str); 4] = [
    ("acks", "all"),
    ("max.in.flight.requests.per.connection", "1"),
    // A record never expires: the one behind it would be sent before it.
    ("message.timeout.ms", "0"),
    // A batch is sent when it is there.
    ("linger.ms", "0"),
];

/// Records that wait in memory for the brokers: more than one batch.
const DEFAULTS: [(&str, &str); 1] = [("queue.buffering.max.messages", "1024")];

/// The producer, made when it is first needed.
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

    /// Sends parcels in their order, and waits for as long as it takes, unless this node is the sender no longer.
    pub(crate) async fn send(&self, parcels: &[Parcel<'_>], may_send: impl Fn() -> bool) -> Vec<Sent> {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return parcels.iter().map(|_| Sent::Failed(error.to_string())).collect(),
        };
        let queued: Vec<_> =
            parcels.iter().map(|parcel| producer.send_result(record(parcel)).map_err(|(error, _)| error)).collect();
        let mut answers = std::pin::pin!(future::join_all(queued.into_iter().map(|queued| async move {
            match queued {
                Err(error) => outcome(Err(error)),
                Ok(delivery) => match delivery.await {
                    Ok(answer) => outcome(answer.map(drop).map_err(|(error, _)| error)),
                    Err(_) => Sent::Failed("the producer has gone".to_owned()),
                },
            }
        })));
        loop {
            tokio::select! {
                came = &mut answers => return came,
                () = tokio::time::sleep(LOOK) => {
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
        // What is not sent stays in the outbox: a stop waits for no broker.
        if let Some(producer) = self.producer.get() {
            producer.purge(PurgeConfig::default().queue().inflight());
            // Its answers are for nobody; a moment for it to see that there is nothing left.
            let _ = producer.flush(Duration::from_millis(100));
        }
    }
}

fn record<'a>(parcel: &Parcel<'a>) -> FutureRecord<'a, str, str> {
    let message = parcel.message;
    let header = |headers: OwnedHeaders, key: &str, value: &str| headers.insert(Header { key, value: Some(value) });
    let mut headers = header(OwnedHeaders::new(), "id", &message.id);
    headers = header(headers, "topic", message.address().1);
    if let Some(tenant) = &message.tenant {
        headers = header(headers, "tenant", tenant);
    }
    if let Some(trace) = &message.trace {
        headers = header(headers, TRACEPARENT, trace);
    }
    let record = FutureRecord::to(parcel.there).payload(message.data.as_str()).headers(headers);
    let record = record.timestamp(i64::try_from(message.at_ms).unwrap_or_default());
    match &message.key {
        Some(key) => record.key(key.as_str()),
        None => record,
    }
}

fn outcome(answer: Result<(), KafkaError>) -> Sent {
    let Err(error) = answer else { return Sent::Taken };
    match error.rdkafka_error_code() {
        // These are about the record, and another try has the same answer.
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize | RDKafkaErrorCode::InvalidRecord) => {
            Sent::Refused(error.to_string())
        }
        _ => Sent::Failed(error.to_string()),
    }
}
