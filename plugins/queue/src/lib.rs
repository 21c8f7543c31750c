//! The queue of a support desk: customers in it wait for an attendant in `/hub`. Tenancy is optional: each tenant has its own queue, and
//! so have the users without a tenant.
//!
//! The plugin runs the queue for a backend (`waiting`), or passes on the items of a backend that runs its own (`relayed`). An attendant
//! takes an item of either (`taken`).

mod relayed;
mod taken;
mod waiting;

use hubbub_sdk::plugin;

/// The plugin, without settings.
#[derive(Default)]
pub struct Queue;

#[plugin(name = "queue", tenancy = "optional")]
#[namespace("/hub")]
#[parts(waiting, taken, relayed)]
impl Queue {}
