//! Runs a kept call on a release again, in a world in which there is nothing but the call's own answers. Nothing that it does is
//! ever seen, and nothing live is ever asked.

use std::sync::Arc;
use std::time::Duration;

use crate::call::error::CallError;
use crate::call::job::{invoke, tenant};
use crate::call::recorded_call::{KeptCall, Outcome};
use crate::call::release::Release;
use crate::sandbox::{Instance, metered, within};
use crate::transaction::import_log::{Asked, Tape};
use crate::transaction::state::{Replay, Services, State};

/// A release that kept calls are run on, one at a time.
pub struct Stand {
    release: Arc<Release>,
    services: Arc<Services>,
    /// Texts of the calls are stand-ins.
    is_hidden: bool,
    /// Kept from call to call, as the pool keeps its own; not after a fault.
    instance: Option<Instance<State>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    pub outcome: Outcome,
    /// Also those that were refused.
    pub effects: Vec<Asked>,
    /// Asked, and not in the record.
    pub missing: Vec<Asked>,
    /// In the record, and not asked.
    pub unasked: Vec<Asked>,
    pub cpu: Duration,
    /// Texts of the record are stand-ins.
    pub is_hidden: bool,
}

impl Stand {
    /// `services` are of a world apart.
    pub fn new(release: Arc<Release>, services: Arc<Services>) -> Self {
        Self { release, services, is_hidden: false, instance: None }
    }

    /// For calls of a record whose texts are hidden.
    pub fn of_hidden(self, is_hidden: bool) -> Self {
        Self { is_hidden, ..self }
    }

    /// Runs a call.
    pub async fn play(&mut self, call: &KeptCall) -> Result<Played, CallError> {
        let job = call.job.job();
        let tenant = match tenant(&self.release, job) {
            Ok(tenant) => tenant,
            Err(refused) => return Ok(Played::ended(Outcome::of(&Ok(Err(refused))))),
        };
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.release.pool.apart(self.services.clone()).await?,
        };
        // An empty store has room: without a look it would count as full.
        self.release.profile.usage.first_look(&*self.services.storage).await;
        let guest = instance.guest();
        guest.begin(job.caller().cloned(), tenant, call.at, job.hops(), Replay::default());
        guest.call.tape = Some(Tape::replaying(&call.imports, self.is_hidden));
        let (answer, cpu) = metered(within(self.services.limits.call_time, invoke(&mut instance, job))).await;
        let tape = instance.guest().call.tape.take();
        instance.guest().finish();
        let mut played = Played { cpu, is_hidden: self.is_hidden, ..Played::ended(Outcome::of(&answer)) };
        if let Some(Tape::Replaying(script)) = tape.map(|tape| *tape) {
            played.unasked = script.unasked().cloned().collect();
            (played.effects, played.missing) = (script.effects, script.missing);
        }
        if answer.is_ok() {
            self.instance = Some(instance);
        }
        Ok(played)
    }
}

impl Played {
    fn ended(outcome: Outcome) -> Self {
        Self { outcome, effects: Vec::new(), missing: Vec::new(), unasked: Vec::new(), cpu: Duration::ZERO, is_hidden: false }
    }
}
