//! Log lines. The host adds the plugin's name and version, the event and the user. A line is written at once, also if the call is
//! refused or traps. Limits: 8 KiB a line and 100 lines a second; longer lines are cut, and further lines are dropped and counted.

use serde::Serialize;

pub use crate::bindings::hubbub::plugin::log::Level;
use crate::host;

/// Writes a line with further fields. `fields` must serialize to a JSON object.
pub fn with_fields<T: Serialize + ?Sized>(level: Level, message: &str, fields: &T) {
    let fields = serde_json::to_string(fields).unwrap_or_default();
    host::log::write(level, message, &fields);
}

/// A line for debugging.
pub fn debug(message: &str) {
    host::log::write(Level::Debug, message, "");
}

/// A line for the operator about a normal event.
pub fn info(message: &str) {
    host::log::write(Level::Info, message, "");
}

/// A line for the operator about a problem that the plugin handles.
pub fn warn(message: &str) {
    host::log::write(Level::Warn, message, "");
}

/// A line for the operator about a failure of the plugin.
pub fn error(message: &str) {
    host::log::write(Level::Error, message, "");
}
