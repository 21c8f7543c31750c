//! The imports: the host's in a component, the test harness's everywhere else. Holds no logic, so that a plugin's code is the same
//! for both.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::hubbub::plugin::{
    budget, bus, clock, config, emitter, log, metrics, presence, random, rooms, store, timers,
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::harness::imports::{
    budget, bus, clock, config, emitter, log, metrics, presence, random, rooms, store, timers,
};
