//! The operator's port: metrics, readiness, and what is deployed. Keep it to loopback. Errors are `application/problem+json`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::gateway::api::{bearer, is_same};
use crate::names::PluginName;
use crate::release::registry::Slot;
use crate::release::stage::Stage;

/// What the handlers here work on.
pub struct Admin {
    pub gateway: Arc<Gateway>,
    pub stage: Arc<Stage>,
    pub token: Option<String>,
    pub plugins: std::collections::BTreeMap<PluginName, crate::config::Plugin>,
    /// The largest component, in bytes.
    pub max_component: usize,
}

/// The operator's routes.
pub fn routes(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/admin/plugins", get(list))
        .route("/admin/plugins/{name}/deploy", post(deploy))
        .route("/admin/plugins/{name}/disable", post(disable))
        .route("/admin/plugins/{name}/enable", post(enable))
        .layer(DefaultBodyLimit::max(admin.max_component))
        .layer(middleware::from_fn_with_state(admin.clone(), only_operators));
    Router::new().route("/metrics", get(metrics)).route("/ready", get(ready)).merge(guarded).with_state(admin)
}

async fn only_operators(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match (&admin.token, bearer(request.headers())) {
        (Some(known), Some(token)) if is_same(known, token) => next.run(request).await,
        (None, _) => problem(StatusCode::UNAUTHORIZED, "No operator is let in", "set admin.token to let one in"),
        _ => problem(StatusCode::UNAUTHORIZED, "The operator's token is needed", "send it as Authorization: Bearer"),
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
    let storage = admin.gateway.services.storage.blob("ready").await.is_ok();
    let down: Vec<String> =
        admin.gateway.registry.slots().iter().filter(|slot| slot.live().is_none()).map(|slot| slot.name.to_string()).collect();
    let keys: Vec<String> = admin.gateway.keyring.missing().iter().map(ToString::to_string).collect();
    let degraded = !down.is_empty() || !keys.is_empty();
    let status = match (storage, degraded) {
        (false, _) => "unavailable",
        (true, true) => "degraded",
        (true, false) => "ready",
    };
    let body = json!({ "status": status, "storage": storage, "pluginsDown": down, "keysMissing": keys });
    let code = if storage { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(body)).into_response()
}

async fn list(State(admin): State<Arc<Admin>>) -> Response {
    let plugins: Vec<Value> = admin.gateway.registry.slots().iter().map(|slot| describe(slot)).collect();
    axum::Json(json!({ "plugins": plugins })).into_response()
}

fn describe(slot: &Slot) -> Value {
    let Some(release) = slot.live() else { return json!({ "name": slot.name, "state": "disabled" }) };
    let metrics = &release.profile.metrics;
    json!({
        "name": slot.name,
        "state": "active",
        "version": release.manifest.version,
        "digest": release.digest,
        "dataVersion": release.manifest.data_version,
        "counters": {
            "events": metrics.events.get(),
            "faults": metrics.faults.get(),
            "conflicts": metrics.conflicts.get(),
            "busy": release.pool.busy(),
        },
    })
}

async fn deploy(State(admin): State<Arc<Admin>>, Path(name): Path<String>, component: Bytes) -> Response {
    let name = match PluginName::parse(&name) {
        Ok(name) => name,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "Not a plugin's name", error),
    };
    let config = admin.plugins.get(&name).map(|plugin| plugin.config.clone()).unwrap_or_default();
    let release = match admin.stage.stage(&name, component.to_vec(), config).await {
        Ok(release) => release,
        Err(error) => return problem(StatusCode::UNPROCESSABLE_ENTITY, "The component was not staged", error),
    };
    let version = release.manifest.version.clone();
    match admin.gateway.registry.install(vec![release]) {
        Ok(()) => axum::Json(json!({ "name": name, "version": version, "state": "active" })).into_response(),
        Err(collision) => problem(StatusCode::CONFLICT, "The release cannot go live beside the others", collision),
    }
}

async fn disable(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    set_disabled(&admin, &name, true)
}

async fn enable(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    set_disabled(&admin, &name, false)
}

fn set_disabled(admin: &Admin, name: &str, disabled: bool) -> Response {
    let slot = PluginName::parse(name).ok().and_then(|name| admin.gateway.registry.slot(&name));
    match slot {
        Some(slot) => {
            admin.gateway.registry.set_disabled(&slot, disabled);
            axum::Json(describe(&slot)).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "No such plugin", format!("nothing is deployed as {name:.64}")),
    }
}
