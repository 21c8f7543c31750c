//! `[shares]`: the part of a plugin's resources that one user, and all users of one tenant together, may use. `transaction`
//! checks it before a commit.

use schemars::JsonSchema;
use serde::Deserialize;

use super::buckets::Budgets;
use crate::telemetry::log::often::Often;

/// `[shares]`: how much of a plugin one user, and all users of one tenant, may use, on this node. 0 means no limit.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes that the calls of one user may write to the store in a minute. Past it a call is refused with `rate_limited`, and
    /// with `too_large` if the call alone is over the limit. Metric: `limits_passed`.
    pub user_store_bytes: u32,
    /// The same for all users of one tenant. Past it as for one user. Metric: `limits_passed`.
    pub tenant_store_bytes: u32,
    /// Bus messages that the calls of one user may publish in a minute. Past it a call is refused with `rate_limited`. Metric:
    /// `limits_passed`.
    pub user_messages: u32,
    /// The same for all users of one tenant. Past it as for one user. Metric: `limits_passed`.
    pub tenant_messages: u32,
    /// Timers of one user that may wait. After a restart, a durable timer counts for its tenant only. Past it a call that starts
    /// a timer is refused with `too_large`. Metric: `limits_passed`.
    pub user_timers: usize,
    /// The same for all users of one tenant. Past it as for one user. Metric: `limits_passed`.
    pub tenant_timers: usize,
    /// Presence keys of one user, over all sockets. Past it a call that tracks another key is refused with `too_large`. Metric:
    /// `limits_passed`.
    pub user_presence_keys: usize,
    /// The same for all users of one tenant. Past it as for one user. Metric: `limits_passed`.
    pub tenant_presence_keys: usize,
    /// Rooms of one namespace that the sockets of one user are in, counted for each socket. Past it a call that joins another
    /// room is refused with `too_large`. Metric: `limits_passed`.
    pub user_rooms: usize,
    /// The same for all users of one tenant. Past it as for one user. Metric: `limits_passed`.
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

/// The current use of users and tenants.
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
