//! Write Hubbub plugins in Rust.
#![deny(missing_docs)]

// The attribute writes `::hubbub_sdk::…`, in this crate's own tests too.
extern crate self as hubbub_sdk;

pub mod budget;
pub mod bus;
pub mod clock;
pub mod collections;
pub mod config;
pub mod emitter;
pub mod log;
pub mod metrics;
pub mod payload;
pub mod presence;
pub mod random;
pub mod rooms;
pub mod store;
pub mod timers;

mod caller;
mod host;
mod json;
mod plugin;
mod refusal;

#[cfg(not(target_arch = "wasm32"))]
pub mod harness;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod glue;

pub use bindings::exports::hubbub::plugin::handler::{DisconnectReason, Event};
pub use bus::Message;
pub use caller::{Caller, User};
pub use hubbub_sdk_macros::plugin;
pub use plugin::Plugin;
pub use refusal::{EffectError, Refusal, RefusalCode, Result};
pub use timers::Timer;
