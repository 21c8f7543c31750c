//! A host in memory, for tests: it keeps the contract of `wit/`, on a clock that only the test moves. Never part of a component.
//!
//! ```
//! use hubbub_sdk::{Caller, Result, emitter, harness::{Harness, user}, plugin, rooms};
//! use serde_json::json;
//!
//! #[derive(Default)]
//! struct Wave;
//!
//! #[plugin(name = "wave", version = "1.0.0")]
//! #[door("/", token = "required")]
//! #[room("/", "hall")]
//! impl Wave {
//!     #[on_connect("/")]
//!     fn enter(_: &Caller) -> Result<()> {
//!         Ok(rooms::join("hall")?)
//!     }
//!
//!     #[on("wave")]
//!     fn wave(caller: &Caller) -> Result<()> {
//!         Ok(emitter::to_room("/", "hall", "waved", &caller.user()?.id)?)
//!     }
//! }
//!
//! let app = Harness::<Wave>::new();
//! let (ana, ben) = (app.connect("/", user("ana")), app.connect("/", user("ben")));
//! ana.emit_bare("wave").expect_ok();
//! ben.expect("waved", json!("ana"));
//! ```
//!
//! Every call runs on a fresh instance, and twice: the first run's effects are thrown away, and the second must do the same.
//! State hidden in the plugin, and whatever depends on more than arguments and imports, fails the test at once. A failing
//! message or timer does too: the host would try it again, the harness tells. A test also fails at a call that asks for the system's time
//! (`SystemTime::now`, `Instant::now`, or a crate that calls them), which panics in a component; this is found on Linux with glibc.

use std::{cell::RefCell, fmt, marker::PhantomData, rc::Rc, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Plugin,
    bindings::{exports::hubbub::plugin::handler::DisconnectReason, hubbub::plugin::types},
};

mod call;
mod client;
mod identity;
pub(crate) mod imports;
mod names;
mod presence;
mod run;
mod std_time;
mod world;

pub use client::{Client, Outcome};
pub use identity::{Identity, user, visitor};
pub use world::LogLine;
use world::World;

/// A host in memory that holds one plugin. Cheap to clone: clones are the same host.
pub struct Harness<P> {
    world: Rc<RefCell<World>>,
    plugin: PhantomData<fn() -> P>,
}

impl<P> Clone for Harness<P> {
    fn clone(&self) -> Self {
        Self { world: Rc::clone(&self.world), plugin: PhantomData }
    }
}

impl<P> fmt::Debug for Harness<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness").field("now", &self.world.borrow().now).finish_non_exhaustive()
    }
}

impl<P: Plugin> Default for Harness<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Plugin> Harness<P> {
    /// A host with nobody connected, nothing stored, and the time 2025-01-01T00:00:00Z.
    ///
    /// # Panics
    /// If the plugin's description contradicts itself.
    pub fn new() -> Self {
        let description = run::describe::<P>();
        Self { world: Rc::new(RefCell::new(World::new(description))), plugin: PhantomData }
    }

    /// The plugin's configuration from here on; `{}` until then.
    #[must_use]
    pub fn config(self, config: Value) -> Self {
        self.world.borrow_mut().config = config.to_string();
        self
    }

    /// Whether the plugin takes its configuration, or the sentence for the operator.
    #[track_caller]
    pub fn init(&self) -> Result<(), String> {
        run::init::<P>(&self.world).map(drop)
    }

    /// A client connects.
    ///
    /// # Panics
    /// If the door refuses it; [`Harness::try_connect`] is for that.
    #[track_caller]
    pub fn connect(&self, namespace: &str, who: impl Into<Identity>) -> Client<P> {
        match self.try_connect(namespace, who) {
            Ok(client) => client,
            Err(sentence) => fail(&format!("{namespace} refused the client: {sentence}")),
        }
    }

    /// A client connects, or is refused with the sentence that its `connect_error` shows.
    #[track_caller]
    pub fn try_connect(&self, namespace: &str, who: impl Into<Identity>) -> Result<Client<P>, String> {
        self.try_connect_with(namespace, who, serde_json::json!({}))
    }

    /// As [`Harness::try_connect`], with what the client sends as `auth` beside its token.
    #[track_caller]
    pub fn try_connect_with(&self, namespace: &str, who: impl Into<Identity>, auth: Value) -> Result<Client<P>, String> {
        let user = who.into().into_user();
        let socket = run::connect::<P>(&self.world, namespace, user, &auth.to_string())?;
        Ok(Client::new(self.clone(), socket))
    }

    /// A message arrives on the bus, and everything that follows from it is done.
    ///
    /// # Panics
    /// If the plugin fails to handle it; [`Harness::try_publish`] is for that.
    #[track_caller]
    pub fn publish(&self, topic: &str, data: Value) {
        if let Err(failure) = self.try_publish(topic, data) {
            fail(&format!("the message {topic} failed: {failure}"));
        }
    }

    /// A message arrives on the bus, and is handled or fails. A failure that begins with `invalid data: ` (the data does not fit the
    /// handler's type, or the handler refused it as `invalid`) is a dead letter at once on a server; any other is tried again, and is a
    /// dead letter after `bus.max_failures` tries.
    #[track_caller]
    pub fn try_publish(&self, topic: &str, data: Value) -> Result<(), String> {
        run::publish::<P>(&self.world, None, topic, &data)
    }

    /// A tenant's message arrives on the bus.
    ///
    /// # Panics
    /// If the plugin fails to handle it.
    #[track_caller]
    pub fn publish_for(&self, tenant: &str, topic: &str, data: Value) {
        if let Err(failure) = run::publish::<P>(&self.world, Some(tenant.to_owned()), topic, &data) {
            fail(&format!("the message {topic} failed: {failure}"));
        }
    }

    /// Lets time pass: timers, schedules, presence and counts that are due are handled on the way, in their order.
    #[track_caller]
    pub fn advance(&self, time: Duration) {
        run::advance::<P>(&self.world, time);
    }

    /// The time, in milliseconds since 1970, as [`clock::now`](crate::clock::now) answers it.
    pub fn now(&self) -> u64 {
        self.world.borrow().wall()
    }

    /// Sets the wall clock, as an operator or a time service does. Only [`clock::now`](crate::clock::now) changes: timers, schedules,
    /// budgets and presence are monotonic.
    pub fn set_clock(&self, unix_ms: u64) {
        let mut world = self.world.borrow_mut();
        world.set = i64::try_from(i128::from(unix_ms) - i128::from(world.now)).unwrap_or(i64::MAX);
    }

    /// Whether storage answers, from here on. While it does not, reads fail and calls that write cannot commit.
    pub fn storage_answers(&self, answers: bool) {
        self.world.borrow_mut().storage_down = !answers;
    }

    /// Runs test code where imports work, as a call without a caller whose effects are thrown away: to look at the store
    /// through the plugin's own functions.
    pub fn inside<T>(&self, look: impl FnOnce() -> T) -> T {
        run::inside(&self.world, look)
    }

    /// The stored value of a key.
    ///
    /// # Panics
    /// If it does not fit the type.
    #[track_caller]
    pub fn stored<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let world = self.world.borrow();
        let value = world.store.get(key)?;
        match serde_json::from_slice(value) {
            Ok(value) => Some(value),
            Err(error) => fail(&format!("the value of {key} does not fit: {error}")),
        }
    }

    /// The stored keys that begin with a prefix, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.world.borrow().store.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// What the plugin has published to a topic, oldest first.
    pub fn published(&self, topic: &str) -> Vec<Value> {
        let world = self.world.borrow();
        world.published.iter().filter(|one| one.topic == topic).map(|one| one.data.clone()).collect()
    }

    /// The lines that the plugin has logged, oldest first.
    pub fn logs(&self) -> Vec<LogLine> {
        self.world.borrow().logs.clone()
    }

    /// A figure of the plugin's own: a counter's sum, a gauge's value, or a histogram's last observation.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.world.borrow().metrics.get(name).copied()
    }

    /// The plugin's description.
    pub fn description(&self) -> crate::glue::handler::Description {
        self.world.borrow().description.clone()
    }
}

/// Ends the test with a sentence, at the place that called the harness.
#[track_caller]
#[expect(clippy::panic, reason = "a test ends so")]
fn fail(sentence: &str) -> ! {
    panic!("{sentence}")
}

#[cfg(test)]
mod tests;
