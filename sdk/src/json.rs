//! JSON on its way out. Never through a tree of values: events pass here by the ten thousand.

use serde::Serialize;

use crate::EffectError;

/// A value as JSON text.
pub(crate) fn text<T: Serialize + ?Sized>(value: &T) -> Result<String, EffectError> {
    serde_json::to_string(value).map_err(|error| EffectError::InvalidJson(error.to_string()))
}

/// An event's arguments of one payload: `[payload]`.
pub(crate) fn args<T: Serialize + ?Sized>(payload: &T) -> Result<String, EffectError> {
    text(&(payload,))
}
