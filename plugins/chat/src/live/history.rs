//! The stored messages of a video's chat: each for some days, in pages that anyone may read.

use hubbub_sdk::{
    Json, Result, clock,
    history::{self, Request},
    payload::Id,
    plugin,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Message;
use crate::{Chat, lms::history::find};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The expired messages that a new one deletes. More than one, so that their number shrinks.
const DELETED: u32 = 2;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PageRequest {
    video_id: Id,
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
    video_id: Id,
    messages: Vec<Json<Message>>,
    /// Absent if there is no older message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
    /// Only for `after`. Absent if there is no newer message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

/// The time of a stored message.
#[derive(Deserialize)]
struct Sent {
    timestamp: u64,
}

fn prefix(video: &str) -> String {
    key(["live", video, ""])
}

/// Stores a message, and deletes expired ones of the same video.
pub(super) fn store(days: u32, message: &Message, json: &Json<Message>) -> Result<()> {
    if days == 0 {
        return Ok(());
    }
    let (prefix, now) = (prefix(&message.video_id), clock::now());
    store::append(&prefix, json)?;
    for old in store::prefix(&prefix).read::<Sent>(DELETED)? {
        // A time in the future is one from before the clock was set back. It is deleted when the clock has reached it.
        if old.value.timestamp.saturating_add(u64::from(days) * DAY_MS) <= now {
            store::delete(&old.key)?;
        }
    }
    Ok(())
}

#[plugin(part, namespace = "/")]
impl Chat {
    #[on("chat:history", reply)]
    fn history_live(PageRequest { video_id, before, after, limit }: PageRequest) -> Result<Page> {
        let prefix = prefix(&video_id);
        let page = Request { before, after, limit }.read(&prefix, |id| find(&prefix, id))?;
        let history::Page { messages, next_before, next_after } = page;
        Ok(Page { video_id, messages, next_before, next_after })
    }
}

#[cfg(test)]
mod tests;
