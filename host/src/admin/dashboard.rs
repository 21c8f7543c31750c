//! The operator's page: files of this binary, the same for everyone. What it shows it asks for with the token that the operator
//! types in; nothing here knows a figure.

use std::sync::Arc;

use axum::Router;

use super::Admin;
use crate::server::page::{self, CSS, HTML, SCRIPT, file};

/// The page and what it loads.
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
