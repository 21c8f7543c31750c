//! A host in memory, for tests. It follows the contract of `wit/`, on a clock that only the test moves. It is never part of a component.
//!
//! ```
//! use hubbub_sdk::{Result, User, emitter::Emits, harness::{Harness, user}, plugin, rooms::Room};
//! use serde_json::json;
//!
//! const HALL: Room = Room::new("/", "hall");
//! const WAVED: Emits<str> = Emits::new("/", "waved");
//!
//! #[derive(Default)]
//! struct Wave;
//!
//! #[plugin(name = "wave", version = "1.0.0")]
//! #[door("/", token = "required")]
//! #[rooms(HALL)]
//! #[emits(WAVED)]
//! impl Wave {
//!     #[on_connect]
//!     fn enter() -> Result<()> {
//!         HALL.join()
//!     }
//!
//!     #[on("wave")]
//!     fn wave(user: &User) -> Result<()> {
//!         WAVED.to_room(&HALL, &user.id)
//!     }
//! }
//!
//! let app = Harness::<Wave>::new();
//! let (ana, ben) = (app.connect("/", user("ana")), app.connect("/", user("ben")));
//! ana.emit_bare("wave").expect_ok();
//! ben.expect("waved", json!("ana"));
//! ```
//!
//! Every call runs twice, each time on a fresh instance. The effects of the first run are dropped, and the second run must make the
//! same effects: a handler that keeps state, or depends on more than its arguments and imports, fails the test. A message or a timer
//! that fails also fails the test, unless [`Harness::try_publish`] expects it. A call that reads the system's time
//! (`SystemTime::now`, `Instant::now`, or a crate that calls them) fails the test, because it panics in a component; this is found on
//! Linux with glibc.

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
mod once;
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
    /// A host without clients and stored data, at the time 2025-01-01T00:00:00Z.
    ///
    /// # Panics
    /// If the plugin's description contradicts itself.
    pub fn new() -> Self {
        let description = run::describe::<P>();
        Self { world: Rc::new(RefCell::new(World::new(description))), plugin: PhantomData }
    }

    /// Sets the plugin's configuration, which is `{}` before.
    #[must_use]
    pub fn config(self, config: Value) -> Self {
        self.world.borrow_mut().config = config.to_string();
        self
    }

    /// Calls `init` with the configuration. The error is the sentence for the operator.
    #[track_caller]
    pub fn init(&self) -> Result<(), String> {
        run::init::<P>(&self.world).map(drop)
    }

    /// Connects a client.
    ///
    /// # Panics
    /// If the client is refused. [`Harness::try_connect`] returns the refusal.
    #[track_caller]
    pub fn connect(&self, namespace: &str, who: impl Into<Identity>) -> Client<P> {
        match self.try_connect(namespace, who) {
            Ok(client) => client,
            Err(sentence) => fail(&format!("{namespace} refused the client: {sentence}")),
        }
    }

    /// Connects a client. The error is the sentence of its `connect_error`.
    #[track_caller]
    pub fn try_connect(&self, namespace: &str, who: impl Into<Identity>) -> Result<Client<P>, String> {
        self.try_connect_with(namespace, who, serde_json::json!({}))
    }

    /// As [`Harness::try_connect`], with the client's `auth` without its token.
    #[track_caller]
    pub fn try_connect_with(&self, namespace: &str, who: impl Into<Identity>, auth: Value) -> Result<Client<P>, String> {
        let user = who.into().into_user();
        let socket = run::connect::<P>(&self.world, namespace, user, &auth.to_string())?;
        Ok(Client::new(self.clone(), socket))
    }

    /// Publishes a message as a backend does. It is handled before this returns, and so are the messages that follow from it.
    ///
    /// # Panics
    /// If the plugin fails to handle it. [`Harness::try_publish`] returns the failure.
    #[track_caller]
    pub fn publish(&self, topic: &str, data: Value) {
        if let Err(failure) = self.try_publish(topic, data) {
            fail(&format!("the message {topic} failed: {failure}"));
        }
    }

    /// As [`Harness::publish`], and returns the failure. If it begins with `invalid data: ` (the data does not fit the handler's type, or
    /// the handler refused it as `invalid`), a server makes the message a dead letter at once. After any other failure it tries the
    /// message again, and makes it a dead letter after `bus.max_failures` tries.
    #[track_caller]
    pub fn try_publish(&self, topic: &str, data: Value) -> Result<(), String> {
        run::publish::<P>(&self.world, None, topic, &data)
    }

    /// Publishes a message of a tenant.
    ///
    /// # Panics
    /// If the plugin fails to handle it.
    #[track_caller]
    pub fn publish_for(&self, tenant: &str, topic: &str, data: Value) {
        if let Err(failure) = run::publish::<P>(&self.world, Some(tenant.to_owned()), topic, &data) {
            fail(&format!("the message {topic} failed: {failure}"));
        }
    }

    /// Moves the clock. Timers, schedules, presence and counts that become due are handled in their order.
    #[track_caller]
    pub fn advance(&self, time: Duration) {
        run::advance::<P>(&self.world, time);
    }

    /// The time, in milliseconds since 1970, as [`clock::now`](crate::clock::now) returns it.
    pub fn now(&self) -> u64 {
        self.world.borrow().wall()
    }

    /// Sets the wall clock, as an operator or a time service does. It changes [`clock::now`](crate::clock::now), and not timers,
    /// schedules, budgets and presence, which are monotonic.
    pub fn set_clock(&self, unix_ms: u64) {
        let mut world = self.world.borrow_mut();
        world.set = i64::try_from(i128::from(unix_ms) - i128::from(world.now)).unwrap_or(i64::MAX);
    }

    /// Makes storage answer or not. While it does not, reads fail and calls that write cannot commit.
    pub fn storage_answers(&self, answers: bool) {
        self.world.borrow_mut().storage_down = !answers;
    }

    /// Runs test code as a call without a caller, so that imports work: a test reads the store through the plugin's own functions. The
    /// effects are dropped.
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

    /// The data of the messages that the plugin has published to a topic, oldest first.
    pub fn published(&self, topic: &str) -> Vec<Value> {
        let world = self.world.borrow();
        world.published.iter().filter(|one| one.topic == topic).map(|one| one.data.clone()).collect()
    }

    /// The lines that the plugin has logged, oldest first.
    pub fn logs(&self) -> Vec<LogLine> {
        self.world.borrow().logs.clone()
    }

    /// A metric of the plugin: a counter's sum, a gauge's value, or a histogram's last observation.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.world.borrow().metrics.get(name).copied()
    }

    /// The plugin's description.
    pub fn description(&self) -> crate::glue::handler::Description {
        self.world.borrow().description.clone()
    }
}

/// Fails the test with a sentence, at the place that called the harness.
#[track_caller]
#[expect(clippy::panic, reason = "a test fails by a panic")]
fn fail(sentence: &str) -> ! {
    panic!("{sentence}")
}

#[cfg(test)]
mod tests;
