//! What was said, newest first. Reads only: messages are written where they are said.

use hubbub_sdk::{
    Json, Refusal, Result, User,
    payload::Id,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Message, not_authorized};
use crate::participants;

/// The most messages of a page, and how many there are where the client does not say.
const MAX_PAGE: u32 = 100;
const DEFAULT_PAGE: u32 = 50;

/// The digits that `store::append` puts behind the prefix.
const POSITION_DIGITS: usize = 20;

/// How many messages of one chat may be on their way at the same time.
const ON_THEIR_WAY: u32 = 100;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    chat_id: Id,
    /// `nextBefore` of the page before, or a message's id.
    before: Option<Id>,
    /// 1–100; 50 where it is absent.
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    chat_id: Id,
    messages: Vec<Json<Message>>,
    /// Absent where there is no older message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
}

/// Where a chat's messages are, in the order in which the room saw them.
pub(super) fn prefix(chat: &str) -> String {
    key(["messages", chat, ""])
}

pub(crate) fn page(user: &User, Asked { chat_id, before, limit }: Asked) -> Result<Page> {
    participants::find(&chat_id, user.tenant.as_deref(), &user.id)?.ok_or_else(not_authorized)?;
    let prefix = prefix(&chat_id);
    let limit = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let before = before.map(|before| key_before(&prefix, &before)).transpose()?;
    let mut scan = store::prefix(&prefix).reverse();
    if let Some(before) = &before {
        scan = scan.before(before);
    }
    // One more than asked for, to know whether there is an older one.
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

/// The key that `before` means: a position of `nextBefore`, or a message's id.
fn key_before(prefix: &str, before: &str) -> Result<String> {
    if before.len() == POSITION_DIGITS && before.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(format!("{prefix}{before}"));
    }
    find(prefix, before)?.ok_or_else(|| Refusal::not_found("Message not found"))
}

/// The key of a message, found by halving: ids grow with the time at which a message was begun, keys with the time at which it
/// was stored. The two orders differ only among messages that were on their way together, so the last step looks around.
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
    let around = store::prefix(prefix).from(&middle).read::<Named>(ON_THEIR_WAY)?.into_iter();
    let around = around.chain(store::prefix(prefix).before(&middle).reverse().read(ON_THEIR_WAY)?);
    Ok(around.into_iter().find(|entry| entry.value.id == id).map(|entry| entry.key))
}

#[derive(Deserialize)]
struct Named {
    id: String,
}
