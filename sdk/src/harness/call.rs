//! One call into the plugin: its effects so far, and its limits. Nothing changes the world before the commit, except budgets, which act
//! at once.

use std::{cell::RefCell, rc::Rc};

use serde_json::Value;

use super::{World, fail};
use crate::{
    EffectError,
    bindings::hubbub::plugin::{emitter::Delivery, presence::Status, timers::Durability, types::User},
};

/// The host's limits of one call.
const MAX_EFFECTS: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;
const MAX_IMPORTS: usize = 10_000;

/// A name within its tenant. A room or a presence group has no tenant if the plugin's tenancy is `none`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scoped {
    pub(crate) tenant: Option<String>,
    pub(crate) name: String,
}

/// An effect, which happens when the call succeeds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Put { key: String, value: Vec<u8> },
    Append { prefix: String, value: Vec<u8> },
    Delete { key: String },
    Add { key: String, delta: i64 },
    Join { socket: u64, room: Scoped },
    Leave { socket: u64, room: Scoped },
    JoinUser { namespace: String, user: Scoped, room: Scoped },
    LeaveUser { namespace: String, user: Scoped, room: Scoped },
    Emit { to: To, event: String, args: Vec<Value> },
    Publish { topic: String, data: Value },
    Track { group: Scoped, key: String, status: Status, meta: Value },
    Heartbeat,
    Untrack { group: Scoped, key: String },
    After { key: Scoped, delay_ms: u64, payload: Value, kind: Durability },
    Cancel { key: Scoped },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum To {
    Caller,
    Rooms { namespace: String, rooms: Vec<Scoped>, except: Vec<Scoped>, how: Delivery },
    Users { namespace: String, users: Vec<Scoped>, how: Delivery },
    Tenant { namespace: String, tenant: String, how: Delivery },
    Namespace { namespace: String, how: Delivery },
}

impl Effect {
    /// Whether it is a write to the store. Writes happen before all other effects.
    pub(crate) fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Append { .. } | Self::Delete { .. } | Self::Add { .. })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } | Self::Append { prefix: key, value } => key.len() + value.len(),
            Self::Emit { args, .. } => args.iter().map(|arg| arg.to_string().len()).sum(),
            Self::Publish { data, .. } => data.to_string().len(),
            Self::Track { meta, .. } => meta.to_string().len(),
            Self::After { payload, .. } => payload.to_string().len(),
            _ => 64,
        }
    }
}

/// An answer that a second run gets again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Budget(crate::bindings::hubbub::plugin::budget::Answer),
    Random(Vec<u8>),
}

/// The client that a call is about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) socket: u64,
    pub(crate) namespace: String,
    pub(crate) user: Option<User>,
}

/// One run of one call.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// Absent for a message and a timer.
    pub(crate) caller: Option<About>,
    pub(crate) tenant: Option<String>,
    /// Whether the call may make effects: not in `describe` and `init`.
    pub(crate) transaction: bool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) logs: Vec<super::LogLine>,
    pub(crate) metrics: Vec<(String, f64, bool)>,
    pub(crate) answers: Vec<Answer>,
    /// The number of `answers` that this run has taken.
    pub(crate) asked: usize,
    pub(crate) bytes: usize,
    pub(crate) imports: usize,
}

impl Call {
    /// Adds an effect to the transaction.
    pub(crate) fn collect(&mut self, effect: Effect) -> Result<(), EffectError> {
        self.in_transaction()?;
        self.bytes += effect.bytes();
        self.effects.push(effect);
        if self.effects.len() > MAX_EFFECTS {
            fail("a call may make 256 effects");
        }
        if self.bytes > MAX_BYTES {
            fail("a call may make 1 MiB of effects");
        }
        Ok(())
    }

    pub(crate) fn in_transaction(&self) -> Result<(), EffectError> {
        if self.transaction { Ok(()) } else { Err(EffectError::Denied("describe and init have no transaction".into())) }
    }

    pub(crate) fn caller(&self) -> Result<&About, EffectError> {
        self.in_transaction()?;
        self.caller.as_ref().ok_or(EffectError::NoCaller)
    }

    /// The name of a user, a budget's key or a timer: it belongs to the call's tenant under every tenancy.
    pub(crate) fn owned(&self, name: &str) -> Scoped {
        Scoped { tenant: self.tenant.clone(), name: name.to_owned() }
    }

    /// The name of a room or a presence group: it belongs to the call's tenant if the plugin has tenants.
    pub(crate) fn scoped(&self, world: &World, name: &str) -> Scoped {
        let tenant = if world.has_tenants() { self.tenant.clone() } else { None };
        Scoped { tenant, name: name.to_owned() }
    }

    /// The first run's answer, or a new one that is stored for the second run.
    pub(crate) fn answer(&mut self, ask: impl FnOnce() -> Answer) -> Answer {
        let answer = self.answers.get(self.asked).cloned().unwrap_or_else(|| {
            let answer = ask();
            self.answers.push(answer.clone());
            answer
        });
        self.asked += 1;
        answer
    }
}

struct Frame {
    world: Rc<RefCell<World>>,
    call: Call,
}

thread_local! {
    /// The running call. Thread-local, because a component's imports are global functions.
    static CURRENT: RefCell<Option<Frame>> = const { RefCell::new(None) };
}

/// Runs plugin code as this call, and returns the call.
pub(super) fn within<T>(world: &Rc<RefCell<World>>, call: Call, run: impl FnOnce() -> T) -> (T, Call) {
    let outer = CURRENT.replace(Some(Frame { world: Rc::clone(world), call }));
    let result = run();
    let frame = CURRENT.replace(outer);
    (result, frame.map(|frame| frame.call).unwrap_or_default())
}

/// One import.
#[track_caller]
pub(super) fn import<T>(act: impl FnOnce(&mut Call, &mut World) -> T) -> T {
    CURRENT.with_borrow_mut(|current| {
        let Some(frame) = current else {
            fail("an import was called outside a handler: call it through the harness, or `Harness::inside`")
        };
        frame.call.imports += 1;
        if frame.call.imports > MAX_IMPORTS {
            fail("a call may make 10 000 imports");
        }
        act(&mut frame.call, &mut frame.world.borrow_mut())
    })
}
