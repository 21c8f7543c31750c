//! Traces for an OpenTelemetry collector: spans of connects, events, disconnects and timers, through their commit and over the
//! bus. Never waits for the collector, never contains a payload, a token or a user, and costs one branch if off.

mod export;
mod share;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Metrics;
pub use export::Exports;
use share::Share;

/// The header or field that carries the trace of a message, in both directions.
pub const TRACEPARENT: &str = "traceparent";

/// The most attributes of a span; further ones are left out.
const MAX_ATTRIBUTES: u32 = 16;

/// The most links of a span to the other messages of its commit.
const MAX_LINKS: u32 = 16;

/// The most bytes of an attribute's text; the rest is cut.
const MAX_TEXT: usize = 256;

/// Reasons for dropped spans: the queue was full, or the collector did not accept them.
pub(super) const DROPPED: [&str; 2] = ["queue_full", "not_taken"];

/// `[traces]`: traces for an OpenTelemetry collector.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The collector's address for OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is added to it. Default: the
    /// variable `OTEL_EXPORTER_OTLP_ENDPOINT`; without both there are no traces.
    pub endpoint: Option<String>,
    /// The share of connects, events, disconnects, timers and messages from outside that are traced, from 0 to 1. Everything that
    /// a traced one causes is traced as well.
    pub sample: f64,
    /// Spans that may wait to be sent. Past it spans are dropped. Metric: `trace_spans_dropped`.
    pub queue: usize,
    /// Spans that are sent at a time.
    pub batch: usize,
    /// The longest time that a span waits for others to be sent with it.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub every: Duration,
    /// How long the collector may take for a batch, retries included. Past it the batch is dropped. Metric:
    /// `trace_spans_dropped`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let (every, timeout) = (Duration::from_secs(2), Duration::from_secs(5));
        Self { endpoint: None, sample: 0.01, queue: 4096, batch: 512, every, timeout }
    }
}

/// Why the configuration of traces is invalid.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("traces.endpoint is not an HTTP address, such as http://127.0.0.1:4318")]
    Endpoint,
    #[error("traces.sample is a share from 0 to 1, not {0}")]
    Sample(f64),
    #[error("the exporter of traces cannot be created: {0}")]
    Exporter(String),
}

impl Config {
    /// Checks the configuration. Returns the collector's url; none if traces are off.
    fn target(&self) -> Result<Option<String>, TracesError> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(TracesError::Sample(self.sample));
        }
        let Some(endpoint) = self.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else { return Ok(None) };
        let url: http::Uri = endpoint.parse().map_err(|_| TracesError::Endpoint)?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(TracesError::Endpoint);
        }
        let base = endpoint.trim_end_matches('/');
        Ok(Some(if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }))
    }
}

/// Starts traces. If traces are off, it costs one branch.
#[derive(Clone, Default)]
pub struct Tracer(Option<SdkTracer>);

/// The kind of a span.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A request or event from outside.
    Server,
    /// A published message.
    Producer,
    /// The handling of a published message.
    Consumer,
    /// A timer or other internal work.
    Internal,
}

impl Tracer {
    /// The tracer of this configuration, and the exporter of its spans, which is to be run. Nothing is connected yet.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<(Self, Option<Exports>), TracesError> {
        let Some(target) = config.target()? else { return Ok((Self::default(), None)) };
        let (exports, queue) = Exports::new(config, target, metrics)?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Share(config.sample))))
            .with_max_attributes_per_span(MAX_ATTRIBUTES)
            .with_max_links_per_span(MAX_LINKS)
            .with_span_processor(queue)
            .build();
        Ok((Self(Some(provider.tracer("hubbub"))), Some(exports)))
    }

    /// Starts a trace, if it is sampled.
    pub fn begin(&self, kind: Kind, name: &'static str) -> Option<Span> {
        // The only cost while traces are off.
        let tracer = self.0.as_ref()?;
        Span::start(tracer, builder(kind, name), &Context::new())
    }

    /// Starts a trace that was caused by a span of another. If that one was sampled, this one is too.
    pub fn begin_after(&self, cause: Option<TraceParent>, kind: Kind, name: &'static str) -> Option<Span> {
        let Some(cause) = cause else { return self.begin(kind, name) };
        let tracer = self.0.as_ref()?;
        let link = Link::with_context(cause.span_context());
        Span::start(tracer, builder(kind, name).with_links(vec![link]), &Context::new())
    }

    /// Continues the sender's trace, with its sampling decision, if there is one; else starts a trace.
    pub fn follow_or_begin(&self, parent: Option<TraceParent>, kind: Kind, name: &'static str) -> Option<Span> {
        match parent {
            Some(parent) => self.follow(parent, kind, name),
            None => self.begin(kind, name),
        }
    }

    /// Continues a trace that was started elsewhere, if it was sampled there.
    pub fn follow(&self, parent: TraceParent, kind: Kind, name: &'static str) -> Option<Span> {
        // Passing a parent to the library allocates, and without sampling the result is known.
        let tracer = self.0.as_ref().filter(|_| parent.sampled)?;
        Span::start(tracer, builder(kind, name), &parent.context())
    }
}

fn builder(kind: Kind, name: &'static str) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind.into())
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Server,
            Kind::Producer => Self::Producer,
            Kind::Consumer => Self::Consumer,
            Kind::Internal => Self::Internal,
        }
    }
}

/// A recorded span, exported when it is dropped. It exists only if the trace is sampled, so that work for it is spent only then.
pub struct Span(Box<Recording>);

/// Boxed, so that an absent span takes little space.
struct Recording {
    tracer: SdkTracer,
    parent: TraceParent,
    recorded: Mutex<opentelemetry_sdk::trace::Span>,
}

impl Span {
    fn start(tracer: &SdkTracer, builder: SpanBuilder, parent: &Context) -> Option<Self> {
        let span = tracer.build_with_context(builder, parent);
        if !span.is_recording() {
            return None;
        }
        Some(Self::of(tracer, span))
    }

    fn of(tracer: &SdkTracer, span: opentelemetry_sdk::trace::Span) -> Self {
        let parent = TraceParent::of(span.span_context());
        Self(Box::new(Recording { tracer: tracer.clone(), parent, recorded: Mutex::new(span) }))
    }

    /// Starts a child span.
    pub fn child(&self, name: impl Into<Cow<'static, str>>) -> Self {
        let Recording { tracer, parent, .. } = &*self.0;
        Self::of(tracer, tracer.build_with_context(SpanBuilder::from_name(name), &parent.context()))
    }

    /// The parent for spans that continue this one.
    pub fn parent(&self) -> TraceParent {
        self.0.parent
    }

    pub fn text(&self, key: &'static str, text: &str) {
        self.set(key, text[..text.floor_char_boundary(MAX_TEXT)].to_owned());
    }

    pub fn number(&self, key: &'static str, number: u64) {
        self.set(key, i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Sets the outcome, and whether it is an error.
    pub fn outcome(&self, outcome: &'static str, is_error: bool) {
        self.set("hubbub.outcome", outcome);
        if is_error {
            self.recorded().set_status(Status::error(outcome));
        }
    }

    /// Adds a link to a span of another trace.
    pub fn link(&self, other: TraceParent) {
        self.recorded().add_link(other.span_context(), Vec::new());
    }

    /// Call it once for each key: the library would keep both values.
    fn set(&self, key: &'static str, value: impl Into<Value>) {
        self.recorded().set_attribute(KeyValue::new(key, value));
    }

    fn recorded(&self) -> parking_lot::MutexGuard<'_, opentelemetry_sdk::trace::Span> {
        self.0.recorded.lock()
    }
}

/// A span's identity in other systems: W3C's `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

/// An invalid `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-, 32 hexadecimal digits, -, 16, -, 2")]
pub struct InvalidTraceParent;

impl TraceParent {
    fn of(context: &SpanContext) -> Self {
        Self { trace: context.trace_id(), span: context.span_id(), sampled: context.is_sampled() }
    }

    /// Parses a header or field; none if it is invalid.
    pub fn read(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// The trace's id in log lines.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        self.trace
    }

    fn span_context(self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.trace, self.span, flags, true, TraceState::NONE)
    }

    fn context(self) -> Context {
        Context::new().with_remote_span_context(self.span_context())
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let version = digits(parts.next(), 2).ok_or(InvalidTraceParent)?;
        let trace = digits(parts.next(), 32).and_then(|hex| TraceId::from_hex(hex).ok());
        let span = digits(parts.next(), 16).and_then(|hex| SpanId::from_hex(hex).ok());
        let flags = digits(parts.next(), 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        // A later version may have further parts.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        match (trace, span, flags) {
            (Some(trace), Some(span), Some(flags)) if is_known && trace != TraceId::INVALID && span != SpanId::INVALID => {
                Ok(Self { trace, span, sampled: flags & 1 == 1 })
            }
            _ => Err(InvalidTraceParent),
        }
    }
}

/// A part with exactly `len` hexadecimal digits.
fn digits(part: Option<&str>, len: usize) -> Option<&str> {
    part.filter(|part| part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(config: Config) -> (Tracer, Option<Exports>, Metrics) {
        let metrics = Metrics::new();
        let (tracer, exports) = Tracer::new(&config, &metrics).unwrap();
        (tracer, exports, metrics)
    }

    fn on(sample: f64) -> Config {
        Config { endpoint: Some("http://127.0.0.1:1".into()), sample, ..Config::default() }
    }

    #[test]
    fn without_an_endpoint_there_are_no_spans() {
        let (tracer, exports, _) = tracer(Config { sample: 1.0, ..Config::default() });
        assert!(exports.is_none() && tracer.begin(Kind::Server, "a").is_none());
        assert!(tracer.follow(PARENT.parse().unwrap(), Kind::Consumer, "a").is_none());
    }

    #[test]
    fn the_root_decides_on_sampling() {
        let (none, _exports, _) = tracer(on(0.0));
        assert!(none.begin(Kind::Server, "a").is_none());
        let followed = none.follow(PARENT.parse().unwrap(), Kind::Consumer, "b").unwrap();
        assert_eq!(followed.parent().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        let (all, _exports, _) = tracer(on(1.0));
        assert!(all.begin(Kind::Server, "a").is_some());
        let unsampled: TraceParent = PARENT.replace("-01", "-00").parse().unwrap();
        assert!(all.follow(unsampled, Kind::Consumer, "b").is_none());
    }

    #[test]
    fn a_trace_caused_by_a_sampled_one_is_sampled() {
        let cause: TraceParent = PARENT.parse().unwrap();
        let (none, _exports, _) = tracer(on(0.0));
        let caused = none.begin_after(Some(cause), Kind::Internal, "a").unwrap();
        assert_ne!(caused.parent().trace_id().to_string(), cause.trace_id().to_string());
        assert!(none.begin_after(None, Kind::Internal, "a").is_none());
        let unsampled: TraceParent = PARENT.replace("-01", "-00").parse().unwrap();
        assert!(none.begin_after(Some(unsampled), Kind::Internal, "a").is_none());
        let (all, _exports, _) = tracer(on(1.0));
        assert!(all.begin_after(None, Kind::Internal, "a").is_some());
        assert!(Tracer::default().begin_after(Some(cause), Kind::Internal, "a").is_none());
    }

    #[test]
    fn only_a_valid_traceparent_is_parsed() {
        assert_eq!(PARENT.parse::<TraceParent>().unwrap().to_string(), PARENT);
        assert!(PARENT.replacen("00-", "01-", 1).parse::<TraceParent>().is_ok(), "a later version");
        let zero = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        for bad in ["", "00", "nonsense", &PARENT[..54], &PARENT.to_uppercase(), &format!("{PARENT}-x"), &zero, "ff-é"] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad}");
        }
    }

    #[test]
    fn a_full_queue_drops_spans_and_counts_them() {
        let (tracer, _exports, metrics) = tracer(Config { queue: 2, ..on(1.0) });
        for _ in 0..5 {
            drop(tracer.begin(Kind::Server, "a"));
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"hubbub_trace_spans_dropped_total{reason="queue_full"} 3"#), "{text}");
    }

    #[test]
    fn an_invalid_setting_is_reported() {
        let wrong = |config: Config| Tracer::new(&config, &Metrics::new()).err().map(|error| error.to_string()).unwrap();
        assert!(wrong(on(1.5)).contains("traces.sample"));
        assert!(wrong(Config { endpoint: Some("localhost".into()), ..Config::default() }).contains("traces.endpoint"));
    }
}
