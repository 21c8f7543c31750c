//! The operator's page, served without a login: it must hold no data of the server. The page requests its data with the token that
//! the operator enters.

use std::sync::Arc;

use axum::Router;

use super::Admin;
use crate::server::page::{self, CSS, HTML, SCRIPT, file};

/// The page and its files.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", file(include_str!("dashboard/index.html"), HTML))
        .route("/dashboard/dashboard.css", file(include_str!("dashboard/dashboard.css"), CSS))
        .route("/dashboard/dashboard.js", file(include_str!("dashboard/dashboard.js"), SCRIPT))
        .route("/dashboard/plots.js", file(include_str!("dashboard/plots.js"), SCRIPT))
        .route("/dashboard/plugins.js", file(include_str!("dashboard/plugins.js"), SCRIPT))
        .route("/dashboard/tap.js", file(include_str!("dashboard/tap.js"), SCRIPT))
        .route("/dashboard/uplot.min.js", file(include_str!("dashboard/uplot.min.js"), SCRIPT))
        .route("/dashboard/uplot.min.css", file(include_str!("dashboard/uplot.min.css"), CSS))
        .merge(page::routes("/dashboard"))
}
