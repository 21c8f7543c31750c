//! The bus: messages to other plugins and, by configuration, to the outside. Not for what happens many times a second and may be
//! lost (typing, cursors, heartbeats): emit those.

use serde::Serialize;

pub use crate::bindings::exports::hubbub::plugin::handler::Message;
use crate::{EffectError, host};

/// Publishes `data` to `topic` (`chat.accepted`) when the call succeeds. Messages of one topic are handled in order.
pub fn publish<T: Serialize + ?Sized>(topic: &str, data: &T) -> Result<(), EffectError> {
    host::bus::publish(topic, None, &crate::json::text(data)?)
}

/// As [`publish`], but only messages with the same `key` are handled in order, and others in parallel.
pub fn publish_keyed<T: Serialize + ?Sized>(topic: &str, key: &str, data: &T) -> Result<(), EffectError> {
    host::bus::publish(topic, Some(key), &crate::json::text(data)?)
}
