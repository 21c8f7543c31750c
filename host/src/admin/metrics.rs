//! The figures of this second, for who asks once; and the Grafana dashboard for who keeps them. Nothing is counted here.

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
    // Counted from the start on: there are none for an instant only.
    let mut latest = admin.status.clone();
    let known = latest.wait_for(Option::is_some).await.ok().and_then(|status| status.clone());
    match known {
        Some(status) => axum::Json(&*status).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "No figures", "the server is stopping"),
    }
}

/// A dashboard over what `/metrics` tells.
async fn grafana() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("grafana.json")).into_response()
}
