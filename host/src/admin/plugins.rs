//! The operator's routes for plugins: list, deploy, promote, roll back, disable, enable. A failure is returned in the words of the
//! step that failed.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::requests::DeployQuery;
use super::status::NodeReport;
use super::{Admin, problem};
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::release::Release;
use crate::deploy::checks::signature;
use crate::deploy::releases::{DeployError, Part};
use crate::names::PluginName;

/// The most plugins of a set, and the largest body of a set as a multiple of `sandbox.component`.
const MAX_SET: usize = 16;
const MAX_SET_COMPONENTS: usize = 4;

/// The routes of `/admin/plugins`, and those that change several plugins in one transaction.
pub(super) fn routes(max_component: usize) -> Router<Arc<Admin>> {
    Router::new()
        .route("/admin/plugins", get(list))
        .route("/admin/deploy", post(deploy_set).layer(DefaultBodyLimit::max(max_component.saturating_mul(MAX_SET_COMPONENTS))))
        .route("/admin/rollback", post(rollback_set))
        .route("/admin/plugins/{name}/deploy", post(deploy))
        .route("/admin/plugins/{name}/promote", post(promote))
        .route("/admin/plugins/{name}/rollback", post(rollback))
        .route("/admin/plugins/{name}/disable", post(disable))
        .route("/admin/plugins/{name}/enable", post(enable))
}

async fn list(State(admin): State<Arc<Admin>>) -> Response {
    let mut plugins = Vec::new();
    for deployed in admin.gateway.registry.deployed_plugins().iter().filter(|deployed| deployed.is_deployed()) {
        plugins.push(admin.describe(deployed).await);
    }
    axum::Json(json!({ "plugins": plugins })).into_response()
}

impl Admin {
    async fn describe(&self, deployed: &DeployedPlugin) -> Value {
        // Without storage, the live releases are still listed.
        let history = self.releases.history(&deployed.name).await.unwrap_or_default();
        let mut described = match deployed.live() {
            Some(release) => {
                let mut described = describe(&release);
                let usage = &release.profile.usage;
                usage.measure_store_once(&*self.gateway.services.storage).await;
                described["quota"] = usage.report(release.pool.instances_now(), self.gateway.services.clock.steady_ms());
                described
            }
            None => json!({}),
        };
        described["state"] = json!(deployed.state());
        described["name"] = json!(deployed.name);
        described["quarantined"] = json!(deployed.quarantined());
        if let Some(release) = deployed.installed() {
            described["breakersOpen"] = json!(release.breakers.open(Instant::now()));
        }
        // The last status of each node: no node is asked.
        if let Some(status) = self.status.borrow().as_ref().filter(|status| !status.nodes.is_empty()) {
            described["nodes"] = status.nodes.iter().map(|node| on_node(node, &deployed.name)).collect();
        }
        described["releases"] = json!(history.releases);
        if let Some(canary) = deployed.canary() {
            let mut trial = describe(&canary.release);
            trial["percent"] = json!(canary.percent);
            if let Some(shadow) = canary.shadow() {
                trial["counters"] = shadow.report();
                described["shadow"] = trial;
                return described;
            }
            if let Some(active) = deployed.live() {
                trial["verdict"] = json!(self.releases.verdict(&canary, &active));
            }
            described["canary"] = trial;
        }
        described
    }
}

fn on_node(node: &NodeReport, plugin: &PluginName) -> Value {
    let mut described = json!({ "node": node.node, "silent": node.silent });
    for key in ["state", "version", "digest", "events", "errors", "quarantined"] {
        if let Some(value) = node.plugin(plugin.as_str()).and_then(|plugin| plugin.get(key)) {
            described[key] = value.clone();
        }
    }
    described
}

fn describe(release: &Release) -> Value {
    let (metrics, counts) = (&release.profile.metrics, release.counters.counts());
    json!({
        "version": release.manifest.version,
        "digest": release.digest,
        "contract": release.world.version(),
        "dataVersion": release.manifest.data_version,
        "counters": {
            "events": metrics.events.get(),
            "faults": metrics.faults.get(),
            "conflicts": metrics.conflicts.get(),
            "busy": release.pool.busy(),
            "calls": counts.calls,
            "failures": counts.failures,
            "meanMicros": counts.mean().as_micros() as u64,
        },
    })
}

async fn deploy(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(how): Query<DeployQuery>,
    headers: HeaderMap,
    component: Bytes,
) -> Response {
    let (name, trial) = match (PluginName::parse(&name), how.trial()) {
        (Ok(name), Ok(trial)) => (name, trial),
        (Err(error), _) => return problem(StatusCode::BAD_REQUEST, "Not a plugin's name", error),
        (_, Err(error)) => return problem(StatusCode::BAD_REQUEST, "Not a share", error),
    };
    let signature = headers.get(signature::HEADER).and_then(|header| header.to_str().ok()).map(str::to_owned);
    let (releases, deployed) = (admin.releases.clone(), name.clone());
    let deploying = async move { releases.deploy(&deployed, component.to_vec(), trial, signature.as_deref()).await.map(drop) };
    admin.change(&name, deploying).await
}

/// `{"plugins": [{"name", "component": base64, "signature"?}]}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploySet {
    plugins: Vec<DeployPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployPart {
    name: PluginName,
    component: String,
    signature: Option<String>,
}

/// `{"plugins": [name]}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackSet {
    plugins: Vec<PluginName>,
}

/// Parses a set of plugins and checks its size.
fn set_of<T: serde::de::DeserializeOwned>(body: &[u8], count: impl Fn(&T) -> usize) -> Result<T, String> {
    let set: T = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    match count(&set) {
        0 => Err("it names no plugin".into()),
        many if many > MAX_SET => Err(format!("it names {many} plugins; a set has at most {MAX_SET}")),
        _ => Ok(set),
    }
}

impl DeployPart {
    fn decoded(self) -> Result<Part, String> {
        let component = BASE64.decode(&self.component);
        let component = component.map_err(|error| format!("the component of {} is no base64: {error}", self.name))?;
        Ok(Part { name: self.name, component, signature: self.signature })
    }
}

async fn deploy_set(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let parts = set_of(&body, |set: &DeploySet| set.plugins.len());
    let parts = parts.and_then(|set| set.plugins.into_iter().map(DeployPart::decoded).collect::<Result<Vec<_>, _>>());
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "Not a set of plugins", error),
    };
    let oversized = parts.iter().find(|part| part.component.len() > admin.max_component);
    if let Some(Part { name, .. }) = oversized {
        let most = format!("the component of {name} has more than {} bytes (sandbox.component)", admin.max_component);
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "A component is too large", most);
    }
    let names = parts.iter().map(|part| part.name.clone()).collect();
    let releases = admin.releases.clone();
    admin.change_set(names, async move { releases.deploy_set(parts).await.map(drop) }).await
}

async fn rollback_set(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    let names = match set_of(&body, |set: &RollbackSet| set.plugins.len()) {
        Ok(set) => set.plugins,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "Not a set of plugins", error),
    };
    let (releases, targets) = (admin.releases.clone(), names.clone());
    admin.change_set(names, async move { releases.rollback(&targets, "by the operator").await }).await
}

async fn promote(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let Ok(name) = PluginName::parse(&name) else { return no_such_plugin(&name) };
    let (releases, promoted) = (admin.releases.clone(), name.clone());
    admin.change(&name, async move { releases.promote(&promoted).await.map(drop) }).await
}

async fn rollback(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    let Ok(name) = PluginName::parse(&name) else { return no_such_plugin(&name) };
    let (releases, targets) = (admin.releases.clone(), name.clone());
    admin.change(&name, async move { releases.rollback(&[targets], "by the operator").await }).await
}

async fn disable(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    admin.set_disabled(&name, true).await
}

async fn enable(State(admin): State<Arc<Admin>>, Path(name): Path<String>) -> Response {
    admin.set_disabled(&name, false).await
}

impl Admin {
    async fn set_disabled(&self, name: &str, disabled: bool) -> Response {
        let Ok(name) = PluginName::parse(name) else { return no_such_plugin(name) };
        let (releases, set) = (self.releases.clone(), name.clone());
        self.change(&name, async move { releases.set_disabled(&set, disabled).await.map(drop) }).await
    }

    /// Makes a change and returns the plugin's new state. The change runs to its end even if the operator disconnects: otherwise the
    /// live release could differ from the stored one.
    async fn change(
        &self,
        name: &PluginName,
        change: impl Future<Output = Result<(), DeployError>> + Send + 'static,
    ) -> Response {
        match run_change(change).await {
            Ok(()) => match self.gateway.registry.deployed(name) {
                Some(deployed) => axum::Json(self.describe(&deployed).await).into_response(),
                None => no_such_plugin(name.as_str()),
            },
            Err(response) => response,
        }
    }

    /// The same for several plugins. The answer leaves out those that are no longer deployed.
    async fn change_set(
        &self,
        names: Vec<PluginName>,
        change: impl Future<Output = Result<(), DeployError>> + Send + 'static,
    ) -> Response {
        if let Err(response) = run_change(change).await {
            return response;
        }
        let mut plugins = Vec::new();
        for deployed in
            names.iter().filter_map(|name| self.gateway.registry.deployed(name)).filter(|deployed| deployed.is_deployed())
        {
            plugins.push(self.describe(&deployed).await);
        }
        axum::Json(json!({ "plugins": plugins })).into_response()
    }
}

/// Runs a change in a task of its own. The error is the response.
async fn run_change(change: impl Future<Output = Result<(), DeployError>> + Send + 'static) -> Result<(), Response> {
    let error = match tokio::spawn(change).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(ended) => return Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "The change was interrupted", ended)),
    };
    let (status, title) = match &error {
        DeployError::Signature(_) | DeployError::Unsigned(..) => {
            (StatusCode::FORBIDDEN, "The component is not signed by anyone known")
        }
        DeployError::Changed(..) => (StatusCode::CONFLICT, "The stored component was changed"),
        DeployError::Stage(_) => (StatusCode::UNPROCESSABLE_ENTITY, "The component was not staged"),
        DeployError::Collision(_) => (StatusCode::CONFLICT, "The release cannot go live beside the others"),
        DeployError::Storage(_) => (StatusCode::SERVICE_UNAVAILABLE, "Storage does not answer"),
        DeployError::NotDeployed(_) => (StatusCode::NOT_FOUND, "No such plugin"),
        DeployError::UnderWay(_) => (StatusCode::CONFLICT, "Another deployment is under way"),
        DeployError::NoCanary(_) => (StatusCode::CONFLICT, "Nothing is on trial"),
        DeployError::Busy => (StatusCode::CONFLICT, "Another deployment is under way"),
        DeployError::Node(..) => (StatusCode::UNPROCESSABLE_ENTITY, "A node cannot stage the release"),
        DeployError::NothingBefore(_) | DeployError::Gone(..) => (StatusCode::CONFLICT, "Nothing to go back to"),
        DeployError::TakesOnTrial { .. } => (StatusCode::CONFLICT, "The release cannot be tried out"),
        DeployError::Twice(_) => (StatusCode::BAD_REQUEST, "Not a set of plugins"),
        DeployError::OnTrial(_) => (StatusCode::CONFLICT, "A release is on trial"),
        DeployError::DataMoved(_) => (StatusCode::CONFLICT, "The data is not there any more"),
        DeployError::StillCalled(..) => (StatusCode::SERVICE_UNAVAILABLE, "The plugin could not be stopped"),
    };
    Err(problem(status, title, error))
}

fn no_such_plugin(name: &str) -> Response {
    problem(StatusCode::NOT_FOUND, "No such plugin", format!("nothing is deployed as {name:.64}"))
}
