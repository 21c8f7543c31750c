//! `/api`: backends publish to the bus and send to clients. A message must be stored before it is answered with 202.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::auth::logins::Denied;
use crate::bus::Bus;
use crate::capability::emitter::packet_text;
use crate::error::{Code, Refusal};
use crate::json;
use crate::names::{self, PluginName};
use crate::socket::Gateway;
use crate::storage::{BadMessage, CommitError, MAX_SET_WRITES, OutboxMessage};
use crate::telemetry::traces::{Kind, TRACEPARENT, TraceParent};
use crate::transaction::commit;
use crate::transaction::effects::{Emit, Target};

/// The largest body, in bytes: a whole batch.
pub const MAX_BODY: usize = 1 << 20;

/// The state that the handlers share.
pub struct Api {
    pub gateway: Arc<Gateway>,
    pub bus: Arc<Bus>,
    pub keys: Vec<String>,
    /// The writer of published messages, which is no plugin's name.
    pub writer: PluginName,
}

/// The routes of `/api`.
pub fn routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/api/publish", post(publish))
        .route("/api/emit", post(emit))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), only_backends))
        .with_state(api)
}

async fn only_backends(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let address = api.gateway.address_of(request.extensions(), request.headers());
    let is_known = |key: &str| api.keys.iter().any(|known| secrets_match(known, key));
    match api.gateway.backends.check(address, bearer(request.headers()), is_known) {
        Ok(()) => next.run(request).await,
        Err(Denied::Throttled(wait)) => {
            let refusal = Refusal::new(Code::RateLimited, "Too many failed logins from this address");
            let refusal = Refusal { retry_after_ms: Some(crate::duration::millis(wait)), ..refusal };
            (retry_after(wait), refused(StatusCode::TOO_MANY_REQUESTS, refusal)).into_response()
        }
        Err(_) => refused(StatusCode::UNAUTHORIZED, Refusal::new(Code::Unauthenticated, "An API key is needed")),
    }
}

/// The header `Retry-After`.
pub fn retry_after(wait: Duration) -> [(HeaderName, HeaderValue); 1] {
    [(header::RETRY_AFTER, (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).into())]
}

/// The token of `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Compares secrets in constant time. An empty secret matches none.
pub fn secrets_match(a: &str, b: &str) -> bool {
    !a.is_empty() && a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

fn refused(status: StatusCode, refusal: Refusal) -> Response {
    (status, axum::Json(json!({ "error": refusal }))).into_response()
}

fn invalid(message: impl std::fmt::Display) -> Response {
    refused(StatusCode::BAD_REQUEST, Refusal::new(Code::Invalid, message.to_string()))
}

const NOT_UTF8: &str = "the body is not UTF-8 text";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    topic: String,
    #[serde(borrow)]
    data: &'a RawValue,
    key: Option<String>,
    tenant: Option<String>,
    id: Option<String>,
}

/// Accepts one message, or an array of messages, which is stored in one transaction.
async fn publish(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(body) = str::from_utf8(&body) else { return invalid(NOT_UTF8) };
    let body = json::well_formed(body);
    let is_batch = body.bytes().find(|byte| !byte.is_ascii_whitespace()) == Some(b'[');
    let parsed = if is_batch { serde_json::from_str(&body) } else { serde_json::from_str(&body).map(|one| vec![one]) };
    let batch: Vec<Publish<'_>> = match parsed {
        Ok(batch) => batch,
        Err(error) => return invalid(error),
    };
    if batch.is_empty() || batch.len() > MAX_SET_WRITES {
        return invalid(format!("a batch has 1 to {MAX_SET_WRITES} messages"));
    }
    let services = &api.gateway.services;
    let now = services.clock.now_ms();
    let parent = headers.get(TRACEPARENT).and_then(|text| TraceParent::read(text.as_bytes()));
    let span = services.tracer.follow_or_begin(parent, Kind::Producer, "publish");
    let trace = span.as_ref().map(|span| span.parent().to_string());
    let mut messages = Vec::with_capacity(batch.len());
    for publish in batch {
        let id = publish.id.unwrap_or_else(|| services.ids.next(now));
        let (topic, key, tenant) = (publish.topic, publish.key, publish.tenant);
        let data = publish.data.get().to_owned();
        let message = OutboxMessage { id, topic, key, tenant, data, hops: 0, at_ms: now, trace: trace.clone() };
        match message.check() {
            Ok(()) => messages.push(message),
            Err(wrong @ BadMessage::Bytes) => {
                return refused(StatusCode::PAYLOAD_TOO_LARGE, Refusal::new(Code::TooLarge, wrong.to_string()));
            }
            Err(wrong) => return invalid(wrong),
        }
    }
    let mut ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    let published = api.bus.publish(&api.writer, messages).await;
    if let Some(span) = &span {
        span.number("hubbub.messages", ids.len() as u64);
        span.outcome(if published.is_ok() { "ok" } else { "unavailable" }, published.is_err());
    }
    match published {
        Ok(()) if is_batch => (StatusCode::ACCEPTED, axum::Json(json!({ "ids": ids }))).into_response(),
        Ok(()) => (StatusCode::ACCEPTED, axum::Json(json!({ "id": ids.pop() }))).into_response(),
        Err(CommitError::Invalid(wrong)) => {
            refused(StatusCode::PAYLOAD_TOO_LARGE, Refusal::new(Code::TooLarge, wrong.to_string()))
        }
        Err(error) => {
            tracing::error!("a message could not be stored: {error}");
            refused(StatusCode::SERVICE_UNAVAILABLE, Refusal::unavailable())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Send<'a> {
    namespace: String,
    room: Option<String>,
    user: Option<String>,
    tenant: Option<String>,
    event: String,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

async fn emit(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let Ok(body) = str::from_utf8(&body) else { return invalid(NOT_UTF8) };
    let body = json::well_formed(body);
    let send: Send<'_> = match serde_json::from_str(&body) {
        Ok(send) => send,
        Err(error) => return invalid(error),
    };
    match effect(&api.gateway, send) {
        Ok(emit) => {
            commit::send(&api.gateway.services, &emit).await;
            (StatusCode::ACCEPTED, axum::Json(json!({}))).into_response()
        }
        Err(message) => invalid(message),
    }
}

/// The effect of a request: it sends to a room, a user or a tenant. A room or user is that of the named tenant, else of
/// `auth.default_tenant`, else without a tenant.
fn effect(gateway: &Gateway, send: Send<'_>) -> Result<Emit, String> {
    let text = |error: names::InvalidName| error.to_string();
    names::check("namespace", &send.namespace).map_err(text)?;
    names::check_event(&send.event).map_err(text)?;
    if let Some(tenant) = &send.tenant {
        names::check("tenant", tenant).map_err(text)?;
    }
    let user = |user: &str| {
        names::check("user", user).map_err(text)?;
        Ok::<_, String>(Target::Users(vec![gateway.services.scoped(send.tenant.as_deref(), user)]))
    };
    let to = match (&send.room, &send.user, &send.tenant) {
        (Some(_), Some(_), _) => return Err("name a room or a user, not both".into()),
        (Some(room), None, _) => match room.strip_prefix("user:") {
            Some(id) => user(id)?,
            None => {
                names::check("room", room).map_err(text)?;
                room_target(gateway, &send.namespace, room, send.tenant.as_deref())
            }
        },
        (None, Some(id), _) => user(id)?,
        (None, None, Some(tenant)) => Target::Tenant(tenant.clone()),
        (None, None, None) => return Err("name a room, a user or a tenant".into()),
    };
    let args = send.args.map_or("[]", RawValue::get);
    // A single argument may be given without an array.
    let inside = if args.trim_start().starts_with('[') { json::check_array(args) } else { json::check(args).map(|()| args) };
    Ok(Emit {
        namespace: send.namespace.as_str().into(),
        to,
        except: Vec::new(),
        except_socket: None,
        text: packet_text(&send.event, inside.map_err(|e| e.to_string())?),
        volatile: false,
    })
}

/// A room, by the tenancy of its plugin. In a room that all tenants share, only the tenant's members are sent to.
fn room_target(gateway: &Gateway, namespace: &str, room: &str, tenant: Option<&str>) -> Target {
    match (gateway.registry.is_shared_room(namespace, room), tenant) {
        (true, Some(tenant)) => Target::TenantInRoom { tenant: tenant.to_owned(), room: room.to_owned() },
        (true, None) => Target::Rooms(vec![room.to_owned()]),
        (false, tenant) => Target::Rooms(vec![gateway.services.scoped(tenant, room)]),
    }
}
