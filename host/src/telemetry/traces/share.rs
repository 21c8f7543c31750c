//! Decides which traces are sampled: a share of all, and each trace that links to a sampled one. Decides by numbers only, never
//! by a span's content.

use opentelemetry::trace::{Link, SpanKind, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// The sampler for traces that start here.
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
