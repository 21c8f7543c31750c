//! `log.wit`: a plugin's lines in the host's log, within a quota.

use std::borrow::Cow;

use crate::budgets::quota::Kind;
use crate::sandbox::imports::log::{Host, Level};
use crate::shown;
use crate::transaction::state::State;

/// The longest line, in bytes; longer ones are cut.
const MAX_LINE: usize = 8 << 10;

impl Host for State {
    fn write(&mut self, level: Level, message: String, fields: String) -> wasmtime::Result<()> {
        self.import()?;
        let now = self.services.clock.steady_ms();
        if !self.profile.usage.log.take(now) {
            self.profile.metrics.log_lines_dropped.inc();
            self.profile.usage.passed(Kind::LogLines);
            return Ok(());
        }
        let (plugin, version) = (&self.profile.name, &self.profile.version);
        let release = format_args!("{plugin}@{version}");
        let (message, fields) = (line(&message), line(&fields));
        let trace_id = self.call.trace.map(|trace| tracing::field::display(trace.trace_id()));
        match level {
            Level::Trace => tracing::trace!(target: "plugin", %release, trace_id, %fields, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", %release, trace_id, %fields, "{message}"),
            Level::Info => tracing::info!(target: "plugin", %release, trace_id, %fields, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", %release, trace_id, %fields, "{message}"),
            Level::Error => tracing::error!(target: "plugin", %release, trace_id, %fields, "{message}"),
        }
        Ok(())
    }
}

/// Escapes line breaks, so that a plugin cannot forge another line.
fn line(text: &str) -> Cow<'_, str> {
    shown::line(&text[..text.floor_char_boundary(MAX_LINE)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("a\nINFO b\u{1b}[31m"), "a\\nINFO b\\u001b[31m");
        assert_eq!(line("a\u{2028}b\u{202e}c"), "a\\u2028b\\u202ec");
        assert_eq!(line(&"é".repeat(MAX_LINE)).len(), MAX_LINE);
    }
}
