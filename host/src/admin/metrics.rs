//! The current metrics as JSON, and a Grafana dashboard over `/metrics`. Nothing is counted here.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use super::{Admin, problem};

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/admin/figures", get(status)).route("/admin/grafana.json", get(grafana))
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    // The first status is published right after the start.
    let mut latest = admin.status.clone();
    let current = latest.wait_for(Option::is_some).await.ok().and_then(|status| status.clone());
    match current {
        Some(status) => axum::Json(&*status).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "No metrics", "the server is stopping"),
    }
}

/// A Grafana dashboard over `/metrics`.
async fn grafana() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("grafana.json")).into_response()
}
