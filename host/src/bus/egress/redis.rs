//! Appends to streams of Redis, in one round trip. Decides nothing of what is sent.

use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike as _, StreamsInterface as _};
use fred::types::Value;
use fred::types::streams::XCapTrim;

use super::{LOOK, Parcel, Sent};
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
        // Not there yet, it is looked for like one that has gone.
        let _ = tokio::time::timeout(LOOK, self.client.wait_for_connect()).await;
        ends
    }

    /// Sends parcels in their order.
    pub(crate) async fn send(&self, parcels: &[Parcel<'_>]) -> Vec<Sent> {
        let pipeline = self.client.pipeline();
        for parcel in parcels {
            let cap = (self.maxlen > 0).then(|| ("MAXLEN", XCapTrim::AlmostExact, self.maxlen.to_string(), None::<i64>));
            let queued: Result<Value, Error> = match cap {
                Some(cap) => pipeline.xadd(parcel.there, false, cap, "*", fields(parcel)).await,
                None => pipeline.xadd(parcel.there, false, None::<()>, "*", fields(parcel)).await,
            };
            if let Err(error) = queued {
                return parcels.iter().map(|_| Sent::Failed(error.to_string())).collect();
            }
        }
        let answers = pipeline.try_all::<Value>().await;
        let came: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.map_or_else(|error| Sent::Failed(error.to_string()), |_| Sent::Taken))
            .collect();
        let missing = parcels.len().saturating_sub(came.len());
        came.into_iter().chain((0..missing).map(|_| Sent::Failed("it did not answer".to_owned()))).collect()
    }
}

fn fields(parcel: &Parcel<'_>) -> Vec<(&'static str, String)> {
    let message = parcel.message;
    let mut fields = vec![("id", message.id.clone()), ("topic", message.address().1.to_owned())];
    fields.extend(message.key.clone().map(|key| ("key", key)));
    fields.extend(message.tenant.clone().map(|tenant| ("tenant", tenant)));
    fields.extend(message.trace.clone().map(|trace| (TRACEPARENT, trace)));
    fields.extend([("at", message.at_ms.to_string()), ("data", message.data.clone())]);
    fields
}
