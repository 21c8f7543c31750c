//! Runs a kept call on a release again, in a world in which there is nothing but the call's own answers. Nothing that it does is
//! ever seen, and nothing live is ever asked.

use std::sync::Arc;
use std::time::Duration;

use crate::call::error::CallError;
use crate::call::job::{invoke, tenant};
use crate::call::recorded_call::{Outcome, RecordedCall};
use crate::call::release::Release;
use crate::sandbox::{Instance, metered, within};
use crate::transaction::import_log::{ImportCall, ImportLog};
use crate::transaction::services::Services;
use crate::transaction::state::{Replay, State};

/// A release that kept calls are run on, one at a time.
pub struct Replayer {
    release: Arc<Release>,
    services: Arc<Services>,
    /// Texts of the calls are stand-ins.
    is_hidden: bool,
    /// Kept from call to call, as the pool keeps its own; not after a fault.
    instance: Option<Instance<State>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Replayed {
    pub outcome: Outcome,
    /// Also those that were refused.
    pub effects: Vec<ImportCall>,
    /// Asked, and not in the record.
    pub missing: Vec<ImportCall>,
    /// In the record, and not asked.
    pub unasked: Vec<ImportCall>,
    pub cpu: Duration,
    /// Texts of the record are stand-ins.
    pub is_hidden: bool,
}

impl Replayer {
    /// `services` are of a world apart.
    pub fn new(release: Arc<Release>, services: Arc<Services>) -> Self {
        Self { release, services, is_hidden: false, instance: None }
    }

    /// For calls of a record whose texts are hidden.
    pub fn of_hidden(self, is_hidden: bool) -> Self {
        Self { is_hidden, ..self }
    }

    /// Runs a call.
    pub async fn play(&mut self, call: &RecordedCall) -> Result<Replayed, CallError> {
        let job = call.job.job();
        let tenant = match tenant(&self.release, job) {
            Ok(tenant) => tenant,
            Err(refused) => return Ok(Replayed::ended(Outcome::of(&Ok(Err(refused))))),
        };
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.release.pool.apart(self.services.clone()).await?,
        };
        // An empty store has room: without a look it would count as full.
        self.release.profile.usage.measure_store_once(&*self.services.storage).await;
        let guest = instance.guest();
        guest.begin(job.caller().cloned(), tenant, call.at, job.hops(), Replay::default());
        guest.call.import_log = Some(ImportLog::replaying(&call.imports, self.is_hidden));
        let (answer, cpu) = metered(within(self.services.limits.call_time, invoke(&mut instance, job))).await;
        let import_log = instance.guest().call.import_log.take();
        instance.guest().finish();
        let mut played = Replayed { cpu, is_hidden: self.is_hidden, ..Replayed::ended(Outcome::of(&answer)) };
        if let Some(ImportLog::Replaying(script)) = import_log.map(|import_log| *import_log) {
            played.unasked = script.unasked().cloned().collect();
            (played.effects, played.missing) = (script.effects, script.missing);
        }
        if answer.is_ok() {
            self.instance = Some(instance);
        }
        Ok(played)
    }
}

impl Replayed {
    fn ended(outcome: Outcome) -> Self {
        Self { outcome, effects: Vec::new(), missing: Vec::new(), unasked: Vec::new(), cpu: Duration::ZERO, is_hidden: false }
    }
}
