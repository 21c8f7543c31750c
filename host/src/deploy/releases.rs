//! Deployment of releases: verify, stage, try out, activate, replace. One change at a time, each step stored before it is
//! reported. A release that fails a step never affects the active one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::signature::{SignatureError, Signers};
use super::history::{History, State, remove_component};
use super::lock::DeployLocks;
use super::release_cache::ReleaseCache;
use super::stage::{Stage, StageError};
use crate::call::breaker::{Quarantined, Source};
use crate::call::canary::{Canary, Trial, Verdict};
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::registry::Registry;
use crate::call::release::Release;
use crate::call::routes::Collision;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::names::PluginName;
use crate::replay::recording;
use crate::storage::{Storage, Unavailable};

/// How long a staged release is kept before it is made live.
pub(crate) const PREPARED: Duration = Duration::from_secs(60);

/// The interval of the checks of trials and failures.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// `[canary]`: how a release on trial is judged.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls of each side before a trial is judged.
    pub calls: u64,
    /// The shortest duration of a trial.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub time: Duration,
    /// How long a replaced release stays warm, so that a rollback is immediate.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub warm: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { calls: 200, time: Duration::from_secs(60), warm: Duration::from_secs(600) }
    }
}

/// One plugin of a set to deploy.
pub struct Part {
    pub name: PluginName,
    pub component: Vec<u8>,
    pub signature: Option<String>,
}

/// Why a deployment or rollback fails.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("verify: {0}")]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Collision(#[from] Collision),
    #[error(transparent)]
    Storage(#[from] Unavailable),
    #[error("nothing is deployed as {0}")]
    NotDeployed(PluginName),
    #[error("another deployment of {0} is under way")]
    UnderWay(PluginName),
    #[error("no release of {0} is on trial")]
    NoCanary(PluginName),
    #[error("there is no release of {0} to go back to")]
    NothingBefore(PluginName),
    #[error("the component of {0} with the digest {1} is not stored any more")]
    Gone(PluginName, String),
    #[error("the stored component of {0} was changed and does not run: its bytes have another digest than {1}; deploy it again")]
    Changed(PluginName, String),
    #[error(
        "the stored component of {0} with the digest {1} does not run: {2}. Sign it with `hubbub plugin sign` and deploy it again, or \
         give it, with its .sig file, as the plugin's file"
    )]
    Unsigned(PluginName, String, SignatureError),
    #[error("another deployment is under way on another node")]
    Busy,
    #[error("node {0}: {1}")]
    Node(String, String),
    #[error("{plugin} takes data of {from}, which is moved for everyone: deploy it without a trial")]
    TakesOnTrial { plugin: PluginName, from: PluginName },
    #[error("{0} is named twice")]
    Twice(PluginName),
    #[error("a release of {0} is on trial: promote it or roll it back by itself first")]
    OnTrial(PluginName),
    #[error(
        "this release of {0} worked on data that has been moved to other plugins since: roll it back together with them, which moves \
         the data back"
    )]
    DataMoved(PluginName),
    #[error("calls of {0} did not end within {1} s, and its data was not moved")]
    StillCalled(PluginName, u64),
}

/// The releases of all plugins.
pub struct Releases {
    pub stage: Arc<Stage>,
    pub registry: Arc<Registry>,
    pub storage: Arc<dyn Storage>,
    pub clock: Clock,
    pub config: Config,
    pub recording: recording::Config,
    pub signers: Signers,
    /// `[plugins.NAME.config]`
    pub plugins: BTreeMap<PluginName, serde_json::Map<String, serde_json::Value>>,
    pub locks: DeployLocks,
    /// One change at a time, over all plugins, since conflicts are checked against all. Never held while a new component is
    /// compiled.
    pub turn: tokio::sync::Mutex<()>,
    /// The other nodes, which follow the changes.
    pub cluster: Option<Arc<Cluster>>,
    /// Staged releases that this node or another is about to make live.
    pub prepared: ReleaseCache,
    /// Releases that were replaced a short time ago.
    pub warm: ReleaseCache,
}

impl Releases {
    /// Deploys a component to all users, or on trial beside the active release.
    pub async fn deploy(
        &self,
        name: &PluginName,
        component: Vec<u8>,
        trial: Option<Trial>,
        signature: Option<&str>,
    ) -> Result<Arc<Release>, DeployError> {
        // A shadow never becomes live, even if no release is active.
        let has_active = self.registry.deployed(name).is_some_and(|deployed| deployed.installed().is_some());
        match trial.filter(|trial| has_active || matches!(trial, Trial::Shadow(_))) {
            Some(trial) => self.deploy_on_trial(name, component, trial, signature).await,
            None => {
                let signature = signature.map(str::to_owned);
                let mut deployed = self.deploy_set(vec![Part { name: name.clone(), component, signature }]).await?;
                deployed.pop().ok_or_else(|| DeployError::NotDeployed(name.clone()))
            }
        }
    }

    /// Deploys a changed file. A start uses this file's component until the file changes again.
    pub async fn reload(&self, name: &PluginName, component: Vec<u8>, file: &Path) -> Result<Arc<Release>, DeployError> {
        let release = self.deploy(name, component, None, signature_beside(file).as_deref()).await?;
        let _turn = self.turn().await?;
        let mut history = self.history(name).await?;
        history.seed = Some(release.digest.clone());
        self.write(name, &history).await?;
        Ok(release)
    }

    /// Stops or resumes a plugin, also over restarts. Resuming ends its quarantine and closes its circuit breakers.
    pub async fn set_disabled(&self, name: &PluginName, disabled: bool) -> Result<Arc<DeployedPlugin>, DeployError> {
        let _turn = self.turn().await?;
        self.undo().await?;
        let deployed = self.deployed(name)?;
        let mut history = self.history(name).await?;
        history.disabled = disabled;
        if !disabled {
            history.end_quarantine(&self.now());
        }
        self.settle(name, &history).await?;
        if let Some(release) = deployed.installed().filter(|_| !disabled) {
            release.breakers.close();
        }
        Ok(deployed)
    }

    /// The state of a trial, in a few words.
    pub fn verdict(&self, canary: &Canary, active: &Release) -> String {
        match canary.verdict(&active.counters, self.config.calls, self.config.time) {
            Verdict::Open => "too early to say".to_owned(),
            Verdict::Good => "as good as the active release".to_owned(),
            Verdict::Worse(why) => why,
        }
    }

    /// The stored history of a plugin.
    pub async fn history(&self, name: &PluginName) -> Result<History, Unavailable> {
        let found = self.storage.blob(&History::blob(name)).await?;
        // A history that a newer server wrote must not be treated as empty and overwritten.
        found.map_or(Ok(History::default()), |json| serde_json::from_slice(&json).map_err(Unavailable::new))
    }

    /// Judges trials, and quarantines releases that only fail, until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            for deployed in self.registry.deployed_plugins() {
                self.check_deployed(&deployed).await;
            }
            self.warm.forget(self.config.warm);
            self.prepared.forget(PREPARED);
        }
    }

    async fn check_deployed(&self, deployed: &DeployedPlugin) {
        let Some(active) = deployed.live() else { return };
        if let Some(canary) = deployed.canary() {
            let worse = match canary.verdict(&active.counters, self.config.calls, self.config.time) {
                Verdict::Worse(why) => Some(why),
                _ => canary.release.breakers.exhausted().map(|(source, cause)| format!("its {source} only fail: {cause}")),
            };
            if let Some(why) = worse {
                let version = &canary.release.manifest.version;
                tracing::error!(release = %format_args!("{}@{version}", deployed.name), "the canary is rolled back: {why}");
                let rolled_back = self.rollback(std::slice::from_ref(&deployed.name), &why).await;
                self.report(deployed, rolled_back);
            }
        }
        if let Some((source, cause)) = active.breakers.exhausted()
            && let Err(error) = self.quarantine(deployed, &active, source, cause).await
        {
            tracing::error!(release = deployed.label(), "it only fails, and could not be quarantined: {error}");
        }
    }

    /// Stops a source of calls that only fails. If clients depend on the source, the previous release is restored, if there is
    /// one. Otherwise only that source is no longer called, until an operator ends the quarantine.
    async fn quarantine(
        &self,
        deployed: &DeployedPlugin,
        active: &Release,
        source: Source,
        cause: String,
    ) -> Result<(), DeployError> {
        let _turn = self.turn().await?;
        let mut history = self.history(&deployed.name).await?;
        if history.active.as_ref() != Some(&active.digest) {
            // Another node has replaced the release.
            return self.follow_history(&deployed.name, &history).await;
        }
        if source.is_clients() {
            match self.restore_previous(deployed, State::Quarantined, &format!("{source}: {cause}")).await {
                Ok(before) => {
                    let (label, before) =
                        (format_args!("{}@{}", deployed.name, active.manifest.version), &before.manifest.version);
                    tracing::error!(release = %label, %source, "quarantined, and {before} serves again: {cause}");
                    return Ok(());
                }
                Err(DeployError::Storage(error)) => return Err(error.into()),
                Err(error) => tracing::warn!(plugin = %deployed.name, "the previous release was not restored: {error}"),
            }
        }
        history.quarantine(&active.manifest.version, Quarantined { source, cause, at: self.now() });
        self.settle(&deployed.name, &history).await
    }

    fn report(&self, deployed: &DeployedPlugin, outcome: Result<(), DeployError>) {
        match outcome {
            Ok(()) => tracing::warn!(release = deployed.label(), "serves again"),
            Err(error) => tracing::error!(plugin = %deployed.name, "{error}"),
        }
    }

    /// Makes releases live, keeps the replaced ones warm for a while, and removes plugins: all of it or nothing.
    pub(crate) fn roll_out(&self, install: Vec<Arc<Release>>, removed: &[PluginName]) -> Result<(), Collision> {
        let names: Vec<_> = install.iter().map(|release| &release.manifest.name).chain(removed).cloned().collect();
        let deployed_plugins: Vec<_> = names.iter().filter_map(|name| self.registry.deployed(name)).collect();
        let old: Vec<_> = deployed_plugins.iter().filter_map(|deployed| deployed.installed()).collect();
        self.registry.install(install, removed)?;
        for deployed in deployed_plugins {
            self.registry.end_trial(&deployed);
        }
        old.into_iter().for_each(|old| self.warm.keep(old));
        Ok(())
    }

    pub(crate) async fn stage_as(&self, name: &PluginName, component: Vec<u8>) -> Result<Arc<Release>, StageError> {
        self.stage.stage(name, component, self.plugins.get(name).cloned().unwrap_or_default()).await
    }

    pub(crate) async fn reject(
        &self,
        name: &PluginName,
        mut history: History,
        digest: &str,
        version: &str,
        error: DeployError,
    ) -> DeployError {
        tracing::warn!(release = %format_args!("{name}@{version}"), "a release was rejected: {error}");
        // If the active release is deployed again, a temporary failure must not mark it as rejected.
        if history.active.as_deref() != Some(digest) {
            history.note(digest, version, State::Rejected, &self.now(), Some(error.to_string()));
            // The reason for the rejection matters more than a failure to record it.
            let _ = self.write(name, &history).await;
        }
        error
    }

    /// Stores a change, and only then applies it, so that a restart makes the same releases live.
    pub(crate) async fn settle(&self, name: &PluginName, history: &History) -> Result<(), DeployError> {
        self.write(name, history).await?;
        self.follow_history(name, history).await
    }

    pub(crate) async fn write(&self, name: &PluginName, history: &History) -> Result<(), Unavailable> {
        self.write_all(std::slice::from_ref(&(name.clone(), history.clone())), Vec::new()).await
    }

    /// Writes histories and other values: all or none. Removes components that no plugin needs any more.
    pub(crate) async fn write_all(
        &self,
        histories: &[(PluginName, History)],
        mut values: Vec<(String, Option<Bytes>)>,
    ) -> Result<(), Unavailable> {
        let mut needless = Vec::new();
        for (name, history) in histories {
            let before = self.history(name).await?;
            let known = before.releases.iter().map(|entry| &entry.digest).chain(&before.active).chain(&before.previous);
            needless.extend(known.filter(|digest| before.needs(digest) && !history.needs(digest)).cloned());
            let json = serde_json::to_vec(history).map_err(Unavailable::new)?;
            values.push((History::blob(name), Some(json.into())));
        }
        self.storage.put_blobs(values).await?;
        for digest in needless {
            remove_component(&*self.storage, &digest).await?;
        }
        for (name, _) in histories {
            self.notify_nodes(name).await;
        }
        Ok(())
    }

    pub(crate) fn deployed(&self, name: &PluginName) -> Result<Arc<DeployedPlugin>, DeployError> {
        self.registry.deployed(name).ok_or_else(|| DeployError::NotDeployed(name.clone()))
    }

    pub(crate) fn now(&self) -> String {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.clock.now_ms())).to_string()
    }
}

/// The signature file beside a component's file, if there is one.
pub fn signature_beside(file: &Path) -> Option<String> {
    std::fs::read_to_string(signature_path(file)).ok()
}

/// The path of a component's signature file.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}
