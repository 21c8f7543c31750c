//! Releases on trial: a canary serves a share of the users; a shadow only observes. The active release is not affected.

use std::sync::Arc;

use bytes::Bytes;

use super::history::{History, digest, put_component, remove_component};
use super::moving::Move;
use super::releases::{DeployError, Releases};
use crate::call::canary::{How, Trial};
use crate::call::release::Release;
use crate::call::routes::Collision;
use crate::names::PluginName;
use crate::replay::shadow::Shadow;

impl Releases {
    /// Deploys a component on trial.
    pub(crate) async fn deploy_on_trial(
        &self,
        name: &PluginName,
        component: Vec<u8>,
        trial: Trial,
        signature: Option<&str>,
    ) -> Result<Arc<Release>, DeployError> {
        let deployment = self.locks.begin(name).ok_or_else(|| DeployError::UnderWay(name.clone()))?;
        let digest = digest(&component);
        self.signers.check(&component, signature)?;
        let bytes = Bytes::from(component.clone());
        let staging = deployment.turn().await;
        let staged = self.stage_as(name, component).await;
        drop(staging);
        let _turn = self.turn().await?;
        let mut history = self.history(name).await?;
        let release = match staged {
            Ok(release) => release,
            Err(error) => return Err(self.reject(name, history, &digest, "?", error.into()).await),
        };
        let version = release.manifest.version.clone();
        if let Err(error) = self.check_trial_allowed(&release, &history) {
            return Err(self.reject(name, history, &digest, &version, error).await);
        }
        put_component(&*self.storage, bytes, signature).await?;
        if let Err(error) = self.prepare_all(name, &digest).await {
            if !history.needs(&digest) {
                remove_component(&*self.storage, &digest).await?;
            }
            return Err(self.reject(name, history, &digest, &version, error).await);
        }
        history.start_trial(&digest, &version, trial, &self.now());
        self.prepared.keep(release.clone());
        self.settle(name, &history).await?;
        tracing::info!(release = %format_args!("{name}@{version}"), ?trial, "deployed");
        Ok(release)
    }

    /// Data is moved for all users at once, so a release that takes over data cannot be tried out with a share of them.
    fn check_trial_allowed(&self, release: &Arc<Release>, history: &History) -> Result<(), DeployError> {
        match Move::pending(release, history).into_iter().next() {
            Some(Move { from, to, .. }) => Err(DeployError::TakesOnTrial { plugin: to, from }),
            None => Ok(self.registry.check_trial(release)?),
        }
    }

    /// Makes the release on trial the active one.
    pub async fn promote(&self, name: &PluginName) -> Result<Arc<Release>, DeployError> {
        let _turn = self.turn().await?;
        let canary = self.deployed(name)?.canary().ok_or_else(|| DeployError::NoCanary(name.clone()))?;
        self.registry.check(&canary.release)?;
        let mut history = self.history(name).await?;
        history.activate(&canary.release.digest, &canary.release.manifest.version, &self.now());
        self.settle(name, &history).await?;
        Ok(canary.release.clone())
    }

    pub(crate) async fn start_trial(&self, name: &PluginName, release: Arc<Release>, trial: Trial) -> Result<(), Collision> {
        let (percent, how) = match trial {
            Trial::Canary(percent) => (percent, How::Serves),
            Trial::Shadow(percent) => {
                let found =
                    self.registry.deployed(name).and_then(|deployed| deployed.installed().map(|active| (deployed, active)));
                let (deployed, active) = found.ok_or_else(|| Collision::NothingActive(name.clone()))?;
                let words = self.vocabulary(&active.digest).await.join(self.vocabulary(&release.digest).await);
                let shadow = Shadow::begin(&deployed, &active, &release, percent, &self.recording, &self.stage.services, words)?;
                (percent, How::Shadows(Box::new(shadow)))
            }
        };
        self.registry.start_trial(release, percent, how)
    }
}
