//! The bus: messages to other plugins and, by configuration, to systems outside.
//!
//! A message is an effect: it is stored with the call's writes, survives a crash, and is handled once by every plugin that listens
//! to its topic. It carries the call's tenant. A message that is published while another is handled is one hop further; the ninth
//! hop is dropped. For events that are frequent and may be lost (typing, cursors, heartbeats), use [`emitter`](crate::emitter).

use serde::Serialize;

pub use crate::bindings::exports::hubbub::plugin::handler::Message;
use crate::{Result, host};

/// Publishes `data` to `topic` (lower case words joined by dots: `chat.accepted`). Messages of one topic are handled in order.
pub fn publish<T: Serialize + ?Sized>(topic: &str, data: &T) -> Result<()> {
    Ok(host::bus::publish(topic, None, &crate::json::text(data)?)?)
}

/// As [`publish`], but only messages with the same `key` are handled in order. Messages with other keys are handled in parallel.
pub fn publish_keyed<T: Serialize + ?Sized>(topic: &str, key: &str, data: &T) -> Result<()> {
    Ok(host::bus::publish(topic, Some(key), &crate::json::text(data)?)?)
}
