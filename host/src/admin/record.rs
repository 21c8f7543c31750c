//! Streams a recording of a plugin's calls to the operator. The recording ends when the request's connection closes; nothing is stored.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use http::{StatusCode, header};

use super::requests::RecordQuery;
use super::{Admin, problem};
use crate::names::PluginName;
use crate::replay::recording::{How, RecordError, Recording};
use crate::replay::redact::{Hide, Vocabulary};

/// The route of recordings.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/admin/plugins/{name}/record", post(record))
}

async fn record(State(admin): State<Arc<Admin>>, Path(name): Path<String>, Query(what): Query<RecordQuery>) -> Response {
    let share = match what.share() {
        Ok(share) => share,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "Not a share", error),
    };
    let config = &admin.releases.recording;
    if what.time > config.time {
        let detail = format!("a record takes at most {:?} (record.time)", config.time);
        return problem(StatusCode::BAD_REQUEST, "Too long", detail);
    }
    let deployed = PluginName::parse(&name).ok().and_then(|name| admin.gateway.registry.deployed(&name));
    let Some(deployed) = deployed else {
        return problem(StatusCode::NOT_FOUND, "No such plugin", format!("nothing is deployed as {name:.64}"));
    };
    let hide = if what.clear { Hide::Secrets } else { Hide::Texts };
    let vocabulary = match deployed.live().filter(|_| hide == Hide::Texts) {
        Some(release) => admin.releases.vocabulary(&release.digest).await,
        None => Vocabulary::default(),
    };
    let how = How { percent: share, time: what.time, hide, vocabulary };
    let begun = Recording::begin(&deployed, how, config, &admin.gateway.services.metrics.recordings);
    let lines = match begun {
        Ok(lines) => lines,
        Err(error @ RecordError::Random(_)) => return problem(StatusCode::INTERNAL_SERVER_ERROR, "No record", error),
        Err(error) => return problem(StatusCode::CONFLICT, "No record", error),
    };
    tracing::info!(plugin = %deployed.name, share, clear = what.clear, "recording calls");
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), lines))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
