//! The routes of the public port: sockets, health and the contract's pages. No route may answer operators' requests.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::accept;
use super::docs::{self, Docs};
use super::origin::Origins;
use crate::socket::{Gateway, Wire};

/// The state that the handlers share.
pub struct Web {
    pub gateway: Arc<Gateway>,
    pub wire: Wire,
    pub started: Instant,
    pub docs: Arc<Docs>,
    pub origins: Origins,
}

/// The public port's routes, without `/api` and the demo.
pub fn routes(web: Arc<Web>) -> Router {
    Router::new()
        .route_service("/socket.io/", web.wire.clone())
        .route_service("/socket.io", web.wire.clone())
        .route("/health", get(health))
        .route("/socket/health", get(socket_health))
        .with_state(web.clone())
        .merge(docs::routes(web.docs.clone()))
        .layer(cors(web))
}

/// The public port's routes past its limits: health checks, and 503 for all others.
pub fn checks(web: Arc<Web>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/socket/health", get(socket_health))
        .fallback(accept::refused)
        .with_state(web.clone())
        .layer(cors(web))
}

/// The answer names the origin instead of a wildcard, because credentials are allowed.
fn cors(web: Arc<Web>) -> CorsLayer {
    let allowed = AllowOrigin::predicate(move |origin: &HeaderValue, _| web.origins.allows_header(Some(origin.as_bytes())));
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .allow_credentials(true)
}

/// Public paths. Any page may send a read there; `[cors]` decides which pages may see the answer.
pub fn is_open(path: &str) -> bool {
    !path.starts_with("/socket.io") && !path.starts_with("/api/")
}

/// Errors of [`super::guard`] in this port's form.
pub fn answer(status: StatusCode, title: &'static str, _: &'static str) -> Response {
    (status, format!("{title}\n")).into_response()
}

async fn health(State(web): State<Arc<Web>>) -> Response {
    let now = UNIX_EPOCH + Duration::from_millis(web.gateway.services.clock.now_ms());
    let body = json!({
        "status": "healthy",
        "service": "realtime",
        "timestamp": humantime::format_rfc3339_millis(now).to_string(),
        "connections": web.gateway.sockets.connections(),
    });
    axum::Json(body).into_response()
}

async fn socket_health(State(web): State<Arc<Web>>) -> Response {
    let body = json!({
        "status": "healthy",
        "connectedSockets": web.gateway.sockets.connections(),
        "rooms": web.gateway.services.rooms.count(),
        "uptime": web.started.elapsed().as_secs_f64(),
    });
    axum::Json(body).into_response()
}
