//! Appends to Redis streams in one round trip. Does not choose the messages.

use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike as _, StreamsInterface as _};
use fred::types::Value;
use fred::types::streams::XCapTrim;

use super::{CHECK_INTERVAL, Delivery, Sent};
use crate::bus::ingest::SetupError;
use crate::cluster::redis::{self, Ends, Url};
use crate::telemetry::traces::TRACEPARENT;

/// The connection.
pub(crate) struct Sender {
    client: Client,
    maxlen: u64,
}

impl Sender {
    pub(crate) fn build(url: &Url, timeout: Duration, maxlen: u64) -> Result<Self, SetupError> {
        Ok(Self { client: redis::client(url, timeout, 1)?, maxlen })
    }

    /// Connects, and stays connected until what this returns is dropped.
    pub(crate) async fn connect(&self) -> Ends {
        let connection = self.client.connect();
        let ends = Ends(vec![connection.abort_handle()]);
        // A server that is not reachable yet is treated like a lost connection.
        let _ = tokio::time::timeout(CHECK_INTERVAL, self.client.wait_for_connect()).await;
        ends
    }

    /// Sends messages in order.
    pub(crate) async fn send(&self, deliveries: &[Delivery<'_>]) -> Vec<Sent> {
        let pipeline = self.client.pipeline();
        for delivery in deliveries {
            let cap = (self.maxlen > 0).then(|| ("MAXLEN", XCapTrim::AlmostExact, self.maxlen.to_string(), None::<i64>));
            let queued: Result<Value, Error> = match cap {
                Some(cap) => pipeline.xadd(delivery.destination, false, cap, "*", fields(delivery)).await,
                None => pipeline.xadd(delivery.destination, false, None::<()>, "*", fields(delivery)).await,
            };
            if let Err(error) = queued {
                return deliveries.iter().map(|_| Sent::Failed(error.to_string())).collect();
            }
        }
        let answers = pipeline.try_all::<Value>().await;
        let results: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.map_or_else(|error| Sent::Failed(error.to_string()), |_| Sent::Taken))
            .collect();
        let missing = deliveries.len().saturating_sub(results.len());
        results.into_iter().chain((0..missing).map(|_| Sent::Failed("it did not answer".to_owned()))).collect()
    }
}

fn fields(delivery: &Delivery<'_>) -> Vec<(&'static str, String)> {
    let message = delivery.message;
    let mut fields = vec![("id", message.id.clone()), ("topic", message.address().1.to_owned())];
    fields.extend(message.key.clone().map(|key| ("key", key)));
    fields.extend(message.tenant.clone().map(|tenant| ("tenant", tenant)));
    fields.extend(message.trace.clone().map(|trace| (TRACEPARENT, trace)));
    fields.extend([("at", message.at_ms.to_string()), ("data", message.data.clone())]);
    fields
}
