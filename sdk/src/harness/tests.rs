//! The harness and the attribute proved together, by small plugins that each do one thing. What the harness promises a plugin's
//! author must fail here first.

mod attribute;
mod bus;
mod determinism;
mod presence;
mod tenancy;
mod timers;
mod transaction;
