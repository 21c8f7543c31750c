//! The items of a backend that runs the queue itself. Its messages are passed on as published; an attendant may take its items. The
//! order and the length of its queue are its own: nothing here is counted or listed.

use hubbub_sdk::{
    Json, Message, Result, emitter,
    payload::PublishedId,
    store::{self, tenant_key},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    taken::{self, Item},
    waiting::{self, ATTENDANTS, NAMESPACE, NEW, UPDATED, Updated},
};

/// `queue.new`, with whatever else it carries.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct New {
    item_id: PublishedId,
    thread_id: PublishedId,
    #[serde(rename = "customer")]
    _customer: IgnoredAny,
}

/// What is stored of an item.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    item_id: PublishedId,
    thread_id: PublishedId,
}

/// `queue.new`. An item that waits already is not announced again.
pub(crate) fn announced(message: &Message, published: &Json<New>) -> Result<()> {
    let New { item_id, thread_id, .. } = published.value()?;
    let tenant = message.tenant.as_deref();
    if find(tenant, &item_id)?.is_some()
        || waiting::find(tenant, &item_id)?.is_some()
        || taken::was_before(tenant, &item_id, message.at)?
    {
        return Ok(());
    }
    store::put(&item_key(tenant, &item_id), &Known { item_id, thread_id })?;
    Ok(emitter::to_room(NAMESPACE, ATTENDANTS, NEW.event(), published)?)
}

/// `queue.updated`.
pub(crate) fn updated(published: &Json<Updated>) -> Result<()> {
    published.value()?;
    Ok(UPDATED.to_room(ATTENDANTS, published)?)
}

pub(crate) fn find(tenant: Option<&str>, item: &str) -> Result<Option<Item>> {
    let known: Option<Known> = store::get(&item_key(tenant, item))?;
    Ok(known.map(|Known { item_id, thread_id }| Item { item_id, thread_id }))
}

/// Forgets the item, which this plugin's own queue takes over. Returns whether it was known.
pub(crate) fn hand_over(tenant: Option<&str>, item: &str) -> Result<bool> {
    let known = find(tenant, item)?.is_some();
    if known {
        remove(tenant, item)?;
    }
    Ok(known)
}

pub(crate) fn remove(tenant: Option<&str>, item: &str) -> Result<()> {
    Ok(store::delete(&item_key(tenant, item))?)
}

fn item_key(tenant: Option<&str>, item: &str) -> String {
    tenant_key(tenant, ["relayed", item])
}

#[cfg(test)]
mod tests;
