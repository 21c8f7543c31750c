//! Log lines. They are written at once, also where the call is refused or traps, so they must not hold what a client may not
//! see in an operator's log either.

use serde::Serialize;

pub use crate::bindings::hubbub::plugin::log::Level;
use crate::host;

/// Writes a line with further fields, which serialize to one JSON object. At most 8 KiB a line, 100 lines a second.
pub fn with_fields<T: Serialize + ?Sized>(level: Level, message: &str, fields: &T) {
    let fields = serde_json::to_string(fields).unwrap_or_default();
    host::log::write(level, message, &fields);
}

/// A line for whoever debugs this code.
pub fn debug(message: &str) {
    host::log::write(Level::Debug, message, "");
}

/// A line for the operator: something worth knowing happened.
pub fn info(message: &str) {
    host::log::write(Level::Info, message, "");
}

/// A line for the operator: something is not as it should be.
pub fn warn(message: &str) {
    host::log::write(Level::Warn, message, "");
}

/// A line for the operator: the plugin failed.
pub fn error(message: &str) {
    host::log::write(Level::Error, message, "");
}
