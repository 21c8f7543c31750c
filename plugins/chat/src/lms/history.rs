//! The stored messages of a chat, newest first. This file only reads; `lms` writes.

use hubbub_sdk::{
    Json, Refusal, Result, User,
    payload::Id,
    plugin,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Message, not_authorized};
use crate::{Chat, participants};

/// The most messages of a page, and their number if the client asks for none.
const MAX_PAGE: u32 = 100;
const DEFAULT_PAGE: u32 = 50;

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
}

/// The prefix of a chat's messages, which are stored in the order in which the room received them.
pub(super) fn prefix(chat: &str) -> String {
    key(["messages", chat, ""])
}

#[plugin(part, namespace = "/chat")]
impl Chat {
    #[on("chat:history", reply)]
    fn history(user: &User, PageRequest { chat_id, before, limit }: PageRequest) -> Result<Page> {
        participants::find(&chat_id, user)?.ok_or_else(not_authorized)?;
        let prefix = prefix(&chat_id);
        let limit = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        let before = before.map(|before| key_before(&prefix, &before)).transpose()?;
        let mut scan = store::prefix(&prefix).reverse();
        if let Some(before) = &before {
            scan = scan.before(before);
        }
        // One more than asked for shows whether there is an older one.
        let mut entries = scan.read::<Json<Message>>(limit + 1)?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let last = entries.last().filter(|_| more);
        Ok(Page {
            next_before: last.map(|entry| entry.key[prefix.len()..].to_owned()),
            messages: entries.into_iter().map(|entry| entry.value).collect(),
            chat_id,
        })
    }
}

/// The key for `before`: a position of `nextBefore`, or a message's id.
fn key_before(prefix: &str, before: &str) -> Result<String> {
    if before.len() == POSITION_DIGITS && before.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(format!("{prefix}{before}"));
    }
    find(prefix, before)?.ok_or_else(|| Refusal::not_found("Message not found"))
}

/// Finds the key of a message by binary search. Ids are in the order in which calls began, keys in the order in which they were
/// committed. These orders differ only among concurrent calls, so the last step looks at the messages around.
fn find(prefix: &str, id: &str) -> Result<Option<String>> {
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
