//! The harness and the attribute together, with small plugins that each do one thing.

mod attribute;
mod bus;
mod determinism;
mod once;
mod parts;
mod presence;
mod tenancy;
mod timers;
mod transaction;
