//! The host's state for one instance: its current call, and that call's reads and effects.

use std::sync::Arc;
use std::time::Duration;

use super::effects::Effects;
use super::import_log::ImportLog;
use super::profile::{Profile, Tenancy};
use super::services::Services;
use crate::budgets::buckets::Taken;
use crate::names;
use crate::sandbox::exports::Caller;
use crate::sandbox::imports::types::{EffectError, User};
use crate::sandbox::{Guest, Limit, Limiter};
use crate::storage::{Fingerprint, Write};
use crate::telemetry::traces::TraceParent;

/// Milliseconds of CPU that `describe` and `init` may use.
const BARE_CPU_MS: u32 = 1000;

/// The most hops of a message over the bus.
pub const MAX_HOPS: u8 = 8;

/// The state of an instance.
pub struct State {
    pub services: Arc<Services>,
    pub profile: Arc<Profile>,
    pub call: Call,
    limiter: Limiter,
}

/// A durable timer as it was read when it became due.
#[derive(Debug, Clone)]
pub struct StoredTimer {
    pub key: String,
    pub read: Fingerprint,
}

/// One call.
#[derive(Default)]
pub struct Call {
    pub caller: Option<Arc<Caller>>,
    pub tenant: Option<Arc<str>>,
    /// Constant within a call.
    pub now_ms: u64,
    /// The hops of the message that is handled.
    pub hops: u8,
    /// The call's trace, which its messages and log lines carry.
    pub trace: Option<TraceParent>,
    /// `describe` and `init` have no transaction.
    pub bare: bool,
    pub effects: Effects,
    pub replay: Replay,
    /// Records the imports of this call, or replays their answers. Usually none.
    pub import_log: Option<Box<ImportLog>>,
    /// Storage did not answer an import, which may be the cause of the call's outcome.
    pub storage_away: bool,
    /// A limit of the whole plugin refused an import. The client receives this sentence, whatever the plugin returns.
    pub over: Option<&'static str>,
    imports: u32,
}

/// Answers that took effect at once, given again if the call runs again.
#[derive(Default)]
pub struct Replay {
    pub random: Vec<Vec<u8>>,
    pub budgets: Vec<Taken>,
    pub next_random: usize,
    pub next_budget: usize,
    /// The user's share is taken already.
    pub shared: bool,
}

impl Replay {
    /// Starts again at the first answers.
    pub fn rewind(&mut self) {
        (self.next_random, self.next_budget) = (0, 0);
    }
}

impl Call {
    /// The caller's user, within the tenant.
    pub fn user(&self) -> Option<String> {
        self.caller.as_ref()?.user.as_ref().map(name_of)
    }
}

impl State {
    pub fn new(services: Arc<Services>, profile: Arc<Profile>, memory: usize) -> Self {
        Self { services, profile, call: Call { bare: true, ..Call::default() }, limiter: Limiter::new(memory) }
    }

    /// Begins a call. The memory of `effects` is reused from call to call.
    pub fn begin(&mut self, caller: Option<Arc<Caller>>, tenant: Option<Arc<str>>, now_ms: u64, hops: u8, replay: Replay) {
        let mut effects = std::mem::take(&mut self.call.effects);
        effects.clear();
        self.call = Call { caller, tenant, now_ms, hops, effects, replay, ..Call::default() };
    }

    /// Continues with the next call of a transaction with several calls: it reads the writes of the calls before it, and has its
    /// own limits.
    pub fn continue_with(&mut self, tenant: Option<Arc<str>>, now_ms: u64, hops: u8) {
        let mut effects = std::mem::take(&mut self.call.effects);
        effects.reset_charges();
        self.call = Call { tenant, now_ms, hops, effects, ..Call::default() };
    }

    /// Makes the call delete its stored timer at the commit, unless the timer was changed meanwhile.
    pub fn settle(&mut self, stored: &StoredTimer) {
        self.call.effects.reads.push((stored.key.clone(), Some(stored.read)));
        self.call.effects.writes.push(Write::Delete { key: stored.key.clone() });
    }

    /// Ends a call. Returns its effects, and its answers for another run.
    pub fn finish(&mut self) -> (Effects, Replay) {
        let effects = std::mem::take(&mut self.call.effects);
        let mut replay = std::mem::take(&mut self.call.replay);
        replay.rewind();
        self.call.caller = None;
        (effects, replay)
    }

    pub fn memory_used(&mut self) -> usize {
        self.limiter.used
    }

    /// Counts an import, or ends the call.
    pub fn import(&mut self) -> Result<(), Limit> {
        self.call.imports += 1;
        if self.call.imports > self.services.limits.imports { Err(Limit::Imports) } else { Ok(()) }
    }

    /// Counts an import that collects an effect of `bytes` bytes, or ends the call.
    pub fn effect(&mut self, bytes: usize) -> Result<Result<(), EffectError>, Limit> {
        self.import()?;
        if self.call.bare {
            return Ok(Err(EffectError::Denied("describe and init have no transaction".into())));
        }
        let limits = &self.services.limits;
        let most = limits.effects.min(self.profile.usage.quota.effects);
        self.call.effects.charge(bytes, most, limits.effect_bytes)?;
        Ok(Ok(()))
    }

    pub fn caller(&self) -> Result<&Arc<Caller>, EffectError> {
        self.call.caller.as_ref().ok_or(EffectError::NoCaller)
    }

    /// The tenant of this call. It scopes users, budgets and timers under every tenancy: a user `u1` of one tenant is not the
    /// user `u1` of another.
    pub fn tenant(&self) -> Result<Option<&str>, EffectError> {
        match (self.profile.tenancy, &self.call.tenant) {
            (Tenancy::Required, None) => Err(EffectError::Denied("the call has no tenant".into())),
            (_, tenant) => Ok(tenant.as_deref()),
        }
    }

    /// The tenant that scopes this call's rooms and presence groups, if the plugin's are scoped.
    pub fn scope(&self) -> Result<Option<&str>, EffectError> {
        Ok(self.tenant()?.filter(|_| self.profile.tenancy != Tenancy::None))
    }

    /// The host's name for a room.
    pub fn room(&self, room: &str) -> Result<String, EffectError> {
        names::check("room", room).map_err(invalid_name)?;
        Ok(names::scoped(self.scope()?, room))
    }

    /// The host's name for a user.
    pub fn user(&self, user: &str) -> Result<String, EffectError> {
        names::check("user", user).map_err(invalid_name)?;
        Ok(names::scoped(self.tenant()?, user))
    }

    /// A namespace that the plugin takes part in.
    pub fn namespace(&self, path: &str) -> Result<Arc<str>, EffectError> {
        if !self.profile.namespaces.iter().any(|pattern| pattern.matches(path)) {
            return Err(EffectError::Denied(format!("the plugin takes no part in the namespace {path:.100}")));
        }
        Ok(path.into())
    }
}

impl Guest for State {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }

    fn may_use(&mut self, cpu: Duration) -> bool {
        cpu <= Duration::from_millis(if self.call.bare { BARE_CPU_MS } else { self.services.limits.cpu_ms }.into())
    }
}

/// The host's name for a user: within its tenant.
pub fn name_of(user: &User) -> String {
    names::scoped(user.tenant.as_deref(), &user.id)
}

/// The answer of an import with an invalid name.
pub fn invalid_name(error: names::InvalidName) -> EffectError {
    EffectError::InvalidName(error.to_string())
}
