//! The imports, one file a capability, with the signatures that the bindings have in a component.

pub(crate) mod budget;
pub(crate) mod bus;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod emitter;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod presence;
pub(crate) mod random;
pub(crate) mod rooms;
pub(crate) mod store;
pub(crate) mod timers;
