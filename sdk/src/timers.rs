//! Calls later. A timer that is due reaches its `#[on_timer]` on one node, at least once, so that handler must bear repetition.

use std::time::Duration;

use serde::Serialize;

pub use crate::bindings::hubbub::plugin::timers::Durability;
use crate::{EffectError, host};

/// Calls the plugin's `#[on_timer]` of this key after `delay` (whole milliseconds, at most 30 days), when the call succeeds.
///
/// Where the key is already waiting, the payload is replaced and the due time kept: a trailing throttle in one line.
pub fn after<T: Serialize + ?Sized>(key: &str, delay: Duration, payload: &T, kind: Durability) -> Result<(), EffectError> {
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    host::timers::after(key, delay_ms, &crate::json::text(payload)?, kind)
}

/// Forgets a timer. Idempotent.
pub fn cancel(key: &str) -> Result<(), EffectError> {
    host::timers::cancel(key)
}

/// One timer or schedule that is due.
#[derive(Debug, Clone)]
pub struct Timer {
    /// Its key.
    pub key: String,
    /// The tenant it was started for, where the plugin has tenants.
    pub tenant: Option<String>,
    /// When it was due, in milliseconds since 1970.
    pub due: u64,
    pub(crate) literal: usize,
}

impl Timer {
    /// What the key has in place of the pattern's parameter: `u1` in `flush:u1`, where the handler says `flush:{user}`. Empty
    /// where the pattern has none.
    pub fn param(&self) -> &str {
        self.key.get(self.literal..).unwrap_or_default()
    }
}
