//! Deployed plugins: how a component becomes a release, how calls find the live one, and how it is replaced under them. It knows
//! no sockets; whoever calls brings the caller.

pub mod contract;
pub mod delivery;
pub mod instance;
pub mod manifest;
pub mod pool;
pub mod registry;
pub mod stage;
pub mod timers;
