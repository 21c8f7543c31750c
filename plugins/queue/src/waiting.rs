//! The queue that this plugin runs: the waiting items, oldest first. No call reads the whole queue, and no change reads a key that every
//! change writes.

use std::time::Duration;

use hubbub_sdk::{
    Json, Message, Result, clock,
    emitter::Emits,
    payload::PublishedId,
    plugin,
    rooms::Room,
    store::{self, key, key_of_tenant, tenant_key},
    timers::{self, Durability, Timer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Queue, relayed, taken::Item};

/// All attendants. The plugin `presence` owns this room and joins them.
pub(crate) const ATTENDANTS: Room = Room::new("/hub", "presence:attendants");

/// The most items in `queue:updated`, which are the oldest. Later items are only counted.
const MAX_SHOWN: u32 = 50;

/// The time for which changes are collected before one `queue:updated` is sent for all of them.
pub(crate) const COLLECT: Duration = Duration::from_millis(100);

pub(crate) const NEW: Emits<Json<Waiting>> = Emits::new("/hub", "queue:new");
pub(crate) const UPDATED: Emits<Json<Updated>> = Emits::new("/hub", "queue:updated");

/// `queue.added`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Added {
    item_id: PublishedId,
    thread_id: PublishedId,
    customer: Customer,
}

/// An item as it is stored and sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waiting {
    item_id: PublishedId,
    thread_id: PublishedId,
    customer: Customer,
    /// RFC 3339. Optional for a backend that runs the queue itself.
    waiting_since: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Customer {
    id: PublishedId,
    #[serde(default)]
    name: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Updated {
    /// The number of all waiting items.
    length: u64,
    /// Oldest first, at most 50.
    items: Vec<Json<Waiting>>,
}

impl From<Waiting> for Item {
    fn from(Waiting { item_id, thread_id, .. }: Waiting) -> Self {
        Self { item_id, thread_id }
    }
}

#[plugin(part, namespace = "/hub")]
#[emits(NEW, UPDATED)]
#[tenant_keys("waiting/")]
#[tenant_keys("place/")]
#[tenant_keys("length")]
impl Queue {
    /// An item that waits already keeps its place, and is not announced again.
    #[on_message("queue.added")]
    fn added(message: &Message, Added { item_id, thread_id, customer }: Added) -> Result<()> {
        let tenant = message.tenant.as_deref();
        let before = find(tenant, &item_id)?;
        let waiting_since = before.as_ref().map_or_else(|| clock::rfc3339(message.at), |before| before.waiting_since.clone());
        let item = Waiting { item_id, thread_id, customer, waiting_since };
        let (place, json) = (place(&item), Json::of(&item)?);
        store::put(&key_of_tenant(tenant, &place), &json)?;
        if before.is_none() {
            store::put(&place_of(tenant, &item.item_id), &place)?;
            store::add(&length(tenant), 1)?;
            if !relayed::hand_over(tenant, &item.item_id)? {
                NEW.to_room(&ATTENDANTS, &json)?;
            }
        }
        update_soon()
    }

    /// Scans without checks and writes nothing, so it never runs again for a conflict. A change meanwhile has started the timer again.
    #[on_timer("updated")]
    fn updated(timer: &Timer) -> Result<()> {
        let tenant = timer.tenant.as_deref();
        let length = store::prefix(&length(tenant)).counters(1)?.first().map_or(0, |length| length.value);
        let items = store::prefix(&tenant_key(tenant, ["waiting", ""])).read::<Json<Waiting>>(MAX_SHOWN)?;
        let items = items.into_iter().map(|item| item.value).collect();
        UPDATED.to_room(&ATTENDANTS, &Json::of(&Updated { length: u64::try_from(length).unwrap_or(0), items })?)
    }
}

pub(crate) fn find(tenant: Option<&str>, item: &str) -> Result<Option<Waiting>> {
    let Some(place) = store::get::<String>(&place_of(tenant, item))? else { return Ok(None) };
    store::get(&key_of_tenant(tenant, &place))
}

pub(crate) fn remove(tenant: Option<&str>, item: &Waiting) -> Result<()> {
    store::delete(&key_of_tenant(tenant, &place(item)))?;
    store::delete(&place_of(tenant, &item.item_id))?;
    store::add(&length(tenant), -1)?;
    update_soon()
}

fn update_soon() -> Result<()> {
    timers::after("updated", COLLECT, &(), Durability::Soft)
}

/// The key of the number of waiting items. Changes only add to it, so they never conflict.
fn length(tenant: Option<&str>) -> String {
    tenant_key(tenant, ["length"])
}

/// The key of an item, within the tenant. A scan finds the oldest first.
fn place(item: &Waiting) -> String {
    key(["waiting", &item.waiting_since, &item.item_id])
}

/// The key that holds an item's `place`, while the item waits.
fn place_of(tenant: Option<&str>, item: &str) -> String {
    tenant_key(tenant, ["place", item])
}

#[cfg(test)]
mod tests;
