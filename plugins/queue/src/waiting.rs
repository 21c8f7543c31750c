//! The items that wait. An item is given to exactly one attendant: who takes it deletes its place, which the store checks at
//! commit. Never a read of the whole queue, nor a key that every change both reads and writes.

use std::time::Duration;

use hubbub_sdk::{
    Json, Result, User, bus, clock,
    emitter::Emits,
    payload::{Id, published_id},
    store::{self, key},
    timers::{self, Durability},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAMESPACE: &str = "/hub";

/// Where the presence plugin joins every attendant.
const ATTENDANTS: &str = "presence:attendants";

/// How many items `queue:updated` shows, the oldest. Those behind them only count.
const MAX_SHOWN: u32 = 50;

/// How long changes are collected before one `queue:updated` tells of them all: a thousand items at once are told in a few.
const COLLECT: Duration = Duration::from_millis(100);

/// How many wait. Only ever added to, so that two changes never conflict here, and read where nothing is written.
const LENGTH: &str = "length";

pub(crate) const NEW: Emits<Json<Waiting>> = Emits::new(NAMESPACE, "queue:new");
pub(crate) const TAKEN: Emits<Taken> = Emits::new(NAMESPACE, "queue:taken");
pub(crate) const UPDATED: Emits<Updated> = Emits::new(NAMESPACE, "queue:updated");

/// `{itemId}`, from a client: a string.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemId {
    item_id: Id,
}

/// `queue.removed`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removed {
    #[serde(deserialize_with = "published_id")]
    item_id: Id,
}

/// `queue.added`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Added {
    #[serde(deserialize_with = "published_id")]
    item_id: Id,
    #[serde(deserialize_with = "published_id")]
    thread_id: Id,
    customer: Customer,
}

/// An item as it is stored and sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waiting {
    item_id: Id,
    thread_id: Id,
    customer: Customer,
    waiting_since: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Customer {
    #[serde(deserialize_with = "published_id")]
    id: Id,
    #[serde(default)]
    name: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Take {
    item_id: Id,
    /// Whether the caller has it now.
    taken: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Taken {
    item_id: Id,
    attendant_id: String,
}

/// `queue.taken`, for the product's backend.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakenFromThread {
    #[serde(flatten)]
    taken: Taken,
    thread_id: Id,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Updated {
    /// How many wait, shown or not.
    length: u64,
    /// Oldest first, at most 50.
    items: Vec<Json<Waiting>>,
}

/// An item that waits already keeps its place.
pub(crate) fn added(at: u64, Added { item_id, thread_id, customer }: Added) -> Result<()> {
    let before = find(&item_id)?;
    let waiting_since = before.as_ref().map_or_else(|| clock::rfc3339(at), |before| before.waiting_since.clone());
    let item = Waiting { item_id, thread_id, customer, waiting_since };
    let (place, json) = (place(&item), Json::of(&item)?);
    store::put(&place, &json)?;
    if before.is_none() {
        store::put(&place_of(&item.item_id), &place)?;
        store::add(LENGTH, 1)?;
        NEW.to_room(ATTENDANTS, &json)?;
    }
    update_soon()
}

pub(crate) fn removed(Removed { item_id }: &Removed) -> Result<()> {
    match find(item_id)? {
        Some(item) => remove(&item),
        None => Ok(()),
    }
}

/// Of two who take the same item at once, one commits; the other runs again and finds it gone.
pub(crate) fn take(attendant: &User, ItemId { item_id }: ItemId) -> Result<Take> {
    let Some(item) = find(&item_id)? else { return Ok(Take { item_id, taken: false }) };
    remove(&item)?;
    let taken = Taken { item_id: item.item_id, attendant_id: attendant.id.clone() };
    TAKEN.to_room(ATTENDANTS, &taken)?;
    bus::publish_keyed("queue.taken", &item_id, &TakenFromThread { taken, thread_id: item.thread_id })?;
    Ok(Take { item_id, taken: true })
}

/// Reads without checks and writes nothing: however fast the queue changes, this never runs again. What changes meanwhile has
/// started the timer anew.
pub(crate) fn updated() -> Result<()> {
    let length = store::prefix(LENGTH).counters(1)?.first().map_or(0, |length| length.value);
    let items = store::prefix(&key(["waiting", ""])).read::<Json<Waiting>>(MAX_SHOWN)?;
    let items = items.into_iter().map(|item| item.value).collect();
    Ok(UPDATED.to_room(ATTENDANTS, &Updated { length: u64::try_from(length).unwrap_or(0), items })?)
}

fn find(item: &str) -> Result<Option<Waiting>> {
    let Some(place) = store::get::<String>(&place_of(item))? else { return Ok(None) };
    Ok(store::get(&place)?)
}

fn remove(item: &Waiting) -> Result<()> {
    store::delete(&place(item))?;
    store::delete(&place_of(&item.item_id))?;
    store::add(LENGTH, -1)?;
    update_soon()
}

fn update_soon() -> Result<()> {
    Ok(timers::after("updated", COLLECT, &(), Durability::Soft)?)
}

/// The key of an item's place in the queue, so that a scan finds the oldest first.
fn place(item: &Waiting) -> String {
    key(["waiting", &item.waiting_since, &item.item_id])
}

/// The key under which an item's place is found. It is there while the item waits.
fn place_of(item: &str) -> String {
    key(["place", item])
}

#[cfg(test)]
mod tests;
