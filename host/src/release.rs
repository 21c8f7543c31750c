//! Deployed plugins: how a component becomes a release, how calls find the live one, and how it is replaced under them. It knows
//! no sockets; whoever calls brings the caller.

pub mod canary;
pub mod contract;
pub mod delivery;
pub mod instance;
pub mod manifest;
pub mod pool;
pub mod record;
pub mod registry;
pub mod releases;
pub mod signature;
pub mod stage;
pub mod tally;
pub mod timers;
pub mod underway;
