//! The operator's routes for dead letters: list, retry and drop. They must show message data only where operators may see payloads.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use super::requests::{LetterSelection, MAX_IDS, Page};
use super::{Admin, problem};
use crate::storage::{DeadLetterRow, Unavailable};

/// Letters on a page: the default and the most.
const PAGE: (usize, usize) = (100, 1000);

/// Letters read from storage at a time; each may be 1 MiB.
const READ: usize = 32;

/// The routes of `/admin/dead`.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/admin/dead", get(list)).route("/admin/dead/retry", post(retry)).route("/admin/dead/drop", post(discard))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Retry,
    Drop,
}

async fn list(State(admin): State<Arc<Admin>>, Query(page): Query<Page>) -> Response {
    if page.payload && !admin.shows_payloads {
        return problem(StatusCode::FORBIDDEN, "Payloads are not shown", "set admin.tap_payloads = \"full\" to have them shown");
    }
    let limit = page.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let (mut letters, mut after) = (Vec::new(), page.after.unwrap_or(0));
    loop {
        let rows = match admin.letters(after).await {
            Ok(rows) => rows,
            Err(error) => return unavailable(&error),
        };
        let Some(last) = rows.last().map(|row| row.seq) else { break };
        for row in rows.iter().filter(|row| is_of(row, page.plugin.as_deref(), page.topic.as_deref())) {
            if letters.len() == limit {
                let next = letters.last().map(|letter: &Value| letter["id"].clone());
                return axum::Json(json!({ "letters": letters, "next": next })).into_response();
            }
            letters.push(describe(row, page.payload));
        }
        after = last;
    }
    axum::Json(json!({ "letters": letters })).into_response()
}

fn describe(row: &DeadLetterRow, payload: bool) -> Value {
    let (letter, message) = (&row.letter, &row.letter.message);
    let mut described = json!({
        "id": row.seq,
        "plugin": letter.plugin,
        "message": message.id,
        "topic": message.topic,
        "key": message.key,
        "tenant": message.tenant,
        "reason": letter.error,
        "sentAt": message.at_ms,
        "diedAt": row.at_ms,
        "bytes": message.data.len(),
    });
    if payload {
        described["data"] = serde_json::from_str(&message.data).unwrap_or_else(|_| json!(message.data));
    }
    described
}

fn is_of(row: &DeadLetterRow, plugin: Option<&str>, topic: Option<&str>) -> bool {
    plugin.is_none_or(|plugin| row.letter.plugin.as_str() == plugin)
        && topic.is_none_or(|topic| row.letter.message.topic == topic)
}

async fn retry(State(admin): State<Arc<Admin>>, body: axum::body::Bytes) -> Response {
    admin.settle(&body, Action::Retry).await
}

async fn discard(State(admin): State<Arc<Admin>>, body: axum::body::Bytes) -> Response {
    admin.settle(&body, Action::Drop).await
}

impl Admin {
    async fn letters(&self, after: u64) -> Result<Vec<DeadLetterRow>, Unavailable> {
        self.gateway.services.storage.dead_letters(after, READ).await
    }

    /// The number of the newest letter.
    async fn newest_letter(&self) -> Result<u64, Unavailable> {
        let mut newest = 0;
        while let Some(last) = self.letters(newest).await?.last() {
            newest = last.seq;
        }
        Ok(newest)
    }

    /// Retries or drops the selected letters. Returns how many succeeded, and the reason for each that failed.
    async fn settle(&self, body: &[u8], action: Action) -> Response {
        let which = match LetterSelection::read(body) {
            Ok(which) => which,
            Err((title, detail)) => return problem(StatusCode::BAD_REQUEST, title, detail),
        };
        let (mut done, mut refused, mut after) = (0, Vec::new(), 0);
        // A message that fails again becomes a new letter, which must not be retried again. It is recognised by its number: the
        // clock may have been set back.
        let newest = match self.newest_letter().await {
            Ok(newest) => newest,
            Err(error) => return unavailable(&error),
        };
        loop {
            let rows = match self.letters(after).await {
                Ok(rows) => rows,
                Err(error) => return unavailable(&error),
            };
            let Some(last) = rows.last().map(|row| row.seq) else { break };
            let chosen = |row: &&DeadLetterRow| {
                row.seq <= newest
                    && (which.ids.is_empty() || which.ids.contains(&row.seq))
                    && is_of(row, which.plugin.as_deref(), which.topic.as_deref())
            };
            let settled = join_all(rows.iter().filter(chosen).map(|row| self.settle_one(row, action))).await;
            for settled in settled {
                match settled {
                    Ok(true) => done += 1,
                    // Another request has removed it already.
                    Ok(false) => {}
                    Err(why) if refused.len() < MAX_IDS => refused.push(why),
                    Err(_) => {}
                }
            }
            after = last;
            if last >= newest {
                break;
            }
        }
        if done > 0 {
            tracing::info!(letters = done, "{} by the operator", if action == Action::Retry { "retried" } else { "dropped" });
            self.gateway.services.published.notify_one();
        }
        let key = if action == Action::Retry { "retried" } else { "dropped" };
        axum::Json(json!({ key: done, "refused": refused })).into_response()
    }

    async fn settle_one(&self, row: &DeadLetterRow, action: Action) -> Result<bool, Value> {
        let storage = &self.gateway.services.storage;
        let refused = |why: String| json!({ "id": row.seq, "why": why });
        if action == Action::Drop {
            return storage.remove_dead_letter(row.seq).await.map_err(|error| refused(error.to_string()));
        }
        let plugin = &row.letter.plugin;
        let sent = self.systems.iter().any(|(name, _)| plugin.as_str() == format!("egress-{name}"));
        if !sent && self.gateway.registry.deployed(plugin).is_none() {
            return Err(refused(match plugin.as_str().strip_prefix("ingest-") {
                Some(source) => format!("the source {source} sent no valid message: correct it there, and send it again"),
                None => format!("nothing is deployed as {plugin}"),
            }));
        }
        storage.revive_dead_letter(row.seq).await.map_err(|error| refused(error.to_string()))
    }
}

fn unavailable(error: &Unavailable) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "Storage does not answer", error)
}
