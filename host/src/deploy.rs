//! Deployment of plugins: staging, rollout, canary, rollback, and the history of releases. It never calls a plugin for a client.

pub mod boot;
pub mod checks;
pub mod gauges;
pub mod history;
pub mod lock;
pub mod moving;
pub mod release_cache;
pub mod releases;
pub mod rollout;
pub mod set;
pub mod stage;
pub mod stored;
pub mod tenantless;
pub mod trial;
