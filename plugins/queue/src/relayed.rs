//! The items of a backend that runs the queue itself. Its messages are passed on as published; an attendant may take its items. The
//! order and the length of its queue are its own: nothing here is counted or listed.

use hubbub_sdk::{
    Json, Result, emitter,
    payload::PublishedId,
    store::{self, key},
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
pub(crate) fn announced(at: u64, published: &Json<New>) -> Result<()> {
    let New { item_id, thread_id, .. } = published.value()?;
    if find(&item_id)?.is_some() || waiting::find(&item_id)?.is_some() || taken::was_before(&item_id, at)? {
        return Ok(());
    }
    store::put(&item_key(&item_id), &Known { item_id, thread_id })?;
    Ok(emitter::to_room(NAMESPACE, ATTENDANTS, NEW.event(), published)?)
}

/// `queue.updated`.
pub(crate) fn updated(published: &Json<Updated>) -> Result<()> {
    published.value()?;
    Ok(UPDATED.to_room(ATTENDANTS, published)?)
}

pub(crate) fn find(item: &str) -> Result<Option<Item>> {
    let known: Option<Known> = store::get(&item_key(item))?;
    Ok(known.map(|Known { item_id, thread_id }| Item { item_id, thread_id }))
}

/// Forgets the item, which this plugin's own queue takes over. Returns whether it was known.
pub(crate) fn hand_over(item: &str) -> Result<bool> {
    let known = find(item)?.is_some();
    if known {
        remove(item)?;
    }
    Ok(known)
}

pub(crate) fn remove(item: &str) -> Result<()> {
    Ok(store::delete(&item_key(item))?)
}

fn item_key(item: &str) -> String {
    key(["relayed", item])
}

#[cfg(test)]
mod tests;
