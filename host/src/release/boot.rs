//! A start: what was active serves again, and the trials go on. Nothing is live before all of it is staged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use super::record::{MAX_PLUGINS, PLUGINS, Record, State, digest, put_component, sweep};
use super::releases::{Releases, signature_beside};
use crate::names::PluginName;
use crate::storage::Unavailable;

impl Releases {
    /// Stages what was active, or what the files hold where they have changed since, and makes it live: all or nothing.
    pub async fn boot(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let turn = self.turn().await?;
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
                    let signature = signature_beside(file);
                    self.signers.check(&component, signature.as_deref()).map_err(|e| because(&e))?;
                    put_component(&*self.storage, Bytes::from(component.clone()), signature.as_deref()).await?;
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
            if let Some(slot) = self.registry.slot(&name) {
                self.apply_stops(&slot, &record);
            }
            self.write(&name, &record).await?;
            self.resume(&name, record).await?;
        }
        // While another node may be about to store what it deploys, nothing is known to be needless.
        if self.cluster.is_none() || turn.is_ours() {
            sweep(&*self.storage).await?;
        }
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
