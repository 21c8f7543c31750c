//! The items of a backend that runs the queue itself. Its messages are sent to clients as published, and an attendant may take its items.
//! The backend keeps the order and the length of its queue: nothing is counted or listed here.

use hubbub_sdk::{
    Json, Message, Result, emitter,
    payload::PublishedId,
    plugin,
    store::{self, tenant_key},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    Queue,
    taken::{self, Item},
    waiting::{self, ATTENDANTS, NEW, UPDATED, Updated},
};

/// `queue.new`. Further fields are sent to clients too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    item_id: PublishedId,
    thread_id: PublishedId,
    #[serde(rename = "customer")]
    _customer: IgnoredAny,
}

/// A stored item.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    item_id: PublishedId,
    thread_id: PublishedId,
}

#[plugin(part, namespace = "/hub")]
#[tenant_keys("relayed/")]
impl Queue {
    /// An item that waits already is not announced again.
    #[on_message("queue.new")]
    fn announced(message: &Message, published: Json<New>) -> Result<()> {
        let New { item_id, thread_id, .. } = published.value()?;
        let tenant = message.tenant.as_deref();
        if find(tenant, &item_id)?.is_some()
            || waiting::find(tenant, &item_id)?.is_some()
            || taken::was_before(tenant, &item_id, message.at)?
        {
            return Ok(());
        }
        store::put(&item_key(tenant, &item_id), &Known { item_id, thread_id })?;
        emitter::to_room("/hub", &ATTENDANTS, NEW.event(), &published)
    }

    #[on_message("queue.updated")]
    fn relay_updated(published: Json<Updated>) -> Result<()> {
        published.value()?;
        UPDATED.to_room(&ATTENDANTS, &published)
    }
}

pub(crate) fn find(tenant: Option<&str>, item: &str) -> Result<Option<Item>> {
    let known: Option<Known> = store::get(&item_key(tenant, item))?;
    Ok(known.map(|Known { item_id, thread_id }| Item { item_id, thread_id }))
}

/// Deletes the item, which this plugin's own queue takes over. Returns whether it was known.
pub(crate) fn hand_over(tenant: Option<&str>, item: &str) -> Result<bool> {
    let known = find(tenant, item)?.is_some();
    if known {
        remove(tenant, item)?;
    }
    Ok(known)
}

pub(crate) fn remove(tenant: Option<&str>, item: &str) -> Result<()> {
    store::delete(&item_key(tenant, item))
}

fn item_key(tenant: Option<&str>, item: &str) -> String {
    tenant_key(tenant, ["relayed", item])
}

#[cfg(test)]
mod tests;
