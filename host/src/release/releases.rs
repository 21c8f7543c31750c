//! Deploying: uploaded, verified, staged, on trial, active, replaced. One change at a time, each step stored before it is answered, and the
//! active release never touched by one that does not get that far.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;

use super::breaker::{Quarantined, Source};
use super::canary::{Canary, How, Trial, Verdict};
use super::record::{Record, State, digest, put_component, remove_component};
use super::recording;
use super::registry::{Collision, Registry, Release, Slot};
use super::shadow::Shadow;
use super::shelf::Shelf;
use super::signature::{SignatureError, Signers};
use super::stage::{Stage, StageError};
use super::underway::Underway;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::names::PluginName;
use crate::storage::{Storage, Unavailable};

/// How long a staged release waits to be made live.
pub(super) const PREPARED: Duration = Duration::from_secs(60);

/// Between two looks at trials and failures.
const LOOK: Duration = Duration::from_millis(250);

/// `[canary]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls of each side before a trial is judged. Default 200.
    pub calls: u64,
    /// How long a trial takes at least. Default 60 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub time: Duration,
    /// How long a replaced release stays warm, so that going back is a swap of a pointer. Default 10 min.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub warm: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { calls: 200, time: Duration::from_secs(60), warm: Duration::from_secs(600) }
    }
}

/// Why a release is not deployed, or not replaced.
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
}

/// Every plugin's releases.
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
    pub underway: Underway,
    /// One change at a time, of whatever plugin: what fits beside the others is decided for all. Nobody compiles a new component
    /// while holding it.
    pub turn: tokio::sync::Mutex<()>,
    /// The other nodes, which are to do the same.
    pub cluster: Option<Arc<Cluster>>,
    /// Releases that this node or another is about to make live.
    pub prepared: Shelf,
    /// Releases that were replaced a short while ago.
    pub warm: Shelf,
}

impl Releases {
    /// Deploys a component: to everyone, or on trial beside the active release.
    pub async fn deploy(
        &self,
        name: &PluginName,
        component: Vec<u8>,
        trial: Option<Trial>,
        signature: Option<&str>,
    ) -> Result<Arc<Release>, DeployError> {
        let deployment = self.underway.begin(name).ok_or_else(|| DeployError::UnderWay(name.clone()))?;
        let digest = digest(&component);
        self.signers.check(&component, signature)?;
        let bytes = Bytes::from(component.clone());
        let staging = deployment.turn().await;
        let staged = self.stage_as(name, component).await;
        drop(staging);
        let _turn = self.turn().await?;
        let mut record = self.record(name).await?;
        let release = match staged {
            Ok(release) => release,
            Err(error) => return Err(self.reject(name, record, &digest, "?", error.into()).await),
        };
        let version = release.manifest.version.clone();
        // A shadow never goes live for want of another.
        let has_active = self.registry.slot(name).is_some_and(|slot| slot.installed().is_some());
        let trial = trial.filter(|trial| has_active || matches!(trial, Trial::Shadow(_)));
        let fits = if trial.is_some() { self.registry.check_trial(&release) } else { self.registry.check(&release) };
        if let Err(collision) = fits {
            return Err(self.reject(name, record, &digest, &version, collision.into()).await);
        }
        put_component(&*self.storage, bytes, signature).await?;
        if let Err(error) = self.prepare_all(name, &digest).await {
            if !record.needs(&digest) {
                remove_component(&*self.storage, &digest).await?;
            }
            return Err(self.reject(name, record, &digest, &version, error).await);
        }
        match trial {
            Some(trial) => record.try_out(&digest, &version, trial, &self.now()),
            None => record.activate(&digest, &version, &self.now()),
        }
        self.prepared.keep(release.clone());
        self.settle(name, &record).await?;
        tracing::info!(release = %format_args!("{name}@{version}"), ?trial, "deployed");
        Ok(release)
    }

    /// Deploys what a file holds by now: a start goes by this file, until it holds something else.
    pub async fn reload(&self, name: &PluginName, component: Vec<u8>, file: &Path) -> Result<Arc<Release>, DeployError> {
        let release = self.deploy(name, component, None, signature_beside(file).as_deref()).await?;
        let _turn = self.turn().await?;
        let mut record = self.record(name).await?;
        record.seed = Some(release.digest.clone());
        self.write(name, &record).await?;
        Ok(release)
    }

    /// Makes the release on trial the active one.
    pub async fn promote(&self, name: &PluginName) -> Result<Arc<Release>, DeployError> {
        let _turn = self.turn().await?;
        let canary = self.slot(name)?.canary().ok_or_else(|| DeployError::NoCanary(name.clone()))?;
        self.registry.check(&canary.release)?;
        let mut record = self.record(name).await?;
        record.activate(&canary.release.digest, &canary.release.manifest.version, &self.now());
        self.settle(name, &record).await?;
        Ok(canary.release.clone())
    }

    /// Ends the trial, or else goes back to the release before.
    pub async fn rollback(&self, name: &PluginName, why: &str) -> Result<Arc<Release>, DeployError> {
        let _turn = self.turn().await?;
        self.go_back(name, State::RolledBack, why).await
    }

    async fn go_back(&self, name: &PluginName, state: State, why: &str) -> Result<Arc<Release>, DeployError> {
        let slot = self.slot(name)?;
        // Who ends a trial does not wait for storage: where that fails, it begins anew.
        if let Some(canary) = self.registry.end_trial(&slot) {
            let (release, mut record) = (&canary.release, self.record(name).await?);
            record.note(&release.digest, &release.manifest.version, state, &self.now(), Some(why.to_owned()));
            self.settle(name, &record).await?;
            return slot.installed().ok_or_else(|| DeployError::NotDeployed(name.clone()));
        }
        self.go_to_previous(&slot, state, why).await
    }

    async fn go_to_previous(&self, slot: &Slot, state: State, why: &str) -> Result<Arc<Release>, DeployError> {
        let name = &slot.name;
        let mut record = self.record(name).await?;
        let previous = record.previous.clone().ok_or_else(|| DeployError::NothingBefore(name.clone()))?;
        let release = self.ready(name, &previous).await?;
        self.registry.check(&release)?;
        record.activate(&release.digest, &release.manifest.version, &self.now());
        if let Some(replaced) = slot.installed() {
            record.note(&replaced.digest, &replaced.manifest.version, state, &self.now(), Some(why.to_owned()));
        }
        // What was gone back from is not what one goes back to.
        record.previous = None;
        self.prepared.keep(release.clone());
        self.settle(name, &record).await?;
        Ok(release)
    }

    /// Stops or resumes a plugin, over restarts as well. Resumed, it leaves quarantine, and no circuit breaker is open.
    pub async fn set_disabled(&self, name: &PluginName, disabled: bool) -> Result<Arc<Slot>, DeployError> {
        let _turn = self.turn().await?;
        let slot = self.slot(name)?;
        let mut record = self.record(name).await?;
        record.disabled = disabled;
        if !disabled {
            record.end_quarantine(&self.now());
        }
        self.settle(name, &record).await?;
        if let Some(release) = slot.installed().filter(|_| !disabled) {
            release.breakers.close();
        }
        Ok(slot)
    }

    /// How a trial stands, in a word or two.
    pub fn verdict(&self, canary: &Canary, active: &Release) -> String {
        match canary.verdict(&active.tally, self.config.calls, self.config.time) {
            Verdict::Open => "too early to say".to_owned(),
            Verdict::Good => "as good as the active release".to_owned(),
            Verdict::Worse(why) => why,
        }
    }

    /// What is stored of a plugin's releases.
    pub async fn record(&self, name: &PluginName) -> Result<Record, Unavailable> {
        let found = self.storage.blob(&Record::blob(name)).await?;
        // What a newer server has written is not taken for nothing, and written over.
        found.map_or(Ok(Record::default()), |json| serde_json::from_slice(&json).map_err(Unavailable::new))
    }

    /// Judges trials, and takes away releases that do nothing but fail, until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            for slot in self.registry.slots() {
                self.look_at(&slot).await;
            }
            self.warm.forget(self.config.warm);
            self.prepared.forget(PREPARED);
        }
    }

    async fn look_at(&self, slot: &Slot) {
        let Some(active) = slot.live() else { return };
        if let Some(canary) = slot.canary() {
            let worse = match canary.verdict(&active.tally, self.config.calls, self.config.time) {
                Verdict::Worse(why) => Some(why),
                _ => canary.release.breakers.hopeless().map(|(source, cause)| format!("its {source} only fault: {cause}")),
            };
            if let Some(why) = worse {
                let version = &canary.release.manifest.version;
                tracing::error!(release = %format_args!("{}@{version}", slot.name), "the canary is rolled back: {why}");
                self.report(&slot.name, self.rollback(&slot.name, &why).await);
            }
        }
        if let Some((source, cause)) = active.breakers.hopeless()
            && let Err(error) = self.quarantine(slot, &active, source, cause).await
        {
            tracing::error!(release = slot.label(), "it only faults, and is not quarantined: {error}");
        }
    }

    /// Stops a source of calls that only faults. Where clients depend on it, the release before serves again, if there is one; else
    /// only that source is not called any more, so that all others go on. An operator ends it.
    async fn quarantine(&self, slot: &Slot, active: &Release, source: Source, cause: String) -> Result<(), DeployError> {
        let _turn = self.turn().await?;
        let mut record = self.record(&slot.name).await?;
        if record.active.as_ref() != Some(&active.digest) {
            // Another node has replaced it.
            return self.follow_record(&slot.name, &record).await;
        }
        if source.is_clients() {
            match self.go_to_previous(slot, State::Quarantined, &format!("{source}: {cause}")).await {
                Ok(before) => {
                    let (label, before) = (format_args!("{}@{}", slot.name, active.manifest.version), &before.manifest.version);
                    tracing::error!(release = %label, %source, "quarantined, and {before} serves again: {cause}");
                    return Ok(());
                }
                Err(DeployError::Storage(error)) => return Err(error.into()),
                Err(error) => tracing::warn!(plugin = %slot.name, "no release before serves: {error}"),
            }
        }
        record.quarantine(&active.manifest.version, Quarantined { source, cause, at: self.now() });
        self.settle(&slot.name, &record).await
    }

    fn report(&self, name: &PluginName, outcome: Result<Arc<Release>, DeployError>) {
        match outcome {
            Ok(release) => tracing::warn!(release = %format_args!("{name}@{}", release.manifest.version), "serves again"),
            Err(error) => tracing::error!(plugin = %name, "{error}"),
        }
    }

    pub(super) async fn try_out(&self, name: &PluginName, release: Arc<Release>, trial: Trial) -> Result<(), Collision> {
        let (percent, how) = match trial {
            Trial::Canary(percent) => (percent, How::Serves),
            Trial::Shadow(percent) => {
                let found = self.registry.slot(name).and_then(|slot| slot.installed().map(|active| (slot, active)));
                let (slot, active) = found.ok_or_else(|| Collision::NothingActive(name.clone()))?;
                let words = self.vocabulary(&active.digest).await.join(self.vocabulary(&release.digest).await);
                let shadow = Shadow::begin(&slot, &active, &release, percent, &self.recording, &self.stage.services, words)?;
                (percent, How::Shadows(shadow))
            }
        };
        self.registry.try_out(release, percent, how)
    }

    /// Makes a release live in place of what was, which stays warm for a while.
    pub(super) fn replace(&self, name: &PluginName, release: Arc<Release>) -> Result<(), Collision> {
        let slot = self.registry.slot(name);
        let old = slot.as_ref().and_then(|slot| slot.installed());
        self.registry.install(vec![release])?;
        if let Some(slot) = slot {
            self.registry.end_trial(&slot);
        }
        if let Some(old) = old {
            self.warm.keep(old);
        }
        Ok(())
    }

    pub(super) async fn stage_as(&self, name: &PluginName, component: Vec<u8>) -> Result<Arc<Release>, StageError> {
        self.stage.stage(name, component, self.plugins.get(name).cloned().unwrap_or_default()).await
    }

    async fn reject(
        &self,
        name: &PluginName,
        mut record: Record,
        digest: &str,
        version: &str,
        error: DeployError,
    ) -> DeployError {
        tracing::warn!(release = %format_args!("{name}@{version}"), "a release was rejected: {error}");
        // The active release deployed again is not made a rejected one by a passing trouble.
        if record.active.as_deref() != Some(digest) {
            record.note(digest, version, State::Rejected, &self.now(), Some(error.to_string()));
            // What is wrong with the release matters more than that it could not be noted.
            let _ = self.write(name, &record).await;
        }
        error
    }

    /// Stores what has changed, and only then makes it so: what serves is what a restart would serve.
    async fn settle(&self, name: &PluginName, record: &Record) -> Result<(), DeployError> {
        self.write(name, record).await?;
        self.follow_record(name, record).await
    }

    pub(super) async fn write(&self, name: &PluginName, record: &Record) -> Result<(), Unavailable> {
        let before = self.record(name).await?;
        let json = serde_json::to_vec(record).map_err(Unavailable::new)?;
        self.storage.put_blob(Record::blob(name), json.into()).await?;
        let known = before.releases.iter().map(|entry| &entry.digest).chain(&before.active).chain(&before.previous);
        for digest in known.filter(|digest| before.needs(digest) && !record.needs(digest)) {
            remove_component(&*self.storage, digest).await?;
        }
        self.tell(name).await;
        Ok(())
    }

    fn slot(&self, name: &PluginName) -> Result<Arc<Slot>, DeployError> {
        self.registry.slot(name).ok_or_else(|| DeployError::NotDeployed(name.clone()))
    }

    pub(super) fn now(&self) -> String {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.clock.now_ms())).to_string()
    }
}

/// The signature beside a component's file, if there is one.
pub fn signature_beside(file: &Path) -> Option<String> {
    std::fs::read_to_string(signature_path(file)).ok()
}

/// Where a component's signature is: beside it.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}
