//! Taking an item. Exactly one attendant gets it: the call that takes it deletes it, and the store checks that at commit.

use std::time::Duration;

use hubbub_sdk::{
    Json, Message, Result, User, bus, clock,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    plugin,
    store::{self, tenant_key},
    timers::{self, Durability, Timer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Queue, relayed,
    waiting::{self, ATTENDANTS},
};

/// The time for which the last take of an item is stored. Messages about it may be that late.
const REMEMBERED: Duration = Duration::from_secs(600);

const TAKEN: Emits<Json<Taken>> = Emits::new("/hub", "queue:taken");

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ItemId {
    item_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Take {
    item_id: Id,
    /// Whether the caller has it now.
    taken: bool,
}

/// `queue:taken`, and a backend's `queue.taken`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Taken {
    item_id: PublishedId,
    attendant_id: PublishedId,
}

/// `queue.taken` for the backend.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakenFromThread {
    #[serde(flatten)]
    taken: Taken,
    thread_id: PublishedId,
}

/// `queue.removed`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    #[serde(deserialize_with = "published_id")]
    item_id: Id,
}

/// A waiting item of either queue.
pub(crate) struct Item {
    pub(crate) item_id: PublishedId,
    pub(crate) thread_id: PublishedId,
}

/// The last take of an item.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Last {
    attendant_id: String,
    at: u64,
    how: How,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum How {
    /// By `queue:take`. Its `queue.taken` arrives here once, too.
    Client,
    /// By a backend's message, or by `queue:take` after its `queue.taken` has arrived.
    Backend,
    /// By a backend's message that arrived before the item was announced.
    Early,
}

#[plugin(part, namespace = "/hub")]
#[emits(TAKEN)]
#[tenant_keys("taken/")]
impl Queue {
    /// If two calls take the same item at once, one commits. The other runs again and does not find the item.
    #[on("queue:take", reply)]
    fn take(attendant: &User, ItemId { item_id }: ItemId) -> Result<Take> {
        let tenant = attendant.tenant.as_deref();
        let Some(item) = remove(tenant, &item_id)? else { return Ok(Take { item_id, taken: false }) };
        remember(tenant, &item_id, &attendant.id, clock::now(), How::Client)?;
        let taken = Taken { item_id: item.item_id, attendant_id: attendant.id.clone().into() };
        TAKEN.to_room(&ATTENDANTS, &Json::of(&taken)?)?;
        bus::publish_keyed("queue.taken", &item_id, &TakenFromThread { taken, thread_id: item.thread_id })?;
        Ok(Take { item_id, taken: true })
    }

    /// Sent as published, unless the attendants have it already: it may follow from `queue:take`, or be a repetition.
    #[on_message("queue.taken")]
    fn taken(message: &Message, published: Json<Taken>) -> Result<()> {
        let Taken { item_id, attendant_id } = published.value()?;
        let tenant = message.tenant.as_deref();
        let last: Option<Last> = store::get(&last_key(tenant, &item_id))?;
        let same = last.filter(|last| last.attendant_id == *attendant_id);
        if let Some(last) = same.as_ref().filter(|last| last.how == How::Client) {
            return remember(tenant, &item_id, &attendant_id, last.at, How::Backend);
        }
        let waited = remove(tenant, &item_id)?.is_some();
        if !waited && same.is_some() {
            return Ok(());
        }
        remember(tenant, &item_id, &attendant_id, message.at, if waited { How::Backend } else { How::Early })?;
        TAKEN.to_room(&ATTENDANTS, &published)
    }

    #[on_message("queue.removed")]
    fn removed(message: &Message, Removed { item_id }: Removed) -> Result<()> {
        remove(message.tenant.as_deref(), &item_id).map(drop)
    }

    #[on_timer("forget:{itemId}")]
    fn forget(timer: &Timer) -> Result<()> {
        store::delete(&last_key(timer.tenant.as_deref(), timer.param()))
    }
}

/// Whether the item was taken before this announcement of it arrived.
pub(crate) fn was_before(tenant: Option<&str>, item: &str, at: u64) -> Result<bool> {
    let last: Option<Last> = store::get(&last_key(tenant, item))?;
    Ok(last.is_some_and(|last| last.how == How::Early && at <= last.at))
}

/// Removes an item from the queue that holds it.
fn remove(tenant: Option<&str>, item: &str) -> Result<Option<Item>> {
    if let Some(waiting) = waiting::find(tenant, item)? {
        waiting::remove(tenant, &waiting)?;
        return Ok(Some(waiting.into()));
    }
    let found = relayed::find(tenant, item)?;
    if found.is_some() {
        relayed::remove(tenant, item)?;
    }
    Ok(found)
}

fn remember(tenant: Option<&str>, item: &str, attendant: &str, at: u64, how: How) -> Result<()> {
    store::put(&last_key(tenant, item), &Last { attendant_id: attendant.to_owned(), at, how })?;
    timers::after(&format!("forget:{item}"), REMEMBERED, &(), Durability::Durable)
}

fn last_key(tenant: Option<&str>, item: &str) -> String {
    tenant_key(tenant, ["taken", item])
}

#[cfg(test)]
mod tests;
