//! The log: lines on standard error, as text or JSON. Never contains data of clients. Logging never blocks and never fails: a
//! line that cannot be written is counted and dropped.

pub mod often;
mod sink;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload::Handle;

pub use often::Often;
use sink::Sink;

use crate::shown;

/// `[log]`: the log, which goes to standard error.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The format of a line: `text` or `json`. Default: `text` in `dev`, `json` in `serve`.
    pub format: Option<LogFormat>,
    /// The filter, in the syntax of `RUST_LOG`, which overrides it. SIGHUP reloads it.
    pub filter: String,
    /// Bytes of log lines that may wait for a slow reader. Past it lines are dropped. Metric: `log_lines_lost`.
    pub buffer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: None, filter: "info".into(), buffer: 4 << 20 }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// How long a process that ends waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of this process, once started.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    sink: Arc<Sink>,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// Starts logging to standard error, panics included. `filter` has the syntax of `RUST_LOG`: `info`, or `warn,hubbub=debug`.
///
/// # Errors
/// If the filter is invalid, or the log was started before.
pub fn start_log(format: LogFormat, filter: &str, buffer: usize) -> Result<(), String> {
    let filter = read_filter(filter)?;
    // A duplicated descriptor, since a blocked write must not hold the lock of `std::io::stderr`.
    let out = std::io::stderr().as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    let sink = Sink::start(buffer, File::from(out)).map_err(|e| e.to_string())?;
    // Colour codes in a file or a pipe would break searches.
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Shown { sink: sink.clone(), colours }).with_ansi(colours);
    // Internal errors would be reported by `eprintln!`, which panics if standard error is closed.
    let builder = builder.log_internal_errors(false);
    let (reload, started) = match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (reloading(handle), builder.try_init())
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (reloading(handle), builder.try_init())
        }
    };
    started.map_err(|e| e.to_string())?;
    let _ = LOG.set(Log { sink, reload });
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The subscriber's writer. Escapes control characters, so that no line controls a terminal or forges another line.
#[derive(Clone)]
struct Shown {
    sink: Arc<Sink>,
    /// Colours are the subscriber's own escape sequences; it escapes all others.
    colours: bool,
}

impl<'a> MakeWriter<'a> for Shown {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl std::io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let shown = if self.colours {
            line.split('\u{1b}').map(shown::line).collect::<Vec<_>>().join("\u{1b}").into()
        } else {
            shown::line(line)
        };
        (&mut &*self.sink).write_all(format!("{shown}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// # Errors
/// If the filter is invalid.
pub fn check_filter(filter: &str) -> Result<(), String> {
    read_filter(filter).map(drop)
}

/// Replaces the filter.
///
/// # Errors
/// If the filter is invalid; the old one stays.
pub fn reload_filter(filter: &str) -> Result<(), String> {
    let filter = read_filter(filter)?;
    LOG.get().map_or(Ok(()), |log| (log.reload)(filter))
}

/// Writes a line to the log without filtering. False if the log was not started.
pub fn write_beside_log(line: &str) -> bool {
    LOG.get().is_some_and(|log| (&mut &*log.sink).write_all(line.as_bytes()).is_ok())
}

/// Waits until the lines so far are written, for at most a second, since the reader may have stopped.
pub fn flush_log() {
    if let Some(log) = LOG.get() {
        log.sink.flush(LAST_LINES);
    }
}

/// The number of lines that could not be written since the start.
pub fn lost_lines() -> u64 {
    LOG.get().map_or(0, |log| log.sink.lost())
}

fn read_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(filter).map_err(|e| e.to_string())
}

fn reloading<S: 'static>(handle: Handle<EnvFilter, S>) -> Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync> {
    Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string()))
}

/// Logs a panic as a normal line. The standard hook writes to standard error, which blocks if the reader has stopped.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("for a reason that is no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(trace));
    tracing::error!(thread = std::thread::current().name(), trace, "panicked at {place}: {what}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;

    use super::*;

    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl std::io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_owned()).map(|()| bytes.len()).map_err(std::io::Error::other)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_lines_are_escaped_and_keep_terminal_colours() {
        let (send, written) = mpsc::sync_channel(8);
        let sink = Sink::start(1000, Pipe(send)).unwrap();
        for (colours, line, shown) in [
            (false, "topic a\u{202e}b\u{1b}[2J\nINFO forged\n", "topic a\\u202eb\\u001b[2J\\nINFO forged\n"),
            (true, "\u{1b}[32mINFO\u{1b}[0m a\u{9b}b\n", "\u{1b}[32mINFO\u{1b}[0m a\\u009bb\n"),
        ] {
            Shown { sink: sink.clone(), colours }.write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written.recv().unwrap()).unwrap(), shown);
        }
    }
}
