//! An OpenTelemetry collector with the little that a test needs: it accepts traces over HTTP and shows them. Must never outlive
//! its value.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::wait;

/// A collector on a loopback port.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    seen: Seen,
    serving: AbortHandle,
}

type Seen = Arc<Mutex<Vec<Span>>>;

/// A received span. Ids are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty for a root span.
    pub parent: String,
    pub name: String,
    pub service: String,
    pub attributes: BTreeMap<String, String>,
    /// Ids of linked spans.
    pub links: Vec<String>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound port");
        let seen = Seen::default();
        let routes = Router::new().route("/v1/traces", post(take)).with_state(seen.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("a loopback server") });
        Self { address, seen, serving: serving.abort_handle() }
    }

    /// The URL for a server's configuration.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.seen.lock().clone()
    }

    /// Waits for a span of that name for which `is_it` holds.
    pub async fn span(&self, name: &str, is_it: impl Fn(&Span) -> bool) -> Span {
        let what = format!("the span {name:?}");
        wait::until(&what, wait::DEADLINE, async || {
            self.spans().into_iter().find(|span| span.name.starts_with(name) && is_it(span))
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(seen): State<Seen>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP as protobuf");
    let mut seen = seen.lock();
    for resource in request.resource_spans {
        let service = texts(&resource.resource.unwrap_or_default().attributes).remove("service.name").unwrap_or_default();
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        seen.extend(spans.map(|span| Span::of(&span, &service)));
    }
}

impl Span {
    fn of(span: &otlp::Span, service: &str) -> Self {
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            name: span.name.clone(),
            service: service.to_owned(),
            attributes: texts(&span.attributes),
            links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        }
    }

    /// One of the server's own attributes as text. Empty if it is missing.
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(&format!("hubbub.{key}")).map_or("", String::as_str)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}
