//! Rollout to all nodes of a cluster: every node stages a release before any node makes it live, and each follows the stored
//! history. The history decides; notices between nodes only speed it up.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::interfaces::{HashesInterface, KeysInterface};
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;

use super::history::{History, MAX_PLUGINS, PLUGINS};
use super::releases::{DeployError, PREPARED, Releases};
use crate::call::breaker::Quarantined;
use crate::call::canary::Trial;
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::release::Release;
use crate::cluster::Cluster;
use crate::cluster::redis::RedisUnavailable;
use crate::names::PluginName;

/// How long a node holds the deploy lock of the cluster without renewing it.
const LOCK_LEASE: Duration = Duration::from_secs(120);

/// How long a deployment waits for the deploy lock, and for the other nodes to stage.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The interval of polling while waiting.
const POLL: Duration = Duration::from_millis(20);

/// How long the running calls of a stopped plugin may take to end.
const CALLS_TIMEOUT: Duration = Duration::from_secs(10);

/// After this time every node has read the histories by itself, and its earlier calls have ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// The interval of reading all histories, in case a notice was lost.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);

/// The name of the cluster's deploy lock.
const DEPLOYMENT: &str = "deployment";

/// Notices between nodes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Notice {
    /// Stage this release, and answer under `id` whether it succeeded.
    Prepare { id: String, name: PluginName, digest: String },
    /// This plugin is to be stopped. Answer under `id` when its calls have ended.
    Stop { id: String, name: PluginName },
    /// The history of this plugin has changed.
    Follow { name: PluginName },
}

/// The deploy lock, in this process and in the cluster. Released on drop.
pub(crate) struct Turn<'a> {
    _guard: MutexGuard<'a, ()>,
    cluster: Option<Arc<Cluster>>,
}

impl Turn<'_> {
    /// Whether it is held in the whole cluster.
    pub(crate) fn is_ours(&self) -> bool {
        self.cluster.is_some()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // If the release fails, the lock expires by itself.
            runtime.spawn(async move { cluster.nodes.release(DEPLOYMENT).await });
        }
    }
}

impl Releases {
    /// Waits for the deploy lock. Without Redis it is held on this node only, since the stored history decides.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, DeployError> {
        let guard = self.turn.lock().await;
        let until = Instant::now() + TIMEOUT;
        let cluster = loop {
            let Some(cluster) = &self.cluster else { break None };
            if !cluster.link.is_up() {
                break None;
            }
            match cluster.nodes.claim(DEPLOYMENT, LOCK_LEASE).await {
                Ok(true) => break Some(cluster.clone()),
                Ok(false) if Instant::now() > until => return Err(DeployError::Busy),
                Ok(false) => tokio::time::sleep(POLL).await,
                Err(_) => break None,
            }
        };
        Ok(Turn { _guard: guard, cluster })
    }

    /// Runs work that may take longer than the lock's lease, and renews the lease meanwhile.
    pub(crate) async fn while_holding_the_lock<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(cluster) = &self.cluster else { return work.await };
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // Without Redis the lock is held on this node only.
                () = tokio::time::sleep(LOCK_LEASE / 4) => drop(cluster.nodes.hold(DEPLOYMENT, LOCK_LEASE).await),
            }
        }
    }

    /// Stages a stored component on all other nodes. The error names a node that cannot stage it.
    pub(crate) async fn prepare_all(&self, name: &PluginName, digest: &str) -> Result<(), DeployError> {
        let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.link.is_up() && cluster.nodes.has_others()) else {
            return Ok(());
        };
        let id = format!("{digest}/{}", self.clock.now_ms());
        let notice = Notice::Prepare { id: id.clone(), name: name.clone(), digest: digest.to_owned() };
        match self.prepared_by_all(cluster, &id, notice).await {
            Ok(refused) => refused.map_or(Ok(()), |(node, why)| Err(DeployError::Node(node, why))),
            // Redis failed meanwhile: the other nodes follow the history when they can.
            Err(_) => Ok(()),
        }
    }

    async fn prepared_by_all(
        &self,
        cluster: &Cluster,
        id: &str,
        notice: Notice,
    ) -> Result<Option<(String, String)>, RedisUnavailable> {
        cluster.peers.relay.announce(text(&notice)).await?;
        let key = prepared_key(cluster, id);
        let until = Instant::now() + TIMEOUT;
        loop {
            let answers: HashMap<String, String> = cluster.link.client.hgetall(&key).await?;
            if let Some((node, why)) = answers.iter().find(|(_, answer)| !answer.is_empty()) {
                return Ok(Some((node.clone(), why.clone())));
            }
            let live = cluster.nodes.live();
            let missing = live.iter().find(|node| **node != cluster.nodes.me && !answers.contains_key(*node));
            match missing {
                None => return Ok(None),
                Some(node) if Instant::now() > until => {
                    return Ok(Some((node.clone(), "it did not answer whether it can stage the release".into())));
                }
                Some(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Notifies the other nodes of a changed history.
    pub(crate) async fn notify_nodes(&self, name: &PluginName) {
        if let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.nodes.has_others()) {
            // If the notice is lost, they still read the histories at intervals.
            let _ = cluster.peers.relay.announce(text(&Notice::Follow { name: name.clone() })).await;
        }
    }

    /// Follows the other nodes' deployments, until it is dropped.
    pub async fn follow_all(self: Arc<Self>, cluster: Arc<Cluster>) {
        let mut notices = cluster.peers.relay.notices();
        let mut ticks = tokio::time::interval(FOLLOW_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice.ok().and_then(|text| serde_json::from_str(&text).ok()),
                _ = ticks.tick() => None,
            };
            match notice {
                Some(Notice::Prepare { id, name, digest }) => self.prepare(&cluster, &id, &name, &digest).await,
                Some(Notice::Stop { id, name }) => self.stop_and_reply(&cluster, &id, &name).await,
                Some(Notice::Follow { name }) => self.follow(&name).await,
                None => {
                    for name in self.recorded().await {
                        self.follow(&name).await;
                    }
                }
            }
        }
    }

    /// Stages a release that another node is about to deploy, and answers whether it succeeded.
    async fn prepare(&self, cluster: &Cluster, id: &str, name: &PluginName, digest: &str) {
        let answer = match self.stored(name, digest).await {
            Ok(release) => {
                self.prepared.keep(release);
                String::new()
            }
            Err(error) => error.to_string(),
        };
        if reply(cluster, id, answer).await.is_err() {
            tracing::warn!(plugin = %name, "could not answer the other nodes whether the release can be staged");
        }
    }

    /// Stops a plugin according to its history, and answers once its calls have ended.
    async fn stop_and_reply(&self, cluster: &Cluster, id: &str, name: &PluginName) {
        self.follow(name).await;
        // There is no answer if the calls do not end.
        if self.registry.deployed(name).is_none_or(|deployed| deployed.is_disabled())
            && self.wait_for_calls(name).await.is_ok()
            && reply(cluster, id, String::new()).await.is_err()
        {
            tracing::warn!(plugin = %name, "could not answer the other nodes that the plugin is stopped");
        }
    }

    /// Waits until no call of a stopped plugin is running here.
    async fn wait_for_calls(&self, name: &PluginName) -> Result<(), DeployError> {
        let Some(deployed) = self.registry.deployed(name) else { return Ok(()) };
        let until = Instant::now() + CALLS_TIMEOUT;
        while deployed.running() > 0 {
            if Instant::now() > until {
                return Err(DeployError::StillCalled(name.clone(), CALLS_TIMEOUT.as_secs()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops plugins that are disabled in their histories, here and on all other nodes, and waits until their calls have ended. A
    /// node with an older server does not answer; it has read the histories by itself when the wait ends.
    pub(crate) async fn stop(&self, names: &[PluginName]) -> Result<(), DeployError> {
        let began = Instant::now();
        for name in names {
            if let Some(deployed) = self.registry.deployed(name) {
                self.registry.set_moving(&deployed, true);
                self.registry.set_disabled(&deployed, true);
            }
            self.wait_for_calls(name).await?;
        }
        let Some(cluster) = self.cluster.as_ref().filter(|_| !names.is_empty()) else { return Ok(()) };
        for name in names {
            let id = format!("stop/{name}/{}", self.clock.now_ms());
            let notice = Notice::Stop { id: id.clone(), name: name.clone() };
            if self.answered_by_all(cluster, &id, notice, began + STOP_TIMEOUT).await.unwrap_or(false) {
                continue;
            }
            tokio::time::sleep_until((began + STOP_TIMEOUT).into()).await;
        }
        Ok(())
    }

    /// Whether every other node answers a notice in time. False if the other nodes are unknown.
    async fn answered_by_all(
        &self,
        cluster: &Cluster,
        id: &str,
        notice: Notice,
        until: Instant,
    ) -> Result<bool, RedisUnavailable> {
        if !cluster.link.is_up() || !cluster.nodes.has_others() {
            return Ok(false);
        }
        cluster.peers.relay.announce(text(&notice)).await?;
        let key = prepared_key(cluster, id);
        while Instant::now() < until {
            let answers: HashMap<String, String> = cluster.link.client.hgetall(&key).await?;
            if cluster.nodes.live().iter().all(|node| *node == cluster.nodes.me || answers.contains_key(node)) {
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    /// The plugins with a stored history.
    async fn recorded(&self) -> Vec<PluginName> {
        let blobs = self.storage.blobs(PLUGINS, MAX_PLUGINS).await.unwrap_or_default();
        blobs.iter().filter_map(|blob| PluginName::parse(blob.trim_start_matches(PLUGINS)).ok()).collect()
    }

    /// Makes the active release of the history live. On failure it is tried again at the next interval.
    async fn follow(&self, name: &PluginName) {
        let _guard = self.turn.lock().await;
        let followed = async {
            let history = self.history(name).await?;
            if self.differs(name, &history) {
                self.follow_together().await?;
            }
            self.follow_history(name, &history).await
        };
        if let Err(error) = followed.await {
            tracing::error!(plugin = %name, "this node serves other releases than the cluster: {error}");
        }
    }

    /// Whether the live release is not the history's active one.
    fn differs(&self, name: &PluginName, history: &History) -> bool {
        let live = self.registry.deployed(name).and_then(|deployed| deployed.installed());
        live.map(|live| live.digest.clone()) != history.active
    }

    /// Applies all changed histories together: the plugins of a set may conflict with the old releases of each other.
    async fn follow_together(&self) -> Result<(), DeployError> {
        let (mut install, mut removed) = (Vec::new(), Vec::new());
        for name in self.recorded().await {
            let history = self.history(&name).await?;
            match &history.active {
                Some(active) if self.differs(&name, &history) => match self.ready(&name, active).await {
                    Ok(release) => install.push(release),
                    Err(error) => tracing::error!(plugin = %name, "this node serves other releases than the cluster: {error}"),
                },
                None if self.registry.deployed(&name).is_some_and(|deployed| deployed.installed().is_some()) => {
                    removed.push(name)
                }
                _ => {}
            }
        }
        for Release { manifest, .. } in install.iter().map(|release| &**release) {
            tracing::info!(release = %format_args!("{}@{}", manifest.name, manifest.version), "live");
        }
        Ok(self.roll_out(install, &removed)?)
    }

    pub(crate) async fn follow_history(&self, name: &PluginName, history: &History) -> Result<(), DeployError> {
        let deployed = self.registry.deployed(name);
        let live = deployed.as_ref().and_then(|deployed| deployed.installed());
        if let Some(active) = &history.active
            && (live.as_ref().is_none_or(|live| live.digest != *active) || self.prepared.get(name, active).is_some())
        {
            let release = self.ready(name, active).await?;
            tracing::info!(release = %format_args!("{name}@{}", release.manifest.version), "live");
            self.roll_out(vec![release], &[])?;
        }
        let Some(deployed) = self.registry.deployed(name) else { return Ok(()) };
        if history.active.is_none() && live.is_some() {
            self.roll_out(Vec::new(), std::slice::from_ref(name))?;
        }
        let tried = deployed.canary().map(|canary| (canary.release.digest.clone(), canary.trial()));
        let wanted = history.on_trial().map(|entry| (entry.digest.clone(), entry.trial()));
        let is_new = |(digest, _): &(String, Trial)| self.prepared.get(name, digest).is_some();
        if tried != wanted || wanted.as_ref().is_some_and(is_new) {
            self.registry.end_trial(&deployed);
            if let Some((digest, trial)) = wanted {
                let release = self.ready(name, &digest).await?;
                self.start_trial(name, release, trial).await?;
            }
        }
        self.apply_stops(&deployed, history);
        Ok(())
    }

    /// Applies the stops in a history: of the plugin, and of quarantined sources of calls.
    pub(crate) fn apply_stops(&self, deployed: &DeployedPlugin, history: &History) {
        if deployed.is_moving() != history.moving {
            self.registry.set_moving(deployed, history.moving);
        }
        if deployed.is_disabled() != history.disabled {
            self.registry.set_disabled(deployed, history.disabled);
        }
        let before = deployed.quarantined();
        if before == history.quarantined {
            return;
        }
        let is_in = |one: &Quarantined, all: &[Quarantined]| all.iter().any(|other| other.source == one.source);
        for Quarantined { source, cause, at } in history.quarantined.iter().filter(|one| !is_in(one, &before)) {
            let until = format_args!("until another release or `hubbub enable {}`", deployed.name);
            tracing::error!(release = deployed.label(), %source, "quarantined since {at}, {until}: {cause}");
        }
        for Quarantined { source, .. } in before.iter().filter(|one| !is_in(one, &history.quarantined)) {
            tracing::info!(release = deployed.label(), %source, "no longer quarantined");
        }
        self.registry.set_quarantined(deployed, history.quarantined.clone());
    }

    /// A staged release: prepared, on trial, warm, or staged now from its stored component.
    pub(crate) async fn ready(&self, name: &PluginName, digest: &str) -> Result<Arc<Release>, DeployError> {
        let on_trial = || {
            self.registry.deployed(name)?.canary().map(|canary| canary.release.clone()).filter(|release| release.digest == digest)
        };
        match self.prepared.take(name, digest).or_else(on_trial).or_else(|| self.warm.get(name, digest)) {
            Some(release) => Ok(release),
            None => self.stored(name, digest).await,
        }
    }
}

/// Answers a notice.
async fn reply(cluster: &Cluster, id: &str, answer: String) -> Result<(), fred::error::Error> {
    let key = prepared_key(cluster, id);
    cluster.link.client.hset::<(), _, _>(&key, (cluster.nodes.me.clone(), answer)).await?;
    cluster.link.client.expire::<(), _>(&key, PREPARED.as_secs() as i64, None).await
}

fn text(notice: &Notice) -> String {
    // Cannot fail: a notice has only names and ids.
    serde_json::to_string(notice).unwrap_or_default()
}

fn prepared_key(cluster: &Cluster, id: &str) -> String {
    cluster.link.name(format_args!("prepared:{id}"))
}
