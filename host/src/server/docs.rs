//! `GET /asyncapi.json` and `GET /docs`: the current contract with clients. It is rendered once for each change of the live releases,
//! and must never be rendered for each request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;

use crate::auth::token::ClaimNames;
use crate::call::registry::Registry;
use crate::contract::{Contract, Reading, asyncapi, page};

/// Allows only the page's own style: no scripts and no other resources.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The state that the handlers share.
pub struct Docs {
    registry: Arc<Registry>,
    /// The server's address in the document.
    host: String,
    /// The claims that are read from a token.
    reading: Reading,
    rendered: ArcSwapOption<Rendered>,
    /// Held while rendering, so that concurrent requests share one result.
    rendering: Mutex<()>,
}

/// Both texts, for one version of the live releases.
struct Rendered {
    version: u64,
    asyncapi: Bytes,
    page: Bytes,
}

impl Docs {
    /// `port` is the public one.
    pub fn new(registry: Arc<Registry>, port: u16, names: &ClaimNames) -> Arc<Self> {
        let host = format!("localhost:{port}");
        let ClaimNames { user_id, tenant, name, email, image, role } = names.clone();
        let reading = Reading { user_id, tenant, name, email, image, role };
        Arc::new(Self { registry, host, reading, rendered: ArcSwapOption::empty(), rendering: Mutex::default() })
    }

    fn current(&self) -> Option<Arc<Rendered>> {
        self.rendered.load_full().filter(|rendered| rendered.version == self.registry.version())
    }

    /// Must not run on a thread that serves sockets, because a hundred events take milliseconds.
    fn render(&self) -> Arc<Rendered> {
        let _one_at_a_time = self.rendering.lock();
        if let Some(rendered) = self.current() {
            return rendered;
        }
        // Read first: if the releases change meanwhile, the text is rendered again instead of being stale.
        let version = self.registry.version();
        let releases: Vec<_> = self.registry.deployed_plugins().iter().filter_map(|deployed| deployed.live()).collect();
        let contract = Contract::of(releases.iter().map(|release| &release.manifest));
        let asyncapi = asyncapi::render(&contract, &self.host, &self.reading).into();
        let rendered = Arc::new(Rendered { version, asyncapi, page: page::render(&contract, &self.reading).into() });
        self.rendered.store(Some(rendered.clone()));
        rendered
    }
}

/// Both routes.
pub fn routes(docs: Arc<Docs>) -> Router {
    let asyncapi = async |State(docs): State<Arc<Docs>>| answer(docs, "application/json", |all| &all.asyncapi).await;
    let page = async |State(docs): State<Arc<Docs>>| answer(docs, "text/html; charset=utf-8", |all| &all.page).await;
    Router::new().route("/asyncapi.json", get(asyncapi)).route("/docs", get(page)).with_state(docs)
}

async fn answer(docs: Arc<Docs>, kind: &'static str, which: fn(&Rendered) -> &Bytes) -> Response {
    let rendered = match docs.current() {
        Some(rendered) => rendered,
        None => match tokio::task::spawn_blocking(move || docs.render()).await {
            Ok(rendered) => rendered,
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, which(&rendered).clone()).into_response()
}
