//! The demo page of `hubbub dev`: a chat between two tabs. It stands in for a product's backend that logs in users and makes them
//! participants. It must never be served in production, because it signs tokens for any name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::page::{self, CSS, HTML, SCRIPT, file};
use crate::auth::config::Secret;
use crate::auth::sign::{self, Claims};
use crate::bus::Bus;
use crate::names::PluginName;
use crate::socket::Gateway;
use crate::storage::OutboxMessage;

/// The only chat of the demo.
const CHAT: &str = "lobby";

/// The name under which the users are stored: a participant whom a restart forgets would leave the lobby.
const PEOPLE: &str = "demo/people";

/// The most users of the demo; past it the first by id is removed.
const MAX_PEOPLE: usize = 200;

/// The longest name, in characters.
const MAX_NAME: usize = 40;

/// The largest body, in bytes.
const MAX_BODY: usize = 4096;

/// The lifetime of a demo token.
const TOKEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The state that the handlers share.
pub struct Demo {
    pub gateway: Arc<Gateway>,
    pub bus: Arc<Bus>,
    /// The writer of published messages, which is no plugin's name.
    pub writer: PluginName,
    /// Signs the demo's tokens. None if all keys are public keys.
    pub secret: Option<Secret>,
    /// Ids and names of users. None: not read yet.
    pub people: Mutex<Option<People>>,
}

type People = BTreeMap<String, String>;

/// The demo's routes.
pub fn routes(demo: Arc<Demo>) -> Router {
    Router::new()
        .route("/", file(include_str!("demo/index.html"), HTML))
        .route("/demo/demo.js", file(include_str!("demo/demo.js"), SCRIPT))
        .route("/demo/demo.css", file(include_str!("demo/demo.css"), CSS))
        .merge(page::routes("/demo"))
        .route("/demo/enter", post(enter).layer(DefaultBodyLimit::max(MAX_BODY)))
        .with_state(demo)
}

#[derive(Deserialize)]
struct Enter {
    name: String,
}

/// Creates a user with a name, and makes the user a participant of the lobby.
async fn enter(State(demo): State<Arc<Demo>>, axum::Json(Enter { name }): axum::Json<Enter>) -> Response {
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    let slug: String = name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    if slug.trim_matches('-').is_empty() {
        return (StatusCode::BAD_REQUEST, axum::Json(json!({ "title": "A name is needed" }))).into_response();
    }
    let user = format!("demo-{slug}");
    let now = demo.gateway.services.clock.now_ms();
    let Some(secret) = &demo.secret else {
        let title = "The demo signs its tokens itself, and this server has no secret for that";
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "title": title }))).into_response();
    };
    let claims = Claims::of(&user).text("name", &name).and_then(|claims| claims.text("role", "GUEST"));
    let token = claims.and_then(|claims| sign::sign(secret.expose().as_bytes(), claims, TOKEN, now));
    let Ok(token) = token else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    if demo.publish_participants(&user, &name, now).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "title": "Storage does not answer" }))).into_response();
    }
    axum::Json(json!({ "userId": user, "token": token, "chatId": CHAT })).into_response()
}

impl Demo {
    /// Publishes the lobby's participants to the plugin, as a product's backend would.
    async fn publish_participants(&self, user: &str, name: &str, now_ms: u64) -> anyhow::Result<()> {
        // Held to the end, so that lists are published in the order in which they grow.
        let mut people = self.people.lock().await;
        let mut all = match people.take() {
            Some(all) => all,
            None => self.stored_people().await?,
        };
        if all.len() >= MAX_PEOPLE && !all.contains_key(user) {
            all.pop_first();
        }
        all.insert(user.to_owned(), name.to_owned());
        let storage = &self.gateway.services.storage;
        storage.put_blob(PEOPLE.to_owned(), serde_json::to_vec(&all)?.into()).await?;
        let person = |(id, name): (&String, &String)| json!({ "userId": id, "name": name, "role": "GUEST", "image": null });
        let participants: Vec<_> = all.iter().map(person).collect();
        let message = OutboxMessage {
            id: self.gateway.services.ids.next(now_ms),
            topic: "chat.upserted".into(),
            key: Some(CHAT.into()),
            tenant: None,
            data: json!({ "chatId": CHAT, "participants": participants }).to_string(),
            hops: 0,
            at_ms: now_ms,
            trace: None,
        };
        *people = Some(all);
        Ok(self.bus.publish(&self.writer, vec![message]).await?)
    }

    async fn stored_people(&self) -> anyhow::Result<People> {
        let stored = self.gateway.services.storage.blob(PEOPLE).await?;
        Ok(stored.map(|json| serde_json::from_slice(&json)).transpose()?.unwrap_or_default())
    }
}
