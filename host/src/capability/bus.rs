//! `bus.wit`: messages to other plugins, collected for the outbox of the call's transaction.

use crate::sandbox::imports::bus::Host;
use crate::sandbox::imports::types::EffectError;
use crate::storage::OutboxMessage;
use crate::transaction::state::{MAX_HOPS, State, invalid_name};
use crate::{json, names};

impl Host for State {
    fn publish(&mut self, topic: String, key: Option<String>, data: String) -> wasmtime::Result<Result<(), EffectError>> {
        if let Err(refused) = self.effect(topic.len() + data.len() + key.as_ref().map_or(0, String::len))? {
            return Ok(Err(refused));
        }
        Ok(self.message(topic, key, data).map(|message| self.call.effects.messages.extend(message)))
    }
}

impl State {
    fn message(&self, topic: String, key: Option<String>, data: String) -> Result<Option<OutboxMessage>, EffectError> {
        names::check_topic(&topic).map_err(invalid_name)?;
        if let Some(key) = &key {
            names::check("key", key).map_err(invalid_name)?;
        }
        let data = json::into_well_formed(data);
        json::check(&data).map_err(|e| EffectError::InvalidJson(e.to_string()))?;
        if self.call.hops >= MAX_HOPS {
            self.services.metrics.bus_hops_exceeded.inc();
            let release = format_args!("{}@{}", self.profile.name, self.profile.version);
            tracing::warn!(%release, %topic, "a message was published on its ninth hop, and dropped");
            return Ok(None);
        }
        Ok(Some(OutboxMessage {
            id: self.services.ids.next(self.call.now_ms),
            topic,
            key,
            tenant: self.tenant()?.map(str::to_owned),
            data,
            hops: self.call.hops + 1,
            at_ms: self.call.now_ms,
            trace: self.call.trace.map(|trace| trace.to_string()),
        }))
    }
}
