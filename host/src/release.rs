//! Deployed plugins: how a component becomes a release, how calls find the live one, and how it is replaced under them. It knows
//! no sockets; whoever calls brings the caller.

pub mod boot;
pub mod breaker;
pub mod canary;
pub mod compare;
pub mod contract;
pub mod delivery;
pub mod doors;
pub mod flip;
pub mod gauges;
pub mod grants;
pub mod instance;
pub mod job;
mod judge;
pub mod kept;
pub mod manifest;
pub mod moving;
pub mod pool;
pub mod record;
pub mod recording;
pub mod redact;
pub mod registry;
pub mod releases;
pub mod replay;
pub mod set;
pub mod shadow;
pub mod shelf;
pub mod signature;
pub mod stage;
mod stored;
pub mod tally;
mod tenantless;
pub mod timers;
pub mod trial;
pub mod underway;
pub mod versions;
pub mod witness;
