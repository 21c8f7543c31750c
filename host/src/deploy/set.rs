//! Deploys or rolls back several plugins together: stages them first and checks them against each other, then makes all of them
//! live, or none. Data that one takes over from another is moved in between, while the plugin that held it is stopped. If the
//! change fails, the data is moved back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::history::{History, State, put_component, remove_component};
use super::moving::{Move, TopicListeners, UNFINISHED, Unfinished, run_moves};
use super::releases::{DeployError, Part, Releases};
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::release::Release;
use crate::names::PluginName;
use crate::storage::Unavailable;

/// Releases that become live together.
#[derive(Default)]
struct Change {
    install: Vec<Arc<Release>>,
    /// Plugins that are removed.
    removed: Vec<PluginName>,
    histories: Vec<(PluginName, History)>,
    moves: Vec<Move>,
}

impl Releases {
    /// Deploys components to all users, together.
    pub async fn deploy_set(&self, parts: Vec<Part>) -> Result<Vec<Arc<Release>>, DeployError> {
        distinct(parts.iter().map(|part| &part.name))?;
        let begin = |part: &Part| self.locks.begin(&part.name).ok_or_else(|| DeployError::UnderWay(part.name.clone()));
        let deployments = parts.iter().map(begin).collect::<Result<Vec<_>, _>>()?;
        parts.iter().try_for_each(|part| self.signers.check(&part.component, part.signature.as_deref()))?;
        let mut staged = Vec::new();
        for (Part { name, component, signature }, deployment) in parts.into_iter().zip(&deployments) {
            let bytes = Bytes::from(component.clone());
            let staging = deployment.turn().await;
            let outcome = self.stage_as(&name, component).await;
            drop(staging);
            match outcome {
                Ok(release) => staged.push((release, bytes, signature)),
                Err(error) => {
                    let _turn = self.turn().await?;
                    let (history, digest) = (self.history(&name).await?, super::history::digest(&bytes));
                    return Err(self.reject(&name, history, &digest, "?", error.into()).await);
                }
            }
        }
        let _turn = self.turn().await?;
        self.undo().await?;
        let releases: Vec<_> = staged.iter().map(|(release, ..)| release.clone()).collect();
        if let Err(error) = self.prepare_set(staged).await {
            return Err(self.reject_all(&releases, error).await);
        }
        let mut change = Change::default();
        for release in &releases {
            let mut history = self.history(&release.manifest.name).await?;
            change.moves.extend(Move::pending(release, &history));
            history.activate(&release.digest, &release.manifest.version, &self.now());
            change.install(release.clone(), history);
        }
        if let Err(error) = self.apply(change).await {
            return Err(self.reject_all(&releases, error).await);
        }
        for Release { manifest, .. } in releases.iter().map(|release| &**release) {
            tracing::info!(release = %format_args!("{}@{}", manifest.name, manifest.version), "deployed");
        }
        Ok(releases)
    }

    /// Checks that the releases can be live together, stores them, and stages them on every other node.
    async fn prepare_set(&self, staged: Vec<(Arc<Release>, Bytes, Option<String>)>) -> Result<(), DeployError> {
        let releases: Vec<_> = staged.iter().map(|(release, ..)| release.clone()).collect();
        self.registry.check_all(&releases, &[])?;
        for release in &releases {
            let name = &release.manifest.name;
            if self.history(name).await?.before_moves.contains(&release.digest) {
                return Err(DeployError::DataMoved(name.clone()));
            }
        }
        for (_, bytes, signature) in staged {
            put_component(&*self.storage, bytes, signature.as_deref()).await?;
        }
        for release in &releases {
            self.prepare_all(&release.manifest.name, &release.digest).await?;
        }
        Ok(())
    }

    /// Records the rejection of all releases of a set, with the reason.
    async fn reject_all(&self, releases: &[Arc<Release>], error: DeployError) -> DeployError {
        let why = error.to_string();
        for Release { manifest, digest, .. } in releases.iter().map(|release| &**release) {
            tracing::warn!(release = %format_args!("{}@{}", manifest.name, manifest.version), "a release was rejected: {why}");
            let Ok(mut history) = self.history(&manifest.name).await else { continue };
            if !history.needs(digest) {
                // The error of the set matters more than an unneeded component.
                let _ = remove_component(&*self.storage, digest).await;
            }
            if history.active.as_ref() != Some(digest) {
                history.note(digest, &manifest.version, State::Rejected, &self.now(), Some(why.clone()));
                let _ = self.write(&manifest.name, &history).await;
            }
        }
        error
    }

    /// Ends the trial of a plugin, or else restores its previous release. Of several plugins, restores all previous releases
    /// together, and removes those without one. Data that was moved to the plugins is moved back.
    pub async fn rollback(&self, names: &[PluginName], why: &str) -> Result<(), DeployError> {
        distinct(names.iter())?;
        let _turn = self.turn().await?;
        if let [name] = names
            && self.end_trial(&*self.deployed(name)?, why).await?
        {
            return Ok(());
        }
        self.undo().await?;
        let mut change = Change::default();
        let mut first = None;
        for name in names {
            let deployed = self.deployed(name)?;
            if deployed.canary().is_some() {
                return Err(DeployError::OnTrial(name.clone()));
            }
            let history = self.history(name).await?;
            if history.previous.is_some() {
                self.go_back(&mut change, &deployed, history, State::RolledBack, why).await?;
            } else {
                first.get_or_insert(name);
                self.withdraw(&mut change, &deployed, history, why);
            }
        }
        match first.filter(|_| change.install.is_empty()) {
            Some(name) => Err(DeployError::NothingBefore(name.clone())),
            None => self.apply(change).await,
        }
    }

    async fn end_trial(&self, deployed: &DeployedPlugin, why: &str) -> Result<bool, DeployError> {
        // A trial ends without waiting for storage. If storage fails, the trial is started again.
        let Some(canary) = self.registry.end_trial(deployed) else { return Ok(false) };
        let (release, mut history) = (&canary.release, self.history(&deployed.name).await?);
        history.note(&release.digest, &release.manifest.version, State::RolledBack, &self.now(), Some(why.to_owned()));
        self.settle(&deployed.name, &history).await?;
        Ok(true)
    }

    async fn go_back(
        &self,
        change: &mut Change,
        deployed: &DeployedPlugin,
        mut history: History,
        state: State,
        why: &str,
    ) -> Result<(), DeployError> {
        let name = &deployed.name;
        let previous = history.previous.clone().ok_or_else(|| DeployError::NothingBefore(name.clone()))?;
        let (release, replaced) = (self.ready(name, &previous).await?, deployed.installed());
        let back = Move::returning(name, &history, replaced.as_deref(), Some(&release));
        history.took.retain(|taken| !back.iter().any(|one| one.to == taken.from && one.prefix == taken.prefix));
        change.moves.extend(back);
        history.activate(&release.digest, &release.manifest.version, &self.now());
        if let Some(replaced) = replaced {
            history.note(&replaced.digest, &replaced.manifest.version, state, &self.now(), Some(why.to_owned()));
        }
        // The release that was rolled back must not become the previous one.
        history.previous = None;
        change.install.push(release);
        change.histories.push((name.clone(), history));
        Ok(())
    }

    fn withdraw(&self, change: &mut Change, deployed: &DeployedPlugin, mut history: History, why: &str) {
        change.moves.extend(Move::returning(&deployed.name, &history, None, None));
        let version = deployed.installed().map_or_else(|| "?".to_owned(), |release| release.manifest.version.clone());
        history.withdraw(&version, &self.now(), why);
        change.removed.push(deployed.name.clone());
        change.histories.push((deployed.name.clone(), history));
    }

    /// Restores the previous release of one plugin. The caller holds the deploy lock.
    pub(crate) async fn restore_previous(
        &self,
        deployed: &DeployedPlugin,
        state: State,
        why: &str,
    ) -> Result<Arc<Release>, DeployError> {
        let mut change = Change::default();
        self.go_back(&mut change, deployed, self.history(&deployed.name).await?, state, why).await?;
        self.apply(change).await?;
        deployed.installed().ok_or_else(|| DeployError::NotDeployed(deployed.name.clone()))
    }

    /// Moves data, stores the change, and only then applies it, so that a restart makes the same releases live.
    async fn apply(&self, mut change: Change) -> Result<(), DeployError> {
        self.registry.check_all(&change.install, &change.removed)?;
        self.record_moves(&mut change).await?;
        let mut values = Vec::new();
        if !change.moves.is_empty() {
            let topic_listeners = self.topic_listeners(&change);
            self.move_data(&change.moves, &topic_listeners).await?;
            values.push((UNFINISHED.to_owned(), None));
        }
        if let Err(error) = self.write_all(&change.histories, values).await {
            self.undo_or_report().await;
            return Err(error.into());
        }
        self.roll_out(change.install, &change.removed)?;
        for (name, history) in &change.histories {
            if let Some(deployed) = self.registry.deployed(name) {
                self.apply_stops(&deployed, history);
                deployed.installed().filter(|_| !change.moves.is_empty()).inspect(|release| self.measure(release));
            }
        }
        Ok(())
    }

    /// Records the moves in the histories. Includes the histories of plugins that lose data or get it back: they were read before
    /// the plugins are stopped, so that writing them resumes the plugins.
    async fn record_moves(&self, change: &mut Change) -> Result<(), DeployError> {
        let (taken, back): (Vec<_>, Vec<_>) = change.moves.iter().cloned().partition(|one| change.takes(one));
        for name in change.moves.iter().flat_map(|one| [&one.from, &one.to]).cloned().collect::<BTreeSet<_>>() {
            if change.histories.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let history = self.history(&name).await?;
            if history.active.is_some() {
                change.histories.push((name, history));
            }
        }
        for (name, history) in &mut change.histories {
            if back.iter().any(|one| one.to == *name) {
                history.before_moves.clear();
            }
            if history.active.as_ref().is_some_and(|active| history.before_moves.contains(active)) {
                return Err(DeployError::DataMoved(name.clone()));
            }
            let loses = taken.iter().any(|one| one.from == *name);
            let live = self.registry.deployed(name).and_then(|deployed| deployed.installed());
            if let Some(live) = live.filter(|live| loses && history.active.as_ref() != Some(&live.digest)) {
                history.before_moves.push(live.digest.clone());
            }
        }
        for release in &change.install {
            let history = change.histories.iter_mut().find(|(name, _)| *name == release.manifest.name);
            if let Some((_, history)) = history {
                let new =
                    release.manifest.takes.iter().filter(|taken| !history.took.contains(taken)).cloned().collect::<Vec<_>>();
                history.took.extend(new);
            }
        }
        Ok(())
    }

    /// The topics that each plugin subscribes to after a change.
    fn topic_listeners(&self, change: &Change) -> TopicListeners {
        let live = self.registry.deployed_plugins().into_iter().filter_map(|deployed| deployed.installed());
        let mut topic_listeners: BTreeMap<_, _> =
            live.chain(change.install.iter().cloned()).map(|release| topics_of(&release)).collect();
        topic_listeners.retain(|name, _| !change.removed.contains(name));
        topic_listeners
    }

    /// Stops the plugins that hold the data, on all nodes, and moves it.
    async fn move_data(&self, moves: &[Move], topic_listeners: &TopicListeners) -> Result<(), DeployError> {
        let mut unfinished = Unfinished { moves: moves.to_vec(), stopped: Vec::new() };
        let mut histories = Vec::new();
        let holders: BTreeSet<_> = moves.iter().map(|one| &one.from).collect();
        for name in holders {
            let mut history = self.history(name).await?;
            if history.active.is_some() {
                if !history.disabled {
                    unfinished.stopped.push(name.clone());
                }
                (history.disabled, history.moving) = (true, true);
                histories.push((name.clone(), history));
            }
        }
        let stopped: Vec<_> = histories.iter().map(|(name, _)| name.clone()).collect();
        let json = serde_json::to_vec(&unfinished).map_err(Unavailable::new)?;
        self.write_all(&histories, vec![(UNFINISHED.to_owned(), Some(json.into()))]).await?;
        let moved = async {
            self.stop(&stopped).await?;
            self.forget_progress(moves).await;
            Ok(self.while_holding_the_lock(run_moves(&self.storage, moves, topic_listeners)).await?)
        };
        if let Err(error) = moved.await {
            self.undo_or_report().await;
            return Err(error);
        }
        Ok(())
    }

    /// Reverts unfinished moves of this process or an earlier one, and resumes the plugins.
    pub(crate) async fn undo(&self) -> Result<(), Unavailable> {
        let Some(Unfinished { moves, stopped }) = Unfinished::read(&*self.storage).await? else { return Ok(()) };
        let topic_listeners = self.topic_listeners(&Change::default());
        let back: Vec<_> = moves.into_iter().rev().map(Move::back).collect();
        self.while_holding_the_lock(run_moves(&self.storage, &back, &topic_listeners)).await?;
        let mut histories = Vec::new();
        for name in back.iter().map(|one| &one.to).collect::<BTreeSet<_>>() {
            let history = self.history(name).await?;
            if history.moving {
                let disabled = history.disabled && !stopped.contains(name);
                histories.push((name.clone(), History { disabled, moving: false, ..history }));
            }
        }
        self.write_all(&histories, vec![(UNFINISHED.to_owned(), None)]).await?;
        for (name, history) in &histories {
            self.registry.deployed(name).inspect(|deployed| self.apply_stops(deployed, history));
        }
        tracing::warn!("a change was reverted: the data that was moved for it is moved back");
        Ok(())
    }

    async fn undo_or_report(&self) {
        if let Err(error) = self.undo().await {
            tracing::error!("moved data was not moved back; the next change or start moves it back: {error}");
        }
    }

    /// A plugin's earlier progress in the outbox does not cover the messages that it subscribes to after a move.
    pub(crate) async fn forget_progress(&self, moves: &[Move]) {
        let Some(cluster) = &self.cluster else { return };
        let names = moves.iter().flat_map(|one| [&one.from, &one.to]).map(ToString::to_string).collect();
        if cluster.progress.forget(names).await.is_err() {
            tracing::warn!("the outbox progress of plugins with moved data was not reset: Redis does not answer");
        }
    }

    fn measure(&self, release: &Arc<Release>) {
        let (usage, storage) = (release.profile.usage.clone(), self.storage.clone());
        // In the background: it reads the whole store.
        tokio::spawn(async move { usage.measure_store_again(&*storage).await });
    }
}

impl Change {
    fn install(&mut self, release: Arc<Release>, history: History) {
        self.histories.push((release.manifest.name.clone(), history));
        self.install.push(release);
    }

    /// Whether a move is for a release that takes over the data, and not a move back.
    fn takes(&self, one: &Move) -> bool {
        let takes = |release: &Arc<Release>| {
            release.manifest.takes.iter().any(|taken| taken.from == one.from && taken.prefix == one.prefix)
        };
        self.install.iter().any(|release| release.manifest.name == one.to && takes(release))
    }
}

/// The topics that a release subscribes to.
pub(crate) fn topics_of(release: &Arc<Release>) -> (PluginName, Vec<String>) {
    (release.manifest.name.clone(), release.manifest.topics.clone())
}

fn distinct<'a>(names: impl Iterator<Item = &'a PluginName>) -> Result<(), DeployError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(DeployError::Twice(name.clone()));
        }
    }
    Ok(())
}
