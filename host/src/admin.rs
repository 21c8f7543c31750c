//! The operator's port: metrics, readiness, the dashboard and deployments. It must not be reachable from outside. Errors are
//! `application/problem+json`.

mod dashboard;
mod dead;
mod metrics;
mod operators;
mod plugins;
mod record;
pub(crate) mod requests;
pub mod status;
pub mod taps;
pub mod watchers;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::auth::logins::Denied;
use crate::bus::ingest::outside::Outside;
use crate::call::breaker::Quarantined;
use crate::call::deployed_plugin::DeployedPlugin;
use crate::deploy::releases::Releases;
use crate::server::api::{bearer, retry_after, secrets_match};
use crate::socket::Gateway;
use status::Latest;

/// The state that the handlers share.
pub struct Admin {
    pub gateway: Arc<Gateway>,
    pub releases: Arc<Releases>,
    pub token: Option<String>,
    /// The largest component, in bytes.
    pub max_component: usize,
    pub status: Latest,
    /// Sends live metrics to dashboards.
    pub live: watchers::Service,
    /// Whether operators may see payloads.
    pub shows_payloads: bool,
    /// Systems that messages are read from.
    pub sources: Outsides,
    /// Systems that messages are sent to.
    pub systems: Outsides,
}

/// Other systems, by name.
pub type Outsides = Vec<(&'static str, Arc<Outside>)>;

/// The operator's routes. Only `/metrics`, `/ready` and the empty dashboard page work without the admin token.
pub fn routes(admin: Arc<Admin>) -> Router {
    let guarded = plugins::routes(admin.max_component)
        .merge(metrics::routes())
        .merge(record::routes())
        .merge(dead::routes())
        .route("/admin/drain", post(drain))
        .layer(DefaultBodyLimit::max(admin.max_component))
        .layer(middleware::from_fn_with_state(admin.clone(), only_operators));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .merge(live(admin.live.clone()))
        .merge(guarded)
        .merge(dashboard::routes())
        .with_state(admin)
}

/// The routes that still answer when the port has reached its connection limit: those of load balancers and Prometheus.
pub fn checks(admin: Arc<Admin>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/ready", get(ready)).fallback(full).with_state(admin)
}

async fn full() -> Response {
    let detail = "the operator's port has reached its connection limit";
    (retry_after(Duration::from_secs(1)), problem(StatusCode::SERVICE_UNAVAILABLE, "Too many connections", detail))
        .into_response()
}

/// Errors of [`crate::server::guard`] in this port's form.
pub fn answer(status: StatusCode, title: &'static str, detail: &'static str) -> Response {
    problem(status, title, detail)
}

/// The dashboards' sockets, over websocket or polling. An upgrade is refused, because the engine answers every poll at once during
/// an upgrade.
fn live<S: Clone + Send + Sync + 'static>(service: watchers::Service) -> Router<S> {
    Router::new()
        .route_service("/socket.io/", service.clone())
        .route_service("/socket.io", service)
        .layer(middleware::from_fn(without_upgrades))
}

async fn without_upgrades(request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let is_websocket = query.split('&').any(|pair| pair == "transport=websocket");
    let is_upgrade = is_websocket && query.split('&').any(|pair| pair.starts_with("sid="));
    if is_upgrade {
        // As Node's server refuses it.
        let body = r#"{"code":3,"message":"Bad request"}"#;
        return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    next.run(request).await
}

async fn only_operators(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Some(known) = &admin.token else {
        return problem(StatusCode::UNAUTHORIZED, "Operator access is disabled", "set admin.token to enable it");
    };
    let address = admin.gateway.address_of(request.extensions(), request.headers());
    match admin.gateway.operators.check(address, bearer(request.headers()), |token| secrets_match(known, token)) {
        Ok(()) => next.run(request).await,
        Err(Denied::Throttled(wait)) => {
            let detail = "this address has shown wrong tokens; other addresses are not throttled";
            (retry_after(wait), problem(StatusCode::TOO_MANY_REQUESTS, "Too many failed logins", detail)).into_response()
        }
        Err(_) => problem(StatusCode::UNAUTHORIZED, "The operator's token is needed", "send it as Authorization: Bearer"),
    }
}

fn problem(status: StatusCode, title: &str, detail: impl std::fmt::Display) -> Response {
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail.to_string() });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match admin.gateway.services.metrics.encode() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written", error),
    }
}

/// Whether the node may be given clients.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let storage = &admin.gateway.services.storage;
    let answers = storage.health().await.is_ok();
    let unwritable = if answers { storage.writable().await.err() } else { None };
    let storage = answers && unwritable.is_none();
    let deployed_plugins = admin.gateway.registry.deployed_plugins();
    let deployed = deployed_plugins.iter().filter(|deployed| deployed.is_deployed());
    let down: Vec<_> =
        deployed.filter(|deployed| deployed.state() != "active").map(|deployed| deployed.name.to_string()).collect();
    let quarantined: Vec<_> = deployed_plugins.iter().flat_map(|deployed| quarantine_of(deployed)).collect();
    let keys: Vec<String> = admin.gateway.keyring.get().missing().iter().map(ToString::to_string).collect();
    let draining = admin.gateway.drain.has_begun();
    let redis = admin.gateway.services.cluster.as_ref().map(|cluster| cluster.link.is_up());
    let degraded = !down.is_empty() || !quarantined.is_empty() || !keys.is_empty() || redis == Some(false);
    let status = match (draining, storage, degraded) {
        (true, ..) => "draining",
        (_, false, _) => "unavailable",
        (_, true, true) => "degraded",
        (_, true, false) => "ready",
    };
    let mut body = json!({ "status": status, "storage": storage, "pluginsDown": down, "keysMissing": keys });
    if let Some(reason) = unwritable {
        body["storageError"] = json!(reason.to_string());
    }
    if !quarantined.is_empty() {
        body["quarantined"] = json!(quarantined);
    }
    if let Some(cluster) = &admin.gateway.services.cluster {
        body["redis"] = json!(cluster.link.is_up());
        body["nodes"] = json!(cluster.nodes.live().len());
    }
    // An external system that is down does not make the node unready.
    for (key, systems) in [("ingest", &admin.sources), ("egress", &admin.systems)] {
        for (name, outside) in systems {
            body[key][*name] = json!(outside.state());
        }
    }
    let code = if storage && !draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(body)).into_response()
}

/// The quarantined sources of a plugin's calls, and why.
fn quarantine_of(deployed: &DeployedPlugin) -> Vec<Value> {
    let describe = |one: Quarantined| json!({ "plugin": deployed.name, "source": one.source, "cause": one.cause, "at": one.at });
    deployed.quarantined().into_iter().map(describe).collect()
}

/// Drains the node without stopping the process. Each call returns the number of connections that are left.
async fn drain(State(admin): State<Arc<Admin>>) -> Response {
    admin.gateway.drain.begin();
    let body = json!({ "status": "draining", "connections": admin.gateway.sockets.connections() });
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}
