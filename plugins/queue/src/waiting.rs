//! The queue that this plugin runs: the items that wait, oldest first. Never a read of the whole queue, nor a key that every change
//! both reads and writes.

use std::time::Duration;

use hubbub_sdk::{
    Json, Message, Result, clock,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    store::{self, key, key_of_tenant, tenant_key},
    timers::{self, Durability},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{relayed, taken::Item};

pub(crate) const NAMESPACE: &str = "/hub";

/// Where the presence plugin joins every attendant.
pub(crate) const ATTENDANTS: &str = "presence:attendants";

/// How many items `queue:updated` shows, the oldest. Those behind them only count.
const MAX_SHOWN: u32 = 50;

/// How long changes are collected before one `queue:updated` tells of them all: a thousand items at once are told in a few.
pub(crate) const COLLECT: Duration = Duration::from_millis(100);

pub(crate) const NEW: Emits<Json<Waiting>> = Emits::new(NAMESPACE, "queue:new");
pub(crate) const UPDATED: Emits<Json<Updated>> = Emits::new(NAMESPACE, "queue:updated");

/// `queue.added`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Added {
    item_id: PublishedId,
    thread_id: PublishedId,
    customer: Customer,
}

/// `queue.removed`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removed {
    #[serde(deserialize_with = "published_id")]
    pub(crate) item_id: Id,
}

/// An item as it is stored and sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waiting {
    pub(crate) item_id: PublishedId,
    pub(crate) thread_id: PublishedId,
    customer: Customer,
    /// RFC 3339. A backend that runs the queue itself may leave it out.
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
    /// How many wait, shown or not.
    length: u64,
    /// Oldest first, at most 50.
    items: Vec<Json<Waiting>>,
}

impl From<Waiting> for Item {
    fn from(Waiting { item_id, thread_id, .. }: Waiting) -> Self {
        Self { item_id, thread_id }
    }
}

/// An item that waits already keeps its place, and is not announced again.
pub(crate) fn added(message: &Message, Added { item_id, thread_id, customer }: Added) -> Result<()> {
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
            NEW.to_room(ATTENDANTS, &json)?;
        }
    }
    update_soon()
}

/// Reads without checks and writes nothing: however fast the queue changes, this never runs again. What changes meanwhile has
/// started the timer anew.
pub(crate) fn updated(tenant: Option<&str>) -> Result<()> {
    let length = store::prefix(&length(tenant)).counters(1)?.first().map_or(0, |length| length.value);
    let items = store::prefix(&tenant_key(tenant, ["waiting", ""])).read::<Json<Waiting>>(MAX_SHOWN)?;
    let items = items.into_iter().map(|item| item.value).collect();
    Ok(UPDATED.to_room(ATTENDANTS, &Json::of(&Updated { length: u64::try_from(length).unwrap_or(0), items })?)?)
}

pub(crate) fn find(tenant: Option<&str>, item: &str) -> Result<Option<Waiting>> {
    let Some(place) = store::get::<String>(&place_of(tenant, item))? else { return Ok(None) };
    Ok(store::get(&key_of_tenant(tenant, &place))?)
}

pub(crate) fn remove(tenant: Option<&str>, item: &Waiting) -> Result<()> {
    store::delete(&key_of_tenant(tenant, &place(item)))?;
    store::delete(&place_of(tenant, &item.item_id))?;
    store::add(&length(tenant), -1)?;
    update_soon()
}

fn update_soon() -> Result<()> {
    Ok(timers::after("updated", COLLECT, &(), Durability::Soft)?)
}

/// The key of how many wait. Only ever added to, so that two changes never conflict here, and read where nothing is written.
fn length(tenant: Option<&str>) -> String {
    tenant_key(tenant, ["length"])
}

/// The key of an item's place in the queue, within the tenant. A scan finds the oldest first.
fn place(item: &Waiting) -> String {
    key(["waiting", &item.waiting_since, &item.item_id])
}

/// The key under which an item's place is found. It is there while the item waits.
fn place_of(tenant: Option<&str>, item: &str) -> String {
    tenant_key(tenant, ["place", item])
}

#[cfg(test)]
mod tests;
