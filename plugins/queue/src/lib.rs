//! Queue: the customers who wait for an attendant of the support desk, in `/hub`. This page is the list of what clients may say
//! and what happens then; it must never hold a rule of its own.

mod waiting;

use hubbub_sdk::{Caller, Message, Result, plugin};

/// The plugin, without settings.
#[derive(Default)]
pub struct Queue;

#[plugin(name = "queue")]
#[namespace("/hub")]
#[emits(waiting::NEW, waiting::TAKEN, waiting::UPDATED)]
impl Queue {
    #[on_message("queue.added")]
    fn added(message: &Message, item: waiting::Added) -> Result<()> {
        waiting::added(message.at, item)
    }

    #[on_message("queue.removed")]
    fn removed(item: waiting::Removed) -> Result<()> {
        waiting::removed(&item)
    }

    #[on("queue:take", reply)]
    fn take(caller: &Caller, item: waiting::ItemId) -> Result<waiting::Take> {
        waiting::take(caller.user()?, item)
    }

    #[on_timer("updated")]
    fn updated() -> Result<()> {
        waiting::updated()
    }
}
