//! Timers: effects, started and cancelled at commit.

use crate::{
    EffectError,
    bindings::hubbub::plugin::timers::Durability,
    harness::{
        call::{self, Effect},
        names,
    },
};

/// The host's limits.
const MAX_DELAY_MS: u64 = 30 * 24 * 3600 * 1000;
const MAX_PAYLOAD: usize = 64 * 1024;

pub(crate) fn after(key: &str, delay_ms: u64, payload: &str, kind: Durability) -> Result<(), EffectError> {
    call::import(|call, _| {
        names::check("key", key)?;
        if delay_ms > MAX_DELAY_MS {
            return Err(EffectError::Denied("a timer is at most 30 days ahead".into()));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(EffectError::Denied("a timer has at most 64 KiB of payload".into()));
        }
        let (key, payload) = (call.owned(key), names::json(payload)?);
        call.collect(Effect::After { key, delay_ms, payload, kind })
    })
}

pub(crate) fn cancel(key: &str) -> Result<(), EffectError> {
    call::import(|call, _| {
        names::check("key", key)?;
        call.collect(Effect::Cancel { key: call.owned(key) })
    })
}
