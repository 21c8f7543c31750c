//! The writer task: gathers waiting commits, writes them as one transaction, and hands them to the applier. If an answer was
//! lost, it checks whether the group was committed before it writes again. Never acknowledges a commit that may have failed.

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
use super::transaction::{self, Done, Inputs, Session, Tag};
use crate::clock::Clock;
use crate::duration::millis;

/// Writers that have been silent for this long are deleted: longer than any check for a lost group.
const SILENT: Duration = Duration::from_secs(24 * 60 * 60);

/// Handled ids after which old ones are deleted.
const SWEEP_AFTER: usize = 512;

pub(super) struct Writer {
    connector: Arc<Connector>,
    outage: Arc<Outage>,
    session: Option<Session>,
    clock: Clock,
    handled_for: Duration,
    letters: usize,
    /// The limit of a group's answer, longer than the server's own limit of each statement.
    limit: Duration,
    counters: Arc<Counters>,
    tag: Tag,
    outbox_done: u64,
    /// Handled ids that were added since the last cleanup.
    handled: usize,
    /// The process number of the server process that writes for this node, for the listener.
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
        let no_randomness = |e: getrandom::Error| OpenError::Unusable { name: connector.name(), reason: e.to_string() };
        getrandom::fill(&mut writer).map_err(no_randomness)?;
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

    /// Runs until it is closed, or all senders are dropped.
    pub(super) async fn run(mut self, mut jobs: Jobs, applier: mpsc::Sender<Vec<Settled>>) {
        while let Some(Gathered { work, waiting, probes, closing }) = jobs.next().await {
            if !work.is_empty() {
                let started = Instant::now();
                let outcomes = self.write(work).await;
                self.counters.synced(started.elapsed());
                let settled = queue::settle(waiting, outcomes, &self.counters);
                // The applier ends only with the runtime, when no caller waits any more.
                if applier.send(settled).await.is_err() {
                    return;
                }
            }
            for waiting in probes {
                waiting.answer(self.probe().await);
            }
            if let Some(closing) = closing {
                drop(self.session.take());
                let _ = applier.send(vec![closing.settled(Ok(true))]).await;
                return;
            }
        }
    }

    /// Writes a group; if the database refuses the data of a job, every job by itself.
    async fn write(&mut self, work: Vec<Work>) -> Result<Vec<(bool, Outcome)>, Unavailable> {
        mark_begun(&work);
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

    /// Runs one transaction, until its outcome is known or the wait for the database is over.
    async fn group(&mut self, work: &[Work]) -> Result<Vec<(bool, Outcome)>, Failed> {
        let idle = |work: &Work| matches!(work, Work::Admin(Admin::OutboxDone(seq)) if *seq <= self.outbox_done);
        if work.iter().all(idle) {
            return Ok(work.iter().map(|_| (false, Ok(false))).collect());
        }
        self.tag.number += 1;
        let inputs = self.inputs();
        let (end, mut pauses, mut unconfirmed) = (self.outage.end(), Pauses::new(), None);
        loop {
            match self.attempt(work, &inputs, &mut unconfirmed).await {
                Ok(done) => return Ok(self.keep(done, &inputs)),
                Err(Failed::Lost(reason)) => {
                    self.session = None;
                    self.outage.missed(&reason);
                    if !pauses.wait(end).await {
                        return Err(Failed::Lost(reason));
                    }
                }
                Err(failed) => {
                    // If the rollback fails, dropping the connection undoes the transaction.
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

    /// Whether a write would succeed. After a failed commit it makes a commit that changes nothing.
    async fn probe(&mut self) -> Result<(), Unavailable> {
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

    async fn attempt(&mut self, work: &[Work], inputs: &Inputs, unconfirmed: &mut Option<Done>) -> Result<Done, Failed> {
        if self.session.is_none() {
            self.session = Some(self.connect().await?);
        }
        let Some(session) = &self.session else { return Err(Failed::Lost("no connection".to_owned())) };
        let done = tokio::time::timeout(self.limit, transaction::run(session, work, inputs, unconfirmed)).await;
        done.unwrap_or_else(|_| Err(Failed::Lost("an answer did not come in time".to_owned())))
    }

    async fn connect(&self) -> Result<Session, Failed> {
        // Credentials that worked at the start will work again, so a refusal is temporary.
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

    fn inputs(&self) -> Inputs {
        let now_ms = self.clock.now_ms();
        let (stamp_ms, forget_ms) = (self.clock.stamp_ms(), self.clock.before_ms(millis(self.handled_for)));
        let forget = (self.handled >= SWEEP_AFTER).then_some((forget_ms, self.handled));
        Inputs { tag: self.tag, now_ms, stamp_ms, forget, letters: self.letters, outbox_done: self.outbox_done }
    }

    fn keep(&mut self, done: Done, inputs: &Inputs) -> Vec<(bool, Outcome)> {
        self.outbox_done = done.outbox_done;
        self.handled = done.handled + if inputs.forget.is_some() { 0 } else { self.handled };
        count(&self.counters.dead_letters_dropped, done.letters_dropped);
        count(&self.counters.first_replies_dropped, done.replies_dropped);
        done.outcomes
    }
}

/// Sets the time at which the sets of a group begin to be written.
fn mark_begun(work: &[Work]) {
    let started = Instant::now();
    for todo in work {
        if let Work::Set(WriteSet { begun: Some(begun), .. }) = todo {
            // Fails only if it is set, and a set is written once.
            let _ = begun.set(started);
        }
    }
}
