//! What was said, newest first. Reads only: messages are written where they are said.

use hubbub_sdk::{
    Refusal, Result, User,
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

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    chat_id: Id,
    /// `nextBefore` of the page before.
    before: Option<Id>,
    /// 1–100; 50 where it is absent.
    limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    chat_id: Id,
    messages: Vec<Message>,
    /// Absent where there is no older message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
}

/// Where a chat's messages are, in the order in which the room saw them.
pub(super) fn prefix(chat: &str) -> String {
    key(["messages", chat, ""])
}

pub(crate) fn page(user: &User, Asked { chat_id, before, limit }: Asked) -> Result<Page> {
    participants::find(&chat_id, &user.id)?.ok_or_else(not_authorized)?;
    let prefix = prefix(&chat_id);
    let limit = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    let before = before.map(|before| position(&before).map(|digits| format!("{prefix}{digits}"))).transpose()?;
    let mut scan = store::prefix(&prefix).reverse();
    if let Some(before) = &before {
        scan = scan.before(before);
    }
    // One more than asked for, to know whether there is an older one.
    let mut entries = scan.read::<Message>(limit + 1)?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let last = entries.last().filter(|_| more);
    Ok(Page {
        next_before: last.map(|entry| entry.key[prefix.len()..].to_owned()),
        messages: entries.into_iter().map(|entry| entry.value).collect(),
        chat_id,
    })
}

fn position(before: &str) -> Result<&str> {
    if before.len() == POSITION_DIGITS && before.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(before);
    }
    Err(Refusal::invalid("before: must be nextBefore of another page"))
}
