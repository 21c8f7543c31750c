//! Static files of the pages, and the files that all pages share. Every file must work under `default-src 'self'`.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderValue, header};

pub const HTML: &str = "text/html; charset=utf-8";
pub const CSS: &str = "text/css; charset=utf-8";
pub const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files that every page loads from its own folder: the Socket.IO client, the icon and the shared style.
pub fn routes<S: Clone + Send + Sync + 'static>(folder: &str) -> Router<S> {
    Router::new()
        .route(&format!("{folder}/page.css"), file(include_str!("page/page.css"), CSS))
        .route(&format!("{folder}/icon.svg"), file(include_str!("page/icon.svg"), "image/svg+xml"))
        .route(&format!("{folder}/socket.io.min.js"), file(include_str!("page/socket.io.min.js"), SCRIPT))
}

/// A route to one static file.
pub fn file<S: Clone + Send + Sync + 'static>(body: &'static str, kind: &'static str) -> MethodRouter<S> {
    get(move || async move { answer(body, kind) })
}

fn answer(body: &'static str, kind: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
