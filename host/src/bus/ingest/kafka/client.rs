//! The librdkafka client: the brokers' addresses, whether they answer, and its log lines as the host's. Does not handle records.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::sync::Notify;

use crate::bus::ingest::SetupError;

/// `[kafka]`: the connection to Kafka, for `[ingest.kafka]` and `[egress]`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Brokers {
    /// The first brokers to connect to, as `host:port`, with commas between them. The variable `KAFKA_BROKERS` overrides it.
    /// Empty means no Kafka.
    pub brokers: String,
    /// Settings of librdkafka, such as `security.protocol`, `sasl.username` or `session.timeout.ms`, except those that decide
    /// what is acknowledged. TLS and SCRAM need a server that was built with the feature `kafka-tls`.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub properties: BTreeMap<String, Property>,
}

impl fmt::Debug for Brokers {
    // Properties hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.keys().collect();
        f.debug_struct("Brokers").field("brokers", &self.brokers).field("properties", &names).finish()
    }
}

/// A setting's value as text, in any notation of the file. The value of a variable is not parsed: it may be a password of digits.
#[derive(Clone)]
pub struct Property(String);

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyScalar;

        impl Visitor<'_> for AnyScalar {
            type Value = Property;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Property, E> {
                Ok(Property(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Property, E> {
                Ok(Property(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Property, E> {
                Ok(Property(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Property, E> {
                Ok(Property(flag.to_string()))
            }
        }

        from.deserialize_str(AnyScalar)
    }
}

/// Settings that delivery guarantees depend on, or that have configuration keys of their own.
const OURS: [&str; 7] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "acks",
    "max.in.flight.requests.per.connection",
];

impl Brokers {
    /// A client's settings, in rising precedence: `defaults`, the operator's, `ours`.
    pub fn settings(&self, defaults: &[(&str, &str)], ours: &[(&str, &str)]) -> Result<ClientConfig, SetupError> {
        if let Some(key) = self.properties.keys().find(|key| OURS.contains(&key.as_str())) {
            return Err(SetupError::Kafka(format!("`{key}` is not to be set under kafka.properties")));
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "hubbub");
        // Reconnects soon after the brokers are back.
        config.set("reconnect.backoff.max.ms", "2000").set("allow.auto.create.topics", "false");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.properties {
            config.set(key, &value.0);
        }
        for (key, value) in ours {
            config.set(*key, *value);
        }
        // The log filter selects the lines; the property `debug` decides which are written at all.
        config.set_log_level(RDKafkaLogLevel::Debug);
        // Invalid settings are reported now, not when the first client is created.
        config.create_native_config().map_err(|error| SetupError::Kafka(without_values(error)))?;
        Ok(config)
    }
}

/// The error of a setting. The messages of librdkafka quote the value, which may be a password.
fn without_values(error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, said, key, _) if said.starts_with("No such configuration property") => {
            format!("librdkafka has no property `{key}` (kafka.properties)")
        }
        KafkaError::ClientConfig(_, _, key, _) => format!("librdkafka does not accept the value of `{key}` (kafka.properties)"),
        other => other.to_string(),
    }
}

/// The context that receives librdkafka's callbacks.
#[derive(Default)]
pub struct Context {
    /// Notified when this node is assigned partitions, or loses some.
    pub moved: Notify,
    /// Set when librdkafka reports that no broker answers. This may no longer hold when it is read.
    pub doubt: Arc<AtomicBool>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        use RDKafkaLogLevel as Level;
        match level {
            // The host reports once whether brokers answer.
            _ if ["FAIL", "ERROR"].contains(&facility) => tracing::debug!(target: "kafka", facility, "{line}"),
            Level::Emerg | Level::Alert | Level::Critical | Level::Error => tracing::error!(target: "kafka", facility, "{line}"),
            Level::Warning => tracing::warn!(target: "kafka", facility, "{line}"),
            Level::Notice | Level::Info => tracing::info!(target: "kafka", facility, "{line}"),
            Level::Debug => tracing::debug!(target: "kafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.doubt.store(true, Ordering::Relaxed),
            _ => tracing::debug!(target: "kafka", "{error}: {reason}"),
        }
    }
}

impl ConsumerContext for Context {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            // New partitions start paused, until the first check of backpressure.
            if let Err(error) = consumer.pause(partitions) {
                tracing::warn!(target: "kafka", "new partitions could not be paused: {error}");
            }
        }
        self.moved.notify_one();
    }
}
