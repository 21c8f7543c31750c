//! Which traces are begun: a share of all, and each that another caused, which it names by a link. Decides by numbers alone, never by
//! what a span says.

use opentelemetry::trace::{Link, SpanKind, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// Samples a trace that has no beginning elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Share(pub(super) f64);

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let caused = links.iter().any(|link| link.span_context.is_sampled());
        let sampler = if caused { Sampler::AlwaysOn } else { Sampler::TraceIdRatioBased(self.0) };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}
