//! `[shares]`: the part of a plugin's resources that one user, and all users of one tenant together, may take. `transaction` checks
//! it before a commit.

use serde::Deserialize;

use super::buckets::Budgets;
use crate::telemetry::log::often::Often;

/// `[shares]`: of each plugin, on this node. Each is off at 0.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes that the calls of one user may write to the store, a minute. Past it a call is refused with `rate_limited`; one that is
    /// over it alone with `too_large`. Default 16 MiB.
    pub user_store_bytes: u32,
    /// The same of all users of a tenant. Default 256 MiB.
    pub tenant_store_bytes: u32,
    /// Bus messages that the calls of one user may publish, a minute. Past it: `rate_limited`. Default 60 000.
    pub user_messages: u32,
    /// The same of all users of a tenant. Default 600 000.
    pub tenant_messages: u32,
    /// Timers of one user that may wait. Past it a call that starts one is refused with `too_large`. A durable timer is the tenant's
    /// alone after a restart. Default 1000.
    pub user_timers: usize,
    /// The same of all users of a tenant. Default 50 000.
    pub tenant_timers: usize,
    /// Presence keys that one user may vouch for, over all sockets. Past it a call that tracks one is refused with `too_large`.
    /// Default 256.
    pub user_presence_keys: usize,
    /// The same of all users of a tenant. Default 50 000.
    pub tenant_presence_keys: usize,
    /// Rooms of one namespace that the sockets of one user may be in, each socket's counted. Past it a call that joins one is refused
    /// with `too_large`. Default 20 000.
    pub user_rooms: usize,
    /// The same of all users of a tenant. Default 500 000.
    pub tenant_rooms: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_store_bytes: 16 << 20,
            tenant_store_bytes: 256 << 20,
            user_messages: 60_000,
            tenant_messages: 600_000,
            user_timers: 1000,
            tenant_timers: 50_000,
            user_presence_keys: 256,
            tenant_presence_keys: 50_000,
            user_rooms: 20_000,
            tenant_rooms: 500_000,
        }
    }
}

/// What users and tenants have taken.
#[derive(Default)]
pub struct Shares {
    pub config: Config,
    pub(crate) rates: Budgets,
    pub(crate) log: Often,
}

impl Shares {
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }
}
