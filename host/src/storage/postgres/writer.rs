//! The task that writes: gathers what has arrived, has it written as one transaction, hands it on. A group whose answer was lost is
//! looked for before it is written again. Never acknowledges what it does not know to be committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::applier::Settled;
use super::super::queue::{self, Admin, Gathered, Jobs, Outcome, Work};
use super::super::stats::{Counters, count};
use super::super::{Config, Unavailable, WriteSet};
use super::OpenError;
use super::connection::{Connector, Failed, Pauses};
use super::outage::Outage;
use super::rows::{FORGET_WRITERS, Writes, signed};
use super::transaction::{self, Done, Session, Tag, Terms};
use crate::clock::Clock;
use crate::duration::millis;

/// A writer that has been silent for so long is forgotten: longer than anyone looks for a group of it.
const SILENT: Duration = Duration::from_secs(24 * 60 * 60);

/// Handled ids after which old ones are looked for.
const SWEEP_AFTER: usize = 512;

pub(super) struct Writer {
    connector: Arc<Connector>,
    outage: Arc<Outage>,
    session: Option<Session>,
    clock: Clock,
    handled_for: Duration,
    letters: usize,
    /// A group may take this long to be answered, over the server's own limit of each statement.
    limit: Duration,
    counters: Arc<Counters>,
    tag: Tag,
    outbox_done: u64,
    /// Handled ids that were added since old ones were looked for.
    handled: usize,
    /// The number of the server's process that writes for this node, for who listens.
    own: Arc<AtomicI32>,
}

impl Writer {
    pub(super) fn new(
        connector: Arc<Connector>,
        outage: Arc<Outage>,
        clock: Clock,
        config: &Config,
        counters: Arc<Counters>,
        own: Arc<AtomicI32>,
    ) -> Result<Self, OpenError> {
        let mut writer = [0; 16];
        let blind = |e: getrandom::Error| OpenError::Unusable { name: connector.name(), reason: e.to_string() };
        getrandom::fill(&mut writer).map_err(blind)?;
        Ok(Self {
            connector,
            outage,
            session: None,
            clock,
            handled_for: config.handled_for,
            letters: config.dead_letters.max(1),
            limit: config.statement_timeout * 2,
            counters,
            tag: Tag { writer, number: 0 },
            outbox_done: 0,
            handled: 0,
            own,
        })
    }

    /// Runs until it is closed, or nobody is left who could ask.
    pub(super) async fn run(mut self, mut jobs: Jobs, applier: mpsc::Sender<Vec<Settled>>) {
        while let Some(Gathered { work, waiting, trials, closing }) = jobs.next().await {
            if !work.is_empty() {
                let started = Instant::now();
                let outcomes = self.write(work).await;
                self.counters.synced(started.elapsed());
                let settled = queue::settle(waiting, outcomes, &self.counters);
                // The task ends only with the runtime, and then nobody waits any more.
                if applier.send(settled).await.is_err() {
                    return;
                }
            }
            for waiting in trials {
                waiting.answer(self.trial().await);
            }
            if let Some(closing) = closing {
                drop(self.session.take());
                let _ = applier.send(vec![closing.settled(Ok(true))]).await;
                return;
            }
        }
    }

    /// A group; or, where the database cannot take a piece of it, every piece by itself.
    async fn write(&mut self, work: Vec<Work>) -> Result<Vec<(bool, Outcome)>, Unavailable> {
        tell_begun(&work);
        match self.group(&work).await {
            Ok(outcomes) => Ok(outcomes),
            Err(Failed::Data(_)) if work.len() > 1 => {
                let mut outcomes = Vec::with_capacity(work.len());
                for one in work {
                    let is_set = matches!(one, Work::Set(_));
                    let refused = |failed: Failed| vec![(is_set, Err(Unavailable::new(failed.reason()).into()))];
                    outcomes.extend(self.group(&[one]).await.unwrap_or_else(refused));
                }
                Ok(outcomes)
            }
            Err(failed) => Err(Unavailable::new(failed.reason())),
        }
    }

    /// One transaction, tried until it is known what came of it, or the wait for the database is over.
    async fn group(&mut self, work: &[Work]) -> Result<Vec<(bool, Outcome)>, Failed> {
        let idle = |work: &Work| matches!(work, Work::Admin(Admin::OutboxDone(seq)) if *seq <= self.outbox_done);
        if work.iter().all(idle) {
            return Ok(work.iter().map(|_| (false, Ok(false))).collect());
        }
        self.tag.number += 1;
        let terms = self.terms();
        let (end, mut pauses, mut maybe) = (self.outage.end(), Pauses::new(), None);
        loop {
            match self.attempt(work, &terms, &mut maybe).await {
                Ok(done) => return Ok(self.keep(done, &terms)),
                Err(Failed::Lost(reason)) => {
                    self.session = None;
                    self.outage.missed(&reason);
                    if !pauses.wait(end).await {
                        return Err(Failed::Lost(reason));
                    }
                }
                Err(failed) => {
                    // What cannot be undone on this connection is undone with it.
                    if let Some(session) = &self.session
                        && session.connection.client.batch_execute("ROLLBACK").await.is_err()
                    {
                        self.session = None;
                    }
                    return Err(failed);
                }
            }
        }
    }

    /// Whether a write would succeed. After a failed commit it makes one that changes nothing.
    async fn trial(&mut self) -> Result<(), Unavailable> {
        let tried = tokio::time::timeout(self.limit, self.try_writing()).await;
        let tried = tried.unwrap_or_else(|_| Err(Failed::Lost("an answer did not come in time".to_owned())));
        tried.map_err(|failed| {
            if matches!(failed, Failed::Lost(_)) {
                self.session = None;
            }
            Unavailable::new(failed.reason())
        })
    }

    async fn try_writing(&mut self) -> Result<(), Failed> {
        if self.session.is_none() {
            self.session = Some(self.connect().await?);
        }
        let Some(session) = &self.session else { return Err(Failed::Lost("no connection".to_owned())) };
        let client = &session.connection.client;
        let row = client.query_one("SELECT current_setting('transaction_read_only') = 'on'", &[]).await?;
        if row.try_get(0)? {
            return Err(Failed::Refused("the database takes no writes: transaction_read_only is on".to_owned()));
        }
        if self.counters.writing.is_failing() {
            client.batch_execute("UPDATE hubbub_host SET value = value WHERE name = 'sequence'").await?;
        }
        Ok(())
    }

    async fn attempt(&mut self, work: &[Work], terms: &Terms, maybe: &mut Option<Done>) -> Result<Done, Failed> {
        if self.session.is_none() {
            self.session = Some(self.connect().await?);
        }
        let Some(session) = &self.session else { return Err(Failed::Lost("no connection".to_owned())) };
        let done = tokio::time::timeout(self.limit, transaction::run(session, work, terms, maybe)).await;
        done.unwrap_or_else(|_| Err(Failed::Lost("an answer did not come in time".to_owned())))
    }

    async fn connect(&self) -> Result<Session, Failed> {
        // Who was let in before is let in again, once the one at the door knows us.
        let connected = self.connector.connect(Box::new(|_| {})).await;
        let connection = connected.map_err(|failed| Failed::Lost(failed.reason()))?;
        let client = &connection.client;
        let writes = Writes::prepare(client).await?;
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
        self.own.store(row.try_get(0)?, Ordering::Relaxed);
        let silent = self.clock.before_ms(millis(SILENT));
        client.execute(FORGET_WRITERS, &[&signed(silent)]).await?;
        self.outage.over();
        Ok(Session { connection, writes })
    }

    fn terms(&self) -> Terms {
        let now_ms = self.clock.now_ms();
        let (stamp_ms, forget_ms) = (self.clock.stamp_ms(), self.clock.before_ms(millis(self.handled_for)));
        let forget = (self.handled >= SWEEP_AFTER).then_some((forget_ms, self.handled));
        Terms { tag: self.tag, now_ms, stamp_ms, forget, letters: self.letters, outbox_done: self.outbox_done }
    }

    fn keep(&mut self, done: Done, terms: &Terms) -> Vec<(bool, Outcome)> {
        self.outbox_done = done.outbox_done;
        self.handled = done.handled + if terms.forget.is_some() { 0 } else { self.handled };
        count(&self.counters.dead_letters_dropped, done.letters_dropped);
        done.outcomes
    }
}

/// Tells the sets of a group that it begins to be written.
fn tell_begun(work: &[Work]) {
    let started = Instant::now();
    for todo in work {
        if let Work::Set(WriteSet { begun: Some(begun), .. }) = todo {
            // Told once: a set is written once.
            let _ = begun.set(started);
        }
    }
}
