//! A recording of a plugin's calls as lines of JSON, until its time or size limit. Hidden texts never leave it, and only lines
//! that wait to be written are kept in memory.
//!
//! The first line is the header, `{"hubbubRecord": 1, …}`, then one [`RecordedCall`] per line. The last is `{"end": {…}}`, which is
//! missing if the recording was interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::redact::{Hide, Redactor, Vocabulary};
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::observers::{Inbox, ObserverGuard};
use crate::call::recorded_call::RecordedCall;
use crate::call::release::Release;
use crate::shown;
use crate::telemetry::RecordingMetrics;

/// The version of the file's format.
pub const FORMAT: u32 = 1;

/// `[record]`: recordings of calls, and the differences that a shadow reports.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Keys of JSON objects whose values are always hidden, numbers included. All other text is hidden as well, except words that
    /// are in the component's code.
    pub redact: Vec<String>,
    /// The longest duration of a recording. Past it a request for a recording is refused with HTTP 400.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub time: Duration,
    /// Calls of one recording. Past it the recording ends.
    pub calls: u64,
    /// Bytes of one recording. Past it the recording ends.
    pub bytes: u64,
    /// Bytes of one call's arguments, imports and answers. Past it the call is left out. Metric: `record_calls_dropped`.
    pub call_bytes: usize,
    /// Calls that may wait to be written, or to run on a shadow. Past it a call is left out. Metric: `record_calls_dropped`,
    /// `shadow_calls_dropped`.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        let redact = ["content", "text", "body", "email", "phone", "name", "image"];
        Self {
            redact: redact.map(str::to_owned).to_vec(),
            time: Duration::from_secs(600),
            calls: 100_000,
            bytes: 256 << 20,
            call_bytes: 1 << 20,
            queue: 64,
        }
    }
}

/// The header, in the first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    pub hubbub_record: u32,
    pub plugin: String,
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// The server's version.
    pub host: String,
    /// Percent of the calls.
    pub sample: u8,
    /// The plugin's configuration, without secrets.
    pub config: Map<String, Value>,
    pub redacted: Vec<String>,
    /// Whether texts are not hidden.
    #[serde(default)]
    pub clear: bool,
}

/// A running recording.
pub struct Recording {
    inbox: Arc<Inbox>,
    _guard: ObserverGuard,
}

/// The options of a recording.
pub struct How {
    /// Percent of the calls.
    pub percent: u8,
    pub time: Duration,
    pub hide: Hide,
    /// The vocabulary of the live release's component.
    pub vocabulary: Vocabulary,
}

/// Why a recording cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("no release of it is live")]
    NotLive,
    #[error("its calls are being recorded already")]
    Busy,
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// The lines of a recording, as calls complete. Dropping it ends the recording.
pub struct Lines {
    recording: Recording,
    calls: mpsc::Receiver<Arc<RecordedCall>>,
    redactor: Arc<Redactor>,
    header: Option<Header>,
    until: Instant,
    limits: Config,
    written: Written,
    counter: Counter,
    has_ended: bool,
}

/// The size of the recording so far.
#[derive(Debug, Default)]
struct Written {
    calls: u64,
    bytes: u64,
}

impl Recording {
    /// Starts to record a share of the calls of the live release.
    pub fn begin(deployed: &DeployedPlugin, how: How, config: &Config, metrics: &RecordingMetrics) -> Result<Lines, RecordError> {
        let release = deployed.live().ok_or(RecordError::NotLive)?;
        let How { percent, time, hide, vocabulary } = how;
        let mut redactor = Redactor::new(hide, &config.redact, vocabulary)?;
        let (queue, calls) = mpsc::channel(config.queue.max(1));
        let label = (&deployed.name).into();
        let inbox = Arc::new(Inbox {
            digest: release.digest.clone(),
            percent,
            call_bytes: config.call_bytes,
            queue,
            dropped: metrics.record_dropped.get_or_create(&label).clone(),
            dropped_here: AtomicU64::new(0),
        });
        let recording = Self { inbox, _guard: deployed.observers.watch() };
        if !deployed.observers.record(&recording.inbox) {
            return Err(RecordError::Busy);
        }
        Ok(Lines {
            recording,
            calls,
            header: Some(header(&release, percent, &mut redactor, hide, config)),
            redactor: Arc::new(redactor),
            until: Instant::now() + time.min(config.time),
            limits: config.clone(),
            written: Written::default(),
            counter: metrics.recorded.get_or_create(&label).clone(),
            has_ended: false,
        })
    }
}

fn header(release: &Release, percent: u8, redactor: &mut Redactor, hide: Hide, config: &Config) -> Header {
    let mut initialized = (*release.profile.config).clone();
    redactor.config(&mut initialized);
    Header {
        hubbub_record: FORMAT,
        plugin: release.profile.name.to_string(),
        version: release.manifest.version.clone(),
        digest: release.digest.clone(),
        host: env!("CARGO_PKG_VERSION").to_owned(),
        sample: percent,
        config: initialized,
        redacted: if hide == Hide::Texts { config.redact.clone() } else { Vec::new() },
        clear: hide == Hide::Secrets,
    }
}

impl Lines {
    /// The next line, with its line end. None: the recording is complete.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(header) = self.header.take() {
            return Some(line(&header));
        }
        if self.has_ended {
            return None;
        }
        if self.written.calls >= self.limits.calls {
            return Some(self.end("calls"));
        }
        let Ok(Some(call)) = tokio::time::timeout_at(self.until, self.calls.recv()).await else {
            return Some(self.end("time"));
        };
        let redactor = self.redactor.clone();
        // New words are searched in the component, so this does not run on a thread that serves sockets.
        let redacting = tokio::task::spawn_blocking(move || {
            let mut recorded = serde_json::to_value(&*call).unwrap_or_default();
            redactor.call(&mut recorded);
            line(&recorded)
        });
        let Ok(line) = redacting.await else { return Some(self.end("fault")) };
        if self.written.bytes + line.len() as u64 > self.limits.bytes {
            return Some(self.end("bytes"));
        }
        self.written.calls += 1;
        self.written.bytes += line.len() as u64;
        self.counter.inc();
        Some(line)
    }

    fn end(&mut self, because: &str) -> String {
        self.has_ended = true;
        let dropped = self.recording.inbox.dropped_here.load(Ordering::Relaxed);
        line(&json!({ "end": { "because": because, "calls": self.written.calls, "dropped": dropped } }))
    }
}

fn line(value: &impl Serialize) -> String {
    // Escaped, since an operator may open the file in a terminal.
    let mut line = shown::line(&serde_json::to_string(value).unwrap_or_default()).into_owned();
    line.push('\n');
    line
}
