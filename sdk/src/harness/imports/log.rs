//! Log lines, collected for the test.

use crate::{
    bindings::hubbub::plugin::log::Level,
    harness::{LogLine, call},
};

pub(crate) fn write(level: Level, message: &str, fields: &str) {
    call::import(|call, _| {
        let fields = serde_json::from_str(fields).unwrap_or_default();
        call.logs.push(LogLine { level, message: message.to_owned(), fields });
    });
}
