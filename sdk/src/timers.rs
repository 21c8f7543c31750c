//! Timers: calls at a later time.
//!
//! Starting and cancelling a timer are effects. A due timer reaches its `#[on_timer]` on one node. A [`Durability::Durable`] timer
//! is a write: it survives restarts, and its handler's effects happen exactly once. A [`Durability::Soft`] timer costs 0.5 µs, runs
//! early at a planned stop, and is lost with a node that dies. A handler that fails is called again, with a delay that grows to a
//! minute; a soft timer is given up after five failures. A key belongs to the call's tenant.
//!
//! Limits: 100 000 timers a plugin, 30 days ahead, 64 KiB of payload.

use std::time::Duration;

use serde::Serialize;

pub use crate::bindings::hubbub::plugin::timers::Durability;
use crate::{Result, host};

/// Calls the `#[on_timer]` of this key after `delay` (whole milliseconds).
///
/// If a timer of this key is waiting already, its payload is replaced and its time stays: a trailing throttle in one line.
pub fn after<T: Serialize + ?Sized>(key: &str, delay: Duration, payload: &T, kind: Durability) -> Result<()> {
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Ok(host::timers::after(key, delay_ms, &crate::json::text(payload)?, kind)?)
}

/// Cancels the timers of a key, soft and durable. Idempotent.
pub fn cancel(key: &str) -> Result<()> {
    Ok(host::timers::cancel(key)?)
}

/// A timer or a schedule that is due.
#[derive(Debug, Clone)]
pub struct Timer {
    /// Its key.
    pub key: String,
    /// The tenant of the call that started it.
    pub tenant: Option<String>,
    /// The time at which it was due, in milliseconds since 1970.
    pub due: u64,
    pub(crate) literal: usize,
}

impl Timer {
    /// The parameter of the handler's pattern: `u1` in `flush:u1` for `flush:{user}`. Empty for a pattern without parameter.
    pub fn param(&self) -> &str {
        self.key.get(self.literal..).unwrap_or_default()
    }
}
