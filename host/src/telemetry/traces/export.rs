//! The exporter of spans: a bounded queue, and the task that sends it to the collector. Never blocks the code that ends a span: a
//! full queue drops the span, and if the collector is down only spans are lost.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, watch};

use super::{Config, DROPPED, TracesError};
use crate::telemetry::{Metrics, ReasonLabel};

/// The queue of ended spans.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    full: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.full.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends spans to the collector while it runs.
pub struct Exports {
    spans: mpsc::Receiver<SpanData>,
    exporter: opentelemetry_otlp::SpanExporter,
    batch: usize,
    every: Duration,
    sent: Counter,
    failed: Counter,
    /// The collector did not accept the last batch.
    down: bool,
}

impl Exports {
    pub(super) fn new(config: &Config, target: String, metrics: &Metrics) -> Result<(Self, Queue), TracesError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(target)
            .with_timeout(config.timeout)
            .build()
            .map_err(|error| TracesError::Exporter(error.to_string()))?;
        exporter.set_resource(&resource());
        let (spans, receiver) = mpsc::channel(config.queue.max(1));
        let dropped = |reason| metrics.spans_dropped.get_or_create(&ReasonLabel { reason }).clone();
        let exports = Self {
            spans: receiver,
            exporter,
            batch: config.batch.max(1),
            every: config.every,
            sent: metrics.spans_sent.clone(),
            failed: dropped(DROPPED[1]),
            down: false,
        };
        Ok((exports, Queue { spans, full: dropped(DROPPED[0]) }))
    }

    /// Runs until `ending` is true, and then sends the remaining spans once.
    pub async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut batch = Vec::new();
        loop {
            let first = tokio::select! {
                first = self.spans.recv() => first,
                _ = ending.wait_for(|ending| *ending) => None,
            };
            let Some(first) = first else { break };
            batch.push(first);
            self.gather(&mut batch, &mut ending).await;
            self.send(std::mem::take(&mut batch)).await;
        }
        while !self.down {
            while batch.len() < self.batch
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    /// Waits for more spans, until the batch is full or its time is over.
    async fn gather(&mut self, batch: &mut Vec<SpanData>, ending: &mut watch::Receiver<bool>) {
        let until = tokio::time::Instant::now() + self.every;
        while batch.len() < self.batch {
            let room = self.batch - batch.len();
            tokio::select! {
                got = self.spans.recv_many(batch, room) => if got == 0 { return },
                () = tokio::time::sleep_until(until) => return,
                _ = ending.wait_for(|ending| *ending) => return,
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.sent.inc_by(spans);
                if std::mem::take(&mut self.down) {
                    tracing::info!("the collector accepts traces again");
                }
            }
            Err(error) => {
                self.failed.inc_by(spans);
                // Logged once, since the collector may be down for days.
                if !std::mem::replace(&mut self.down, true) {
                    tracing::warn!("the collector does not accept traces, and they are dropped: {error}");
                }
            }
        }
    }
}

/// The service that sends the spans. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` override it.
fn resource() -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
    let builder = Resource::builder().with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { builder.build() } else { builder.with_service_name("hubbub").build() }
}
