//! The stored messages of a thread, in pages, for users that may join it.

use hubbub_sdk::{
    Caller, Json, Result, User,
    history::{self, Log, Request},
    payload::Id,
    plugin,
    rooms::Room,
    store::tenant_key,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{MESSAGE, Message, Threads, check_access};

/// The most bytes of a stored message, so that a hundred of them fit the memory of a call. Only a backend's message may have more; it is
/// sent, and not stored.
const MAX_BYTES: usize = 64 << 10;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PageRequest {
    thread_id: Id,
    /// `nextBefore` of the last page, or a message's id.
    before: Option<Id>,
    /// `nextAfter` of the last page, or a message's id: messages run from the oldest up.
    after: Option<Id>,
    /// 1–100. Default: 50.
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Page {
    thread_id: Id,
    messages: Vec<Json<Message>>,
    /// Absent if there is no older message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
    /// Only for `after`. Absent if there is no newer message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

/// The messages of a thread, under the thread's own key.
fn log(tenant: Option<&str>, thread: &str) -> Log {
    Log::new(&tenant_key(tenant, ["threads", thread, ""]))
}

pub(crate) fn store_and_send(tenant: Option<&str>, room: &Room, message: &Message) -> Result<()> {
    let (log, json) = (log(tenant, &message.thread_id), Json::of(message)?);
    if json.text().len() <= MAX_BYTES && !log.has(&message.id)? {
        log.append(&message.id, &json)?;
    }
    MESSAGE.to_room(room, &json)
}

#[plugin(part, namespaces = ["/hub", "/portal"])]
impl Threads {
    #[on("thread:history", reply)]
    fn history(caller: &Caller, user: &User, request: PageRequest) -> Result<Page> {
        let PageRequest { thread_id, before, after, limit } = request;
        check_access(caller, user, &thread_id)?;
        let page = log(user.tenant.as_deref(), &thread_id).read(Request { before, after, limit })?;
        let history::Page { messages, next_before, next_after } = page;
        Ok(Page { thread_id, messages, next_before, next_after })
    }
}

#[cfg(test)]
mod tests;
