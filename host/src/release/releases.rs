//! Deploying: uploaded, verified, staged, on trial, active, replaced. One change at a time, each step stored before it is answered, and the
//! active release never touched by one that does not get that far.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::canary::{Canary, Verdict};
use super::record::{PLUGINS, Record, State, component_blob};
use super::registry::{Collision, Registry, Release, Slot};
use super::signature::{SignatureError, Signers};
use super::stage::{Stage, StageError};
use super::underway::Underway;
use crate::clock::Clock;
use crate::names::PluginName;
use crate::storage::{Storage, Unavailable};

/// Between two looks at trials and failures.
const LOOK: Duration = Duration::from_millis(250);

/// Plugins whose records are read at a start.
const MAX_PLUGINS: usize = 1000;

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
}

/// Every plugin's releases.
pub struct Releases {
    pub stage: Arc<Stage>,
    pub registry: Arc<Registry>,
    pub storage: Arc<dyn Storage>,
    pub clock: Clock,
    pub config: Config,
    pub signers: Signers,
    /// `[plugins.NAME.config]`
    pub plugins: BTreeMap<PluginName, serde_json::Map<String, serde_json::Value>>,
    pub underway: Underway,
    /// One change at a time, of whatever plugin: what fits beside the others is decided for all. Nobody compiles a new component
    /// while holding it.
    pub turn: tokio::sync::Mutex<()>,
    /// Releases that were replaced a short while ago.
    pub warm: Mutex<HashMap<PluginName, (Arc<Release>, Instant)>>,
}

impl Releases {
    /// Stages what was active, or what the files hold where they have changed since, and makes it live: all or nothing.
    pub async fn boot(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let mut staged = Vec::new();
        let mut records = Vec::new();
        for (name, file) in files {
            let because = |why: &dyn std::fmt::Display| anyhow::anyhow!("plugin {name}: {}: {why}", file.display());
            let component = std::fs::read(file).map_err(|e| because(&e))?;
            let mut record = self.record(name).await?;
            let seed = digest(&component);
            let kept = record.active.clone().filter(|active| record.seed.as_ref() == Some(&seed) && *active != seed);
            let release = match kept {
                Some(active) => self.stored(name, &active).await?,
                None => {
                    self.signers.check(&component, signature_beside(file).as_deref()).map_err(|e| because(&e))?;
                    self.storage.put_blob(component_blob(&seed), Bytes::from(component.clone())).await?;
                    self.stage_as(name, component).await.map_err(|e| anyhow::anyhow!("plugin {name}: {e}"))?
                }
            };
            record.seed = Some(seed);
            staged.push(release);
            records.push((name.clone(), record));
        }
        for blob in self.storage.blobs(PLUGINS, MAX_PLUGINS).await? {
            let Ok(name) = PluginName::parse(blob.trim_start_matches(PLUGINS)) else { continue };
            let record = self.record(&name).await?;
            // One that came from a file goes with its file.
            let (None, None, Some(active)) = (files.get(&name), &record.seed, &record.active) else { continue };
            staged.push(self.stored(&name, active).await?);
            records.push((name, record));
        }
        self.registry.install(staged.clone())?;
        for (release, (name, mut record)) in staged.into_iter().zip(records) {
            tracing::info!(release = %format_args!("{name}@{}", release.manifest.version), digest = %&release.digest[..12], "live");
            if record.active.as_ref() != Some(&release.digest) {
                record.activate(&release.digest, &release.manifest.version, &self.now());
            }
            if let Some(slot) = self.registry.slot(&name).filter(|_| record.disabled) {
                self.registry.set_disabled(&slot, true);
            }
            self.write(&name, &record).await?;
        }
        Ok(())
    }

    /// Deploys a component: to everyone, or to a share of the users beside the active release.
    pub async fn deploy(
        &self,
        name: &PluginName,
        component: Vec<u8>,
        canary: Option<u8>,
        signature: Option<&str>,
    ) -> Result<Arc<Release>, DeployError> {
        let deployment = self.underway.begin(name).ok_or_else(|| DeployError::UnderWay(name.clone()))?;
        let digest = digest(&component);
        self.signers.check(&component, signature)?;
        let bytes = Bytes::from(component.clone());
        let staging = deployment.turn().await;
        let staged = self.stage_as(name, component).await;
        drop(staging);
        let _turn = self.turn.lock().await;
        let mut record = self.record(name).await?;
        let release = match staged {
            Ok(release) => release,
            Err(error) => return Err(self.reject(name, record, &digest, "?", error.into()).await),
        };
        let version = release.manifest.version.clone();
        self.storage.put_blob(component_blob(&digest), bytes).await?;
        let active = self.registry.slot(name).and_then(|slot| slot.live());
        let canary = canary.filter(|_| active.is_some());
        let placed = match canary {
            Some(percent) => self.registry.try_out(release.clone(), percent),
            None => self.replace(name, release.clone()),
        };
        if let Err(collision) = placed {
            if !record.needs(&digest) {
                self.storage.remove_blob(component_blob(&digest)).await?;
            }
            return Err(self.reject(name, record, &digest, &version, collision.into()).await);
        }
        match canary {
            Some(percent) => record.note(&digest, &version, State::Canary, &self.now(), Some(format!("{percent} %"))),
            None => record.activate(&digest, &version, &self.now()),
        }
        self.write(name, &record).await?;
        tracing::info!(release = %format_args!("{name}@{version}"), canary, "deployed");
        Ok(release)
    }

    /// Deploys what a file holds by now: a start goes by this file, until it holds something else.
    pub async fn reload(&self, name: &PluginName, component: Vec<u8>, file: &Path) -> Result<Arc<Release>, DeployError> {
        let release = self.deploy(name, component, None, signature_beside(file).as_deref()).await?;
        let _turn = self.turn.lock().await;
        let mut record = self.record(name).await?;
        record.seed = Some(release.digest.clone());
        self.write(name, &record).await?;
        Ok(release)
    }

    /// Makes the release on trial the active one.
    pub async fn promote(&self, name: &PluginName) -> Result<Arc<Release>, DeployError> {
        let _turn = self.turn.lock().await;
        let slot = self.slot(name)?;
        let canary = slot.canary().ok_or_else(|| DeployError::NoCanary(name.clone()))?;
        self.replace(name, canary.release.clone())?;
        let mut record = self.record(name).await?;
        record.activate(&canary.release.digest, &canary.release.manifest.version, &self.now());
        self.write(name, &record).await?;
        Ok(canary.release.clone())
    }

    /// Ends the trial, or else goes back to the release before.
    pub async fn rollback(&self, name: &PluginName, why: &str) -> Result<Arc<Release>, DeployError> {
        let _turn = self.turn.lock().await;
        self.go_back(name, State::RolledBack, why).await
    }

    async fn go_back(&self, name: &PluginName, state: State, why: &str) -> Result<Arc<Release>, DeployError> {
        let slot = self.slot(name)?;
        let mut record = self.record(name).await?;
        if let Some(canary) = self.registry.end_trial(&slot) {
            let release = &canary.release;
            record.note(&release.digest, &release.manifest.version, state, &self.now(), Some(why.to_owned()));
            self.write(name, &record).await?;
            return slot.live().ok_or_else(|| DeployError::NotDeployed(name.clone()));
        }
        let previous = record.previous.clone().ok_or_else(|| DeployError::NothingBefore(name.clone()))?;
        let release = match self.take_warm(name, &previous) {
            Some(release) => release,
            None => self.stored(name, &previous).await?,
        };
        let replaced = slot.live();
        self.replace(name, release.clone())?;
        record.activate(&release.digest, &release.manifest.version, &self.now());
        if let Some(replaced) = replaced {
            record.note(&replaced.digest, &replaced.manifest.version, state, &self.now(), Some(why.to_owned()));
        }
        // What was gone back from is not what one goes back to.
        record.previous = None;
        self.write(name, &record).await?;
        Ok(release)
    }

    /// Stops or resumes a plugin, over restarts as well.
    pub async fn set_disabled(&self, name: &PluginName, disabled: bool) -> Result<Arc<Slot>, DeployError> {
        let _turn = self.turn.lock().await;
        let slot = self.slot(name)?;
        let mut record = self.record(name).await?;
        record.disabled = disabled;
        self.write(name, &record).await?;
        self.registry.set_disabled(&slot, disabled);
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
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
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
            let warm = self.config.warm;
            self.warm.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (_, since)| since.elapsed() < warm);
        }
    }

    async fn look_at(&self, slot: &Slot) {
        let Some(active) = slot.live() else { return };
        if let Some(canary) = slot.canary() {
            let verdict = canary.verdict(&active.tally, self.config.calls, self.config.time);
            let worse = match verdict {
                Verdict::Worse(why) => Some(why),
                _ if canary.release.tally.is_hopeless() => Some("nothing but failures".to_owned()),
                _ => None,
            };
            if let Some(why) = worse {
                tracing::error!(plugin = %slot.name, "the canary is rolled back: {why}");
                self.report(&slot.name, self.rollback(&slot.name, &why).await);
            }
        } else if active.tally.is_hopeless() {
            tracing::error!(plugin = %slot.name, "the release is quarantined: it does nothing but fail");
            let _turn = self.turn.lock().await;
            let outcome = self.go_back(&slot.name, State::Quarantined, "nothing but failures").await;
            if matches!(outcome, Err(DeployError::NothingBefore(_))) {
                // Fail closed: its events are unavailable until something else is deployed.
                self.registry.take_down(slot);
            }
            self.report(&slot.name, outcome);
        }
    }

    fn report(&self, name: &PluginName, outcome: Result<Arc<Release>, DeployError>) {
        match outcome {
            Ok(release) => tracing::warn!(plugin = %name, version = release.manifest.version, "serves again"),
            Err(error) => tracing::error!(plugin = %name, "{error}"),
        }
    }

    /// Makes a release live in place of what was, which stays warm for a while.
    fn replace(&self, name: &PluginName, release: Arc<Release>) -> Result<(), Collision> {
        let slot = self.registry.slot(name);
        let old = slot.as_ref().and_then(|slot| slot.live());
        self.registry.install(vec![release])?;
        if let Some(slot) = slot {
            self.registry.end_trial(&slot);
        }
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = old {
            warm.insert(name.clone(), (old, Instant::now()));
        }
        Ok(())
    }

    fn take_warm(&self, name: &PluginName, digest: &str) -> Option<Arc<Release>> {
        let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        warm.get(name).filter(|(release, _)| release.digest == digest).map(|(release, _)| release.clone())
    }

    async fn stage_as(&self, name: &PluginName, component: Vec<u8>) -> Result<Arc<Release>, StageError> {
        self.stage.stage(name, component, self.plugins.get(name).cloned().unwrap_or_default()).await
    }

    /// A release from its stored component.
    async fn stored(&self, name: &PluginName, digest: &str) -> Result<Arc<Release>, DeployError> {
        let component = self.storage.blob(&component_blob(digest)).await?;
        let component = component.ok_or_else(|| DeployError::Gone(name.clone(), digest.to_owned()))?;
        Ok(self.stage_as(name, component.to_vec()).await?)
    }

    async fn reject(
        &self,
        name: &PluginName,
        mut record: Record,
        digest: &str,
        version: &str,
        error: DeployError,
    ) -> DeployError {
        tracing::warn!(plugin = %name, version, "a release was rejected: {error}");
        // The active release deployed again is not made a rejected one by a passing trouble.
        if record.active.as_deref() != Some(digest) {
            record.note(digest, version, State::Rejected, &self.now(), Some(error.to_string()));
            // What is wrong with the release matters more than that it could not be noted.
            let _ = self.write(name, &record).await;
        }
        error
    }

    async fn write(&self, name: &PluginName, record: &Record) -> Result<(), Unavailable> {
        let before = self.record(name).await?;
        let json = serde_json::to_vec(record).map_err(Unavailable::new)?;
        self.storage.put_blob(Record::blob(name), json.into()).await?;
        let known = before.releases.iter().map(|entry| &entry.digest).chain(&before.active).chain(&before.previous);
        for digest in known.filter(|digest| before.needs(digest) && !record.needs(digest)) {
            self.storage.remove_blob(component_blob(digest)).await?;
        }
        Ok(())
    }

    fn slot(&self, name: &PluginName) -> Result<Arc<Slot>, DeployError> {
        self.registry.slot(name).ok_or_else(|| DeployError::NotDeployed(name.clone()))
    }

    fn now(&self) -> String {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.clock.now_ms())).to_string()
    }
}

/// SHA-256, in hex.
pub fn digest(component: &[u8]) -> String {
    Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect()
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
