//! A start: what was active serves again, and the trials go on. Nothing is live before all of it is staged, and before what it takes of
//! other plugins' data is moved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::history::{MAX_PLUGINS, PLUGINS, Record, State, digest, put_component, sweep};
use super::moving::{Move, UNFINISHED, Unfinished, carry};
use super::releases::{DeployError, Releases, signature_beside};
use super::set::topics_of;
use crate::call::release::Release;
use crate::names::PluginName;
use crate::storage::Unavailable;

/// The releases that a start makes live, with their plugins' records.
#[derive(Default)]
struct Start {
    staged: Vec<Arc<Release>>,
    records: Vec<(PluginName, Record)>,
}

impl Releases {
    /// Stages what was active, or what the files hold where they have changed since, moves what these take of others' data, and makes
    /// them live: all or nothing.
    pub async fn boot(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let turn = self.turn().await?;
        let mut start = self.staged(files, true).await?;
        self.registry.check_all(&start.staged, &[])?;
        self.take_over(&mut start).await?;
        self.settle_tenants(&start.staged).await?;
        let Start { staged, records } = start;
        self.registry.install(staged.clone(), &[])?;
        let mut written = Vec::new();
        for (release, (name, mut record)) in staged.into_iter().zip(records) {
            tracing::info!(release = %format_args!("{name}@{}", release.manifest.version), digest = %&release.digest[..12], "live");
            if record.active.as_ref() != Some(&release.digest) {
                record.activate(&release.digest, &release.manifest.version, &self.now());
            }
            if let Some(deployed) = self.registry.deployed(&name) {
                self.apply_stops(&deployed, &record);
            }
            written.push((name, record));
        }
        // With what was moved, at once: another start either finds all of it, or nothing.
        self.write_all(&written, vec![(UNFINISHED.to_owned(), None)]).await?;
        for (name, record) in written {
            self.resume(&name, record).await?;
        }
        // While another node may be about to store what it deploys, nothing is known to be needless.
        if self.cluster.is_none() || turn.is_ours() {
            sweep(&*self.storage).await?;
        }
        Ok(())
    }

    /// Stages what a start would, and says whether it could be live. Nothing is stored, and nothing is moved.
    pub async fn check(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let start = self.staged(files, false).await?;
        Ok(self.registry.install(start.staged, &[])?)
    }

    async fn staged(&self, files: &BTreeMap<PluginName, PathBuf>, store: bool) -> anyhow::Result<Start> {
        let mut start = Start::default();
        for (name, file) in files {
            let because = |why: &dyn std::fmt::Display| anyhow::anyhow!("plugin {name}: {}: {why}", file.display());
            let component = std::fs::read(file).map_err(|e| because(&e))?;
            let mut record = self.record(name).await?;
            let seed = digest(&component);
            if record.withdrawn && record.seed.as_ref() == Some(&seed) {
                tracing::info!(plugin = %name, "not deployed: it was rolled back, and its file is the same");
                continue;
            }
            let kept = record.active.clone().filter(|active| record.seed.as_ref() == Some(&seed) && *active != seed);
            if kept.is_none() && record.before_moves.contains(&seed) {
                return Err(DeployError::DataMoved(name.clone()).into());
            }
            let release = match kept {
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
            record.seed = Some(seed);
            start.staged.push(release);
            start.records.push((name.clone(), record));
        }
        for blob in self.storage.blobs(PLUGINS, MAX_PLUGINS).await? {
            let Ok(name) = PluginName::parse(blob.trim_start_matches(PLUGINS)) else { continue };
            let record = self.record(&name).await?;
            // One that came from a file goes with its file.
            let (None, None, Some(active)) = (files.get(&name), &record.seed, &record.active) else { continue };
            start.staged.push(self.stored(&name, active).await?);
            start.records.push((name, record));
        }
        Ok(start)
    }

    /// Finishes moves of data that have begun, or goes back with those that are not wanted any more, and moves what the staged releases
    /// take and have not taken yet.
    async fn take_over(&self, start: &mut Start) -> anyhow::Result<()> {
        let mut moves = Vec::new();
        for (release, (_, record)) in start.staged.iter().zip(&start.records) {
            moves.extend(Move::pending(release, record));
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
        self.while_holding_the_lock(carry(&self.storage, &moves, &topic_listeners)).await?;
        for (release, (name, record)) in start.staged.iter().zip(&mut start.records) {
            record.disabled &= !unfinished.stopped.contains(name);
            record.moving = false;
            let new: Vec<_> = release.manifest.takes.iter().filter(|taken| !record.took.contains(taken)).cloned().collect();
            record.took.extend(new);
            let loses = moves.iter().any(|one| one.from == *name);
            if let Some(old) = record.active.clone().filter(|old| loses && *old != release.digest) {
                record.before_moves.push(old);
            }
        }
        Ok(())
    }

    /// Notes the moves, and in a cluster stops the plugins on the other nodes that hold what is moved.
    async fn stop_elsewhere(&self, start: &Start, moves: &[Move], before: &Unfinished) -> anyhow::Result<()> {
        let mut unfinished = Unfinished { moves: moves.to_vec(), stopped: before.stopped.clone() };
        let mut stopped = Vec::new();
        for (release, (name, record)) in start.staged.iter().zip(&start.records) {
            let holds = moves.iter().any(|one| one.from == *name);
            let serves = record.active.as_ref().is_some_and(|active| *active != release.digest);
            if self.cluster.is_some() && holds && serves {
                if !record.disabled {
                    unfinished.stopped.push(name.clone());
                }
                stopped.push((name.clone(), Record { disabled: true, moving: true, ..record.clone() }));
            }
        }
        let json = serde_json::to_vec(&unfinished)?;
        self.write_all(&stopped, vec![(UNFINISHED.to_owned(), Some(json.into()))]).await?;
        let names: Vec<_> = stopped.into_iter().map(|(name, _)| name).collect();
        self.stop(&names).await?;
        self.forget_progress(moves).await;
        Ok(())
    }

    /// Goes on with the trial that was under way. One that cannot go on is ended: what is active serves all the same.
    async fn resume(&self, name: &PluginName, mut record: Record) -> Result<(), Unavailable> {
        let Some(entry) = record.on_trial().cloned() else { return Ok(()) };
        match self.follow_record(name, &record).await {
            Ok(()) => tracing::info!(release = %format_args!("{name}@{}", entry.version), "the trial goes on"),
            Err(error) => {
                tracing::warn!(release = %format_args!("{name}@{}", entry.version), "the trial cannot go on: {error}");
                record.note(&entry.digest, &entry.version, State::RolledBack, &self.now(), Some(error.to_string()));
                self.write(name, &record).await?;
            }
        }
        Ok(())
    }
}
