//! `timers.wit`: sets and cancels timers. A durable timer is a key of the plugin, written in the call's transaction, so that it
//! exists exactly if the call took effect.

use crate::clock::Moment;
use crate::json;
use crate::names::{self, InvalidName};
use crate::sandbox::imports::timers::{Durability, Host};
use crate::sandbox::imports::types::EffectError;
use crate::storage::{MAX_KEY, Write};
use crate::timers::{Origin, TimerId, parse_stored, stored};
use crate::transaction::effects::Live;
use crate::transaction::state::{State, invalid_name};

/// The longest delay of a timer.
const MAX_DELAY_MS: u64 = 30 * 24 * 3600 * 1000;

/// The most bytes of a timer's payload.
const MAX_PAYLOAD: usize = 64 << 10;

type Answer<T> = wasmtime::Result<Result<T, EffectError>>;

impl Host for State {
    async fn after(&mut self, key: String, delay_ms: u64, payload: String, kind: Durability) -> Answer<()> {
        if let Err(refused) = self.effect(key.len() + payload.len())? {
            return Ok(Err(refused));
        }
        Ok(self.start_timer(key, delay_ms, payload, kind).await)
    }

    async fn cancel(&mut self, key: String) -> Answer<()> {
        if let Err(refused) = self.effect(key.len())? {
            return Ok(Err(refused));
        }
        Ok(self.cancel_timer(key).await)
    }
}

impl State {
    async fn start_timer(&mut self, key: String, delay_ms: u64, payload: String, kind: Durability) -> Result<(), EffectError> {
        json::check(&payload).map_err(|e| EffectError::InvalidJson(e.to_string()))?;
        if delay_ms > MAX_DELAY_MS {
            return Err(EffectError::Denied("a timer is at most 30 days ahead".into()));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(EffectError::Denied(format!("a timer's payload has at most {MAX_PAYLOAD} bytes")));
        }
        let id = self.timer_id(key, kind == Durability::Durable)?;
        if !self.services.timers.has_room_for(&id) {
            self.call.over = Some("Too many timers");
            return Err(EffectError::Denied(format!("{} timers wait already", self.services.timers.config.per_plugin)));
        }
        let due =
            Moment { wall_ms: self.call.now_ms + delay_ms, steady_ms: self.services.clock.steady_ms().saturating_add(delay_ms) };
        // Only in a client's call: timers that set timers could otherwise continue one trace for ever.
        let cause = self.call.trace.filter(|_| self.call.caller.is_some());
        let origin = Origin { user: self.call.user().map(Into::into), cause };
        if !id.durable {
            self.call.effects.live.push(Live::Arm { id, due, payload: Some(payload), origin });
            return Ok(());
        }
        let key = id.stored_key();
        // If storage does not answer, the commit fails as well.
        let before = self.read(&key).await.ok().flatten();
        let before = before.as_deref().and_then(parse_stored);
        let due = before.map_or(due, |(due_ms, _)| self.services.clock.moment_at(due_ms));
        let write = Write::Put { key, value: stored(due.wall_ms, &payload).into() };
        let more = self.call.effects.stored + write.added();
        if !self.profile.usage.has_store_room(more) {
            self.call.over = Some("Too much is stored");
            return Err(EffectError::Denied("the plugin's store is full (quota.store_bytes)".into()));
        }
        self.call.effects.stored = more;
        self.call.effects.writes.push(write);
        self.call.effects.live.push(Live::Arm { id, due, payload: None, origin });
        Ok(())
    }

    async fn cancel_timer(&mut self, key: String) -> Result<(), EffectError> {
        let soft = self.timer_id(key, false)?;
        let durable = TimerId { durable: true, ..soft.clone() };
        self.call.effects.live.push(Live::Disarm { id: soft });
        let key = durable.stored_key();
        // Cancelling a soft timer alone needs no write.
        if self.read(&key).await.is_ok_and(|found| found.is_some()) {
            self.call.effects.writes.push(Write::Delete { key });
            self.call.effects.live.push(Live::Disarm { id: durable });
        }
        Ok(())
    }

    fn timer_id(&self, key: String, durable: bool) -> Result<TimerId, EffectError> {
        names::check("timer", &key).map_err(invalid_name)?;
        let tenant = self.tenant()?.map(str::to_owned);
        let id = TimerId { plugin: self.profile.name.clone(), tenant, key, durable };
        if id.stored_key().len() > MAX_KEY {
            return Err(invalid_name(InvalidName::new("timer", "is too long beside its tenant's")));
        }
        Ok(id)
    }
}
