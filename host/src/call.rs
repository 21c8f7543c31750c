//! One call of a plugin: the registry of live releases, the instance pool, the circuit breakers, and the call from lease to
//! commit. Does not handle sockets.

pub mod breaker;
pub mod canary;
pub mod counters;
pub mod deployed_plugin;
pub mod error;
pub mod job;
pub mod judge;
pub mod key;
pub mod manifest;
pub mod observers;
pub mod pool;
pub mod recorded_call;
pub mod registry;
pub mod release;
pub mod routes;
pub mod run;
pub mod timers;
