//! Queue: customers of the support desk that wait for an attendant, in `/hub`. Tenancy is optional: each tenant has a queue of its
//! own, and so have the users without a tenant. This page lists the events and topics with their
//! handlers; it must never hold a rule of its own.

mod relayed;
mod taken;
mod waiting;

use hubbub_sdk::{Caller, Json, Message, Result, Timer, plugin};

/// The plugin, without settings.
#[derive(Default)]
pub struct Queue;

#[plugin(name = "queue", tenancy = "optional")]
#[tenant_keys("waiting/")]
#[tenant_keys("place/")]
#[tenant_keys("relayed/")]
#[tenant_keys("taken/")]
#[tenant_keys("length")]
#[namespace("/hub")]
#[emits(waiting::NEW, waiting::UPDATED, taken::TAKEN)]
impl Queue {
    #[on("queue:take", reply)]
    fn take(caller: &Caller, item: taken::ItemId) -> Result<taken::Take> {
        taken::take(caller.user()?, item)
    }

    // The queue that this plugin runs for a backend.

    #[on_message("queue.added")]
    fn added(message: &Message, item: waiting::Added) -> Result<()> {
        waiting::added(message, item)
    }

    #[on_message("queue.removed")]
    fn removed(message: &Message, item: waiting::Removed) -> Result<()> {
        taken::removed(message, &item)
    }

    // A backend that runs the queue itself.

    #[on_message("queue.new")]
    fn announced(message: &Message, item: Json<relayed::New>) -> Result<()> {
        relayed::announced(message, &item)
    }

    #[on_message("queue.taken")]
    fn taken(message: &Message, taken: Json<taken::Taken>) -> Result<()> {
        taken::published(message, &taken)
    }

    #[on_message("queue.updated")]
    fn relay_updated(updated: Json<waiting::Updated>) -> Result<()> {
        relayed::updated(&updated)
    }

    #[on_timer("updated")]
    fn updated(timer: &Timer) -> Result<()> {
        waiting::updated(timer.tenant.as_deref())
    }

    #[on_timer("forget:{itemId}")]
    fn forget(timer: &Timer) -> Result<()> {
        taken::forget(timer.tenant.as_deref(), timer.param())
    }
}
