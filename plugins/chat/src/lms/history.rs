//! The stored messages of a chat, in pages. This file only reads; `lms` writes.

use hubbub_sdk::{
    Json, Result, User,
    history::{self, Request},
    payload::Id,
    plugin,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Message, not_authorized};
use crate::{Chat, participants};

/// The digits that `store::append` adds to the prefix.
const POSITION_DIGITS: usize = 20;

/// The most messages of one chat that are handled at the same time.
const CONCURRENT: u32 = 100;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PageRequest {
    chat_id: Id,
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
    chat_id: Id,
    messages: Vec<Json<Message>>,
    /// Absent if there is no older message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
    /// Only for `after`. Absent if there is no newer message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

/// The prefix of a chat's messages, which are stored in the order in which the room received them.
pub(super) fn prefix(chat: &str) -> String {
    key(["messages", chat, ""])
}

#[plugin(part, namespace = "/chat")]
impl Chat {
    #[on("chat:history", reply)]
    fn history(user: &User, PageRequest { chat_id, before, after, limit }: PageRequest) -> Result<Page> {
        participants::find(&chat_id, user)?.ok_or_else(not_authorized)?;
        let prefix = prefix(&chat_id);
        let page = Request { before, after, limit }.read(&prefix, |id| find(&prefix, id))?;
        let history::Page { messages, next_before, next_after } = page;
        Ok(Page { chat_id, messages, next_before, next_after })
    }
}

/// Finds the key of a message by binary search. Ids are in the order in which calls began, keys in the order in which they were
/// committed. These orders differ only among concurrent calls, so the last step looks at the messages around.
pub(crate) fn find(prefix: &str, id: &str) -> Result<Option<String>> {
    let at = |position: u128| format!("{prefix}{position:0POSITION_DIGITS$}");
    let (mut low, mut high) = (0, 10u128.pow(POSITION_DIGITS as u32));
    while low < high {
        let middle = u128::midpoint(low, high);
        match store::prefix(prefix).from(&at(middle)).read::<Named>(1)?.first() {
            Some(next) if *next.value.id < *id => low = next.key[prefix.len()..].parse().unwrap_or(middle) + 1,
            _ => high = middle,
        }
    }
    let middle = at(low);
    let around = store::prefix(prefix).from(&middle).read::<Named>(CONCURRENT)?.into_iter();
    let around = around.chain(store::prefix(prefix).before(&middle).reverse().read(CONCURRENT)?);
    Ok(around.into_iter().find(|entry| entry.value.id == id).map(|entry| entry.key))
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[cfg(test)]
mod tests;
