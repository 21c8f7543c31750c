//! Startup: makes the active releases live again, and continues trials. Nothing is live before all releases are staged, and
//! before the data that they take over from other plugins is moved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::history::{History, MAX_PLUGINS, PLUGINS, State, digest, put_component, sweep};
use super::moving::{Move, UNFINISHED, Unfinished, run_moves};
use super::releases::{DeployError, Releases, signature_beside};
use super::set::topics_of;
use crate::call::release::Release;
use crate::names::PluginName;
use crate::storage::Unavailable;

/// The releases that a start makes live, with the histories of their plugins.
#[derive(Default)]
struct Start {
    staged: Vec<Arc<Release>>,
    histories: Vec<(PluginName, History)>,
}

impl Releases {
    /// Stages the active releases, or the configured files that have changed since, moves the data that these take over, and
    /// makes all of them live, or none.
    pub async fn boot(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let turn = self.turn().await?;
        let mut start = self.staged(files, true).await?;
        self.registry.check_all(&start.staged, &[])?;
        self.take_over(&mut start).await?;
        self.settle_tenants(&start.staged).await?;
        let Start { staged, histories } = start;
        self.registry.install(staged.clone(), &[])?;
        let mut written = Vec::new();
        for (release, (name, mut history)) in staged.into_iter().zip(histories) {
            tracing::info!(release = %format_args!("{name}@{}", release.manifest.version), digest = %&release.digest[..12], "live");
            if history.active.as_ref() != Some(&release.digest) {
                history.activate(&release.digest, &release.manifest.version, &self.now());
            }
            if let Some(deployed) = self.registry.deployed(&name) {
                self.apply_stops(&deployed, &history);
            }
            written.push((name, history));
        }
        // Written together with the moves, so that another start finds either all of it or nothing.
        self.write_all(&written, vec![(UNFINISHED.to_owned(), None)]).await?;
        for (name, history) in written {
            self.resume(&name, history).await?;
        }
        // While another node may be storing a component that it deploys, no component is known to be unneeded.
        if self.cluster.is_none() || turn.is_ours() {
            sweep(&*self.storage).await?;
        }
        Ok(())
    }

    /// Stages the releases of a start, and checks whether they could be live. Stores and moves nothing.
    pub async fn check(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let start = self.staged(files, false).await?;
        Ok(self.registry.install(start.staged, &[])?)
    }

    async fn staged(&self, files: &BTreeMap<PluginName, PathBuf>, store: bool) -> anyhow::Result<Start> {
        let mut start = Start::default();
        for (name, file) in files {
            let because = |why: &dyn std::fmt::Display| anyhow::anyhow!("plugin {name}: {}: {why}", file.display());
            let component = std::fs::read(file).map_err(|e| because(&e))?;
            let mut history = self.history(name).await?;
            let seed = digest(&component);
            if history.withdrawn && history.seed.as_ref() == Some(&seed) {
                tracing::info!(plugin = %name, "not deployed: it was rolled back, and its file is the same");
                continue;
            }
            let current = history.active.clone().filter(|active| history.seed.as_ref() == Some(&seed) && *active != seed);
            if current.is_none() && history.before_moves.contains(&seed) {
                return Err(DeployError::DataMoved(name.clone()).into());
            }
            let release = match current {
                Some(active) => self.stored(name, &active).await?,
                None => {
                    let signature = signature_beside(file);
                    self.signers.check(&component, signature.as_deref()).map_err(|e| because(&e))?;
                    if store {
                        put_component(&*self.storage, Bytes::from(component.clone()), signature.as_deref()).await?;
                    }
                    self.stage_as(name, component).await.map_err(|e| anyhow::anyhow!("plugin {name}: {e}"))?
                }
            };
            history.seed = Some(seed);
            start.staged.push(release);
            start.histories.push((name.clone(), history));
        }
        for blob in self.storage.blobs(PLUGINS, MAX_PLUGINS).await? {
            let Ok(name) = PluginName::parse(blob.trim_start_matches(PLUGINS)) else { continue };
            let history = self.history(&name).await?;
            // A plugin that came from a file is removed with its file.
            let (None, None, Some(active)) = (files.get(&name), &history.seed, &history.active) else { continue };
            start.staged.push(self.stored(&name, active).await?);
            start.histories.push((name, history));
        }
        Ok(start)
    }

    /// Completes interrupted moves of data, or reverts those that are no longer wanted, and moves the data that the staged
    /// releases take over and have not taken yet.
    async fn take_over(&self, start: &mut Start) -> anyhow::Result<()> {
        let mut moves = Vec::new();
        for (release, (_, history)) in start.staged.iter().zip(&start.histories) {
            moves.extend(Move::pending(release, history));
        }
        let unfinished = Unfinished::read(&*self.storage).await?.unwrap_or_default();
        let unwanted = unfinished.moves.iter().rev().filter(|one| !moves.contains(one)).cloned();
        let mut all: Vec<_> = unwanted.map(Move::back).collect();
        all.append(&mut moves);
        let moves = all;
        if moves.is_empty() {
            return Ok(());
        }
        self.stop_elsewhere(start, &moves, &unfinished).await?;
        let topic_listeners = start.staged.iter().map(topics_of).collect();
        self.while_holding_the_lock(run_moves(&self.storage, &moves, &topic_listeners)).await?;
        for (release, (name, history)) in start.staged.iter().zip(&mut start.histories) {
            history.disabled &= !unfinished.stopped.contains(name);
            history.moving = false;
            let new: Vec<_> = release.manifest.takes.iter().filter(|taken| !history.took.contains(taken)).cloned().collect();
            history.took.extend(new);
            let loses = moves.iter().any(|one| one.from == *name);
            if let Some(old) = history.active.clone().filter(|old| loses && *old != release.digest) {
                history.before_moves.push(old);
            }
        }
        Ok(())
    }

    /// Records the moves, and in a cluster stops the plugins on other nodes that hold the data.
    async fn stop_elsewhere(&self, start: &Start, moves: &[Move], before: &Unfinished) -> anyhow::Result<()> {
        let mut unfinished = Unfinished { moves: moves.to_vec(), stopped: before.stopped.clone() };
        let mut stopped = Vec::new();
        for (release, (name, history)) in start.staged.iter().zip(&start.histories) {
            let holds = moves.iter().any(|one| one.from == *name);
            let serves = history.active.as_ref().is_some_and(|active| *active != release.digest);
            if self.cluster.is_some() && holds && serves {
                if !history.disabled {
                    unfinished.stopped.push(name.clone());
                }
                stopped.push((name.clone(), History { disabled: true, moving: true, ..history.clone() }));
            }
        }
        let json = serde_json::to_vec(&unfinished)?;
        self.write_all(&stopped, vec![(UNFINISHED.to_owned(), Some(json.into()))]).await?;
        let names: Vec<_> = stopped.into_iter().map(|(name, _)| name).collect();
        self.stop(&names).await?;
        self.forget_progress(moves).await;
        Ok(())
    }

    /// Continues the trial that was running. If it cannot continue, it is ended; the active release serves in any case.
    async fn resume(&self, name: &PluginName, mut history: History) -> Result<(), Unavailable> {
        let Some(entry) = history.on_trial().cloned() else { return Ok(()) };
        match self.follow_history(name, &history).await {
            Ok(()) => tracing::info!(release = %format_args!("{name}@{}", entry.version), "the trial continues"),
            Err(error) => {
                tracing::warn!(release = %format_args!("{name}@{}", entry.version), "the trial cannot continue: {error}");
                history.note(&entry.digest, &entry.version, State::RolledBack, &self.now(), Some(error.to_string()));
                self.write(name, &history).await?;
            }
        }
        Ok(())
    }
}
