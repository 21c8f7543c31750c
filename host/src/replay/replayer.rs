//! Runs a recorded call again on a release, isolated, with the recorded answers. Its effects are never applied, and no live state
//! is read.

use std::pin::pin;
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

/// A release on which recorded calls run, one at a time.
pub struct Replayer {
    release: Arc<Release>,
    services: Arc<Services>,
    /// Whether texts of the calls are stand-ins.
    is_hidden: bool,
    /// Reused from call to call, as in the pool, except after a fault.
    instance: Option<Instance<State>>,
}

/// The result of a replayed call.
#[derive(Debug)]
pub struct Replayed {
    pub outcome: Outcome,
    /// Includes refused effects.
    pub effects: Vec<ImportCall>,
    /// Called, and not in the recording.
    pub missing: Vec<ImportCall>,
    /// In the recording, and not called.
    pub unasked: Vec<ImportCall>,
    pub cpu: Duration,
    /// Whether texts of the recording are stand-ins.
    pub is_hidden: bool,
}

impl Replayer {
    /// `services` are isolated from the live ones.
    pub fn new(release: Arc<Release>, services: Arc<Services>) -> Self {
        Self { release, services, is_hidden: false, instance: None }
    }

    /// For calls of a recording with hidden texts.
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
        // An unmeasured store counts as full, even if it is empty.
        self.release.profile.usage.measure_store_once(&*self.services.storage).await;
        let guest = instance.guest();
        guest.begin(job.caller().cloned(), tenant, call.at, job.hops(), Replay::default());
        guest.call.import_log = Some(ImportLog::replaying(&call.imports, self.is_hidden));
        let (answer, cpu) = {
            let invoked = pin!(invoke(&mut instance, job));
            metered(pin!(within(self.services.limits.call_time, invoked))).await
        };
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
