//! Delivery of bus messages to plugins: exactly once, and in order for each key. Every plugin reads the outbox at its own pace,
//! so a plugin that is down does not delay the others.

mod backpressure;
pub mod egress;
mod follower;
pub mod ingest;
mod lane;
pub mod notices;
mod progress;
mod reader;
mod unheard;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::call::canary::Canary;
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::error::CallError;
use crate::call::key::Key;
use crate::call::registry::Registry;
use crate::call::run::{call, call_together};
use crate::names::PluginName;
use crate::storage::{CommitError, DeadLetter, OutboxMessage, OutboxRow, WriteSet};
use crate::telemetry::traces::{Kind, Span};
use crate::transaction::services::Services;
use lane::Lane;
use progress::Progress;
use reader::Reader;
use unheard::Unheard;
use work::{Try, Work, message_of, traced_by};

pub use backpressure::Backpressure;
pub use follower::Follower;

/// `[bus]`: delivery of messages to plugins.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Messages of one plugin that are handled at the same time. Messages with the same key are always handled one after the
    /// other.
    pub lanes: usize,
    /// Messages that wait in memory for a lane. Past it messages wait in storage, and notices of presence and rooms are dropped.
    /// Metric: `bus_notices_dropped`.
    pub lane_queue: usize,
    /// Messages of one lane that share a commit, if that many wait.
    pub together: usize,
    /// Messages that are read from the outbox at a time.
    pub read: usize,
    /// Failures and faults of one message, at least 1. Past it the message is a dead letter. A message whose data does not fit
    /// its handler's type is a dead letter at once. Metric: `bus_dead_letters`.
    pub max_failures: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { lanes: 16, lane_queue: 64, together: 16, read: 256, max_failures: 5 }
    }
}

/// The first and the longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The bus of this node.
pub struct Bus {
    config: Config,
    services: Arc<Services>,
    registry: Arc<Registry>,
    readers: Mutex<HashMap<PluginName, Arc<Reader>>>,
    /// Other readers of the outbox. Their rows are kept as well.
    followers: Mutex<Vec<Arc<Follower>>>,
    unheard: Unheard,
}

impl Bus {
    pub fn new(config: Config, services: Arc<Services>, registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self {
            config,
            services,
            registry,
            readers: Mutex::default(),
            followers: Mutex::default(),
            unheard: Unheard::default(),
        })
    }

    /// Publishes messages from outside any call. On return all of them are stored, or none. `writer` is not the name of a plugin.
    pub async fn publish(&self, writer: &PluginName, messages: Vec<OutboxMessage>) -> Result<(), CommitError> {
        let unheard = self.unheard_among(&messages);
        let set = WriteSet { messages, ..WriteSet::new(writer.clone()) };
        self.services.storage.commit(set, Box::pin(async {})).await?;
        unheard.iter().for_each(|unheard| self.note(unheard));
        self.services.published.notify_one();
        Ok(())
    }

    /// Runs until it is dropped: starts a reader for every plugin, wakes the readers, and removes rows that all have handled.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let mut changes = self.registry.changes();
        loop {
            self.start_readers(&mut tasks);
            for reader in self.readers() {
                reader.wake.notify_one();
            }
            self.wake_followers();
            tokio::select! {
                () = self.services.published.notified() => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            self.remove_done().await;
        }
    }

    /// Delivers a notice of the host to one plugin. Waits briefly where its lane is full, but never for a plugin that is not
    /// called at all, because the same task delivers the notices of all others. Notices are not stored: they are lost if the node
    /// fails.
    pub async fn notice(&self, plugin: &PluginName, topic: &str, tenant: Option<String>, key: String, data: String) {
        let now = self.services.clock.now_ms();
        let id = self.services.ids.next(now);
        let message =
            OutboxMessage { id, topic: topic.to_owned(), key: Some(key), tenant, data, hops: 0, at_ms: now, trace: None };
        let reader = self.readers.lock().get(plugin).cloned();
        if let Some(reader) = reader
            && !reader.send_notice(Work { message, seq: None }).await
        {
            self.services.metrics.notices_dropped.get_or_create(&plugin.into()).inc();
        }
    }

    fn readers(&self) -> Vec<Arc<Reader>> {
        self.readers.lock().values().cloned().collect()
    }

    fn start_readers(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let mut readers = self.readers.lock();
        for deployed in self.registry.deployed_plugins() {
            if readers.contains_key(&deployed.name) {
                continue;
            }
            let (reader, receivers) = Reader::new(deployed.clone(), self.config.lanes, self.config.lane_queue);
            let reader = Arc::new(reader);
            for receiver in receivers {
                tasks.spawn(self.clone().work(reader.clone(), receiver));
            }
            tasks.spawn(self.clone().read(reader.clone()));
            readers.insert(deployed.name.clone(), reader);
        }
    }

    /// Whether this node handles a plugin's messages. While the set of nodes changes, two nodes may: a message that was handled
    /// is not handled again.
    fn is_mine(&self, deployed: &DeployedPlugin) -> bool {
        self.services.cluster.as_ref().is_none_or(|cluster| cluster.nodes.is_mine(deployed.name.as_str()))
    }

    /// Reads the outbox for one plugin, as fast as its lanes take it.
    async fn read(self: Arc<Self>, reader: Arc<Reader>) {
        loop {
            reader.restart_if_needed();
            if !self.is_mine(&reader.deployed) {
                // The previous node may not have handled everything: start with the oldest row.
                *reader.progress() = Progress::default();
                reader.wake.notified().await;
                continue;
            }
            let after = reader.progress().read;
            let rows = match self.services.storage.outbox_after(after, self.config.read.max(1)).await {
                Ok(rows) => rows,
                Err(_) => {
                    tokio::time::sleep(RETRY.1).await;
                    continue;
                }
            };
            if rows.is_empty() {
                reader.wake.notified().await;
                continue;
            }
            for OutboxRow { seq, mut message } in rows {
                // Without a release the wanted topics are unknown: the row waits.
                let release = loop {
                    match reader.deployed.live() {
                        Some(release) => break release,
                        None => reader.wake.notified().await,
                    }
                };
                if reader.must_restart() {
                    break;
                }
                let wanted = match message.address() {
                    (Some(to), _) => to == reader.deployed.name.as_str(),
                    (None, topic) => release.manifest.topics.iter().any(|wanted| wanted == topic),
                };
                reader.progress().begin(seq, wanted);
                if wanted {
                    message.topic = message.address().1.to_owned();
                    reader.send(Work { message, seq: Some(seq) }).await;
                }
            }
            self.services.published.notify_one();
        }
    }

    /// Handles the messages of one lane in order: in batches, and one by one where a batch fails.
    async fn work(self: Arc<Self>, reader: Arc<Reader>, receiver: mpsc::Receiver<Work>) {
        let mut lane = Lane::new(receiver);
        while let Some(together) = lane.next(self.config.together.max(1)).await {
            if together.len() > 1 && self.attempt_together(&reader.deployed, &together).await.is_ok() {
                together.iter().for_each(|work| self.done(&reader, work));
                continue;
            }
            let singly = together.len();
            lane.put_back(together);
            for _ in 0..singly {
                let Some(work) = lane.try_next() else { break };
                self.handle(&reader.deployed, &work).await;
                self.done(&reader, &work);
            }
        }
    }

    async fn attempt_together(&self, deployed: &DeployedPlugin, works: &[Work]) -> Result<(), CallError> {
        let Some(release) = deployed.live() else { return Err(CallError::Unavailable("no release is live")) };
        if !works.iter().all(|work| work.is_for(&release)) {
            return Err(CallError::Unavailable("not all are for the release"));
        }
        let messages: Vec<_> = works.iter().map(|work| message_of(work, &release.profile)).collect();
        let spans: Vec<_> = works.iter().map(|work| self.continue_trace(work)).collect();
        let jobs: Vec<_> = works.iter().zip(&messages).map(|(work, message)| work.job(message, Try::default())).collect();
        let done = call_together(&self.services, deployed, &jobs, &spans).await;
        if done.is_err() {
            // Each is then handled by itself, in its own span.
            spans.iter().flatten().for_each(|span| span.outcome("taken_apart", false));
        }
        done
    }

    fn done(&self, reader: &Reader, work: &Work) {
        if let Some(seq) = work.seq {
            reader.progress().end(seq);
            self.services.published.notify_one();
        }
    }

    /// Handles a message, or makes it a dead letter. While the plugin is not called, the message and those behind it in its lane
    /// wait.
    async fn handle(&self, deployed: &DeployedPlugin, work: &Work) {
        let (mut failures, mut wait) = (0, RETRY.0);
        loop {
            // A new release may succeed at once.
            let mut changes = self.registry.changes();
            let Err(mut error) = self.attempt(deployed, work, Try { again: failures > 0, active: false }).await else { return };
            failures += u32::from(!error.is_temporary());
            if error.is_permanent() || failures >= self.config.max_failures.max(1) {
                if let Some(canary) = deployed.canary_for(Key::Text(work.key())) {
                    match self.fall_back(&canary, deployed, work, error).await {
                        Ok(()) => return,
                        Err(other) => error = other,
                    }
                }
                if !error.is_temporary() {
                    return self.to_dead_letters(deployed, work, &error, failures).await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = changes.changed() => {}
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Gives a message that a canary could not handle to the active release, so that a trial loses no message. If the active
    /// release accepts the data, the data was valid, and the canary's refusal counts against the canary.
    async fn fall_back(
        &self,
        canary: &Canary,
        deployed: &DeployedPlugin,
        work: &Work,
        error: CallError,
    ) -> Result<(), CallError> {
        self.attempt(deployed, work, Try { again: false, active: true }).await?;
        if matches!(error, CallError::InvalidData(_)) {
            canary.release.counters.failed(None);
        }
        Ok(())
    }

    async fn attempt(&self, deployed: &DeployedPlugin, work: &Work, this: Try) -> Result<(), CallError> {
        let Some(release) = deployed.live() else { return Err(CallError::Unavailable("no release is live")) };
        // The row was read for a release that subscribed to the topic. A plugin that subscribes to it now reads it as well.
        if !work.is_for(&release) {
            return Ok(());
        }
        let message = message_of(work, &release.profile);
        let span = self.continue_trace(work);
        match call(&self.services, deployed, work.job(&message, this), span.as_ref()).await {
            Ok(_) | Err(CallError::AlreadyHandled) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Continues the trace of the publisher, if there is one.
    fn continue_trace(&self, work: &Work) -> Option<Span> {
        let span = self.services.tracer.follow(traced_by(work)?, Kind::Consumer, "bus message")?;
        span.text("hubbub.topic", &work.message.topic);
        span.number("hubbub.hops", work.message.hops.into());
        Some(span)
    }

    /// Stores a message that cannot be handled for the operator.
    async fn to_dead_letters(&self, deployed: &DeployedPlugin, work: &Work, error: &CallError, failures: u32) {
        tracing::error!(
            release = deployed.label(),
            topic = %work.message.topic,
            id = %work.message.id,
            trace_id = traced_by(work).map(|parent| tracing::field::display(parent.trace_id())),
            "a dead letter: {error}"
        );
        let reason = if failures > 1 { format!("{error} (failed {failures} times)") } else { error.to_string() };
        let letter = DeadLetter { plugin: deployed.name.clone(), message: work.message.clone(), error: reason };
        while self.services.storage.dead_letter(letter.clone()).await.is_err() {
            tokio::time::sleep(RETRY.1).await;
        }
        self.services.metrics.bus_dead.inc();
    }

    /// Removes the rows that every plugin has handled.
    async fn remove_done(&self) {
        let mut readers = self.readers();
        self.services.metrics.bus_queued.set(readers.iter().map(|reader| reader.progress().open.len() as i64).sum());
        if self.is_changing(&readers) {
            return;
        }
        // A plugin without a release needs no rows.
        readers.retain(|reader| reader.deployed.is_deployed());
        let followers = self.followers();
        let done = match &self.services.cluster {
            None => {
                let followed = followers.iter().map(|follower| follower.done());
                readers.iter().map(|reader| reader.done()).chain(followed).min()
            }
            Some(cluster) => {
                let mine = readers.iter().filter(|reader| self.is_mine(&reader.deployed));
                let mine = mine.map(|reader| (reader.deployed.name.to_string(), reader.done()));
                let followed = followers.iter().filter(|follower| follower.is_at_work());
                let mine = mine.chain(followed.map(|follower| (follower.name.to_string(), follower.done()))).collect();
                let all = readers.iter().map(|reader| reader.deployed.name.to_string());
                let all: Vec<_> = all.chain(followers.iter().map(|follower| follower.name.to_string())).collect();
                cluster.progress.share(mine, &all).await.ok().flatten()
            }
        };
        let Some(done) = done else { return };
        // If storage does not answer, the rows stay and are removed the next time.
        let _ = self.services.storage.outbox_done(done).await;
    }

    /// Whether plugins are changing, so that the needed rows are not certain: a plugin has no reader yet, or its data is moving
    /// to another plugin that this node may not have loaded yet.
    fn is_changing(&self, readers: &[Arc<Reader>]) -> bool {
        let deployed_plugins = self.registry.deployed_plugins();
        let is_read = |deployed: &DeployedPlugin| readers.iter().any(|reader| reader.deployed.name == deployed.name);
        deployed_plugins
            .iter()
            .filter(|deployed| deployed.is_deployed())
            .any(|deployed| deployed.is_moving() || !is_read(deployed))
    }
}
