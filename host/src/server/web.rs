//! The routes of the public port: sockets, health and the contract's pages. No route may answer operators' requests.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::docs::{self, Docs};
use super::origin::Origins;
use super::{accept, admission};
use crate::socket::permits::ConnectionPermit;
use crate::socket::transport::{self, Connection, names};
use crate::socket::{Gateway, Service};

/// The state that the handlers share.
pub struct Web {
    pub gateway: Arc<Gateway>,
    pub service: Service,
    pub started: Instant,
    pub docs: Arc<Docs>,
    pub origins: Origins,
}

/// The public port's routes, without `/api` and the demo.
pub fn routes(web: Arc<Web>) -> Router {
    let engine = Router::new()
        .route_service("/socket.io/", web.service.clone())
        .route_service("/socket.io", web.service.clone())
        .layer(middleware::from_fn_with_state(web.clone(), engine));
    Router::new()
        .route("/health", get(health))
        .route("/socket/health", get(socket_health))
        .with_state(web.clone())
        .merge(engine)
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

/// Accepts websockets directly; other requests go to the engine's service.
async fn engine(State(web): State<Arc<Web>>, mut request: Request, next: Next) -> Response {
    let is_websocket = transport::wants_websocket(&request);
    let permit = match admission::session_of(&request) {
        Some(sid) if !is_websocket => {
            let polls = request.method() == Method::GET;
            let polling = sid.parse().ok().filter(|_| polls).and_then(|sid| web.gateway.permits.polling(sid));
            if request.method() == Method::POST {
                request = match names::with_plain_names(request, web.gateway.config.max_payload).await {
                    Ok(request) => request,
                    Err(_) => return StatusCode::BAD_REQUEST.into_response(),
                };
            }
            return match polling {
                Some(permit) => admission::answer_poll(permit, next.run(request)).await,
                None => next.run(request).await,
            };
        }
        Some(sid) => {
            return match sid.parse().ok().and_then(|sid| web.gateway.permits.polling(sid)) {
                Some(permit) => upgrade(web, permit, request),
                None => admission::unknown_session(),
            };
        }
        None => {
            let permit = web.gateway.connection_permit(&request, !is_websocket);
            match web.gateway.admit_in_turn(permit).await {
                Ok(permit) => permit,
                Err(refused) => {
                    tracing::debug!("a connection was refused: {refused}");
                    return refused.into_response();
                }
            }
        }
    };
    if is_websocket {
        let service = web.service.clone();
        let closer = permit.closer.clone();
        return transport::upgrade(request, closer, move |connection: Connection, mut request| {
            request.extensions_mut().insert(permit);
            // The service has spawned its task when it returns. An error closes the connection, because the HTTP answer is sent.
            drop(hyper::service::Service::call(&service, (connection, request)));
        });
    }
    request.extensions_mut().insert(permit.clone());
    admission::register_session(&web.gateway, &permit, next.run(request).await).await
}

/// Upgrades a polling connection to a websocket. The engine gets the websocket when the client has completed the upgrade; if that
/// fails, the websocket is closed and the client continues polling.
fn upgrade(web: Arc<Web>, permit: Arc<ConnectionPermit>, request: Request) -> Response {
    let attempt = permit.upgrade.begin();
    transport::upgrade(request, permit.closer.clone(), move |connection: Connection, request| {
        tokio::spawn(async move {
            let Some(attempt) = attempt else { return connection.refuse().await };
            match connection.probe(attempt, web.gateway.config.upgrade_timeout).await {
                Ok(connection) => drop(hyper::service::Service::call(&web.service, (connection, request))),
                Err(failed) => web.gateway.services.metrics.upgrade_failed(failed.reason()),
            }
            // The permit must be held until here.
            drop(permit);
        });
    })
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
