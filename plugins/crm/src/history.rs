//! The messages of a conversation, in pages, for the users of its company. A conversation's log holds ids, because a message may be edited
//! or deleted after it was sent. The id of a deleted message stays in the log, so that a client can ask for the messages after it.

use hubbub_sdk::{
    Json, Result, User,
    history::{self, Log, MAX_BYTES, Request},
    payload::Id,
    plugin,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Crm,
    conversations::{company, is_known, not_found},
    messages::{New, Stored, message_key},
};

/// The messages that are read at once: an inbound message may have 256 KiB.
const READ: usize = 20;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PageRequest {
    conversation_id: Id,
    /// `nextBefore` of the last page, or a message's id.
    before: Option<Id>,
    /// `nextAfter` of the last page, or a message's id: messages run from the oldest up.
    after: Option<Id>,
    /// 1–100. Default: 50.
    limit: Option<u32>,
}

/// It has fewer messages than asked for if some of them were deleted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Page {
    conversation_id: Id,
    messages: Vec<New>,
    /// Absent if there is no older message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
    /// Only for `after`. Absent if there is no newer message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

/// An entry of a conversation's log.
#[derive(Serialize, Deserialize)]
struct Logged {
    id: String,
}

fn log(company: &str, conversation: &str) -> Log {
    Log::new(&key(["crm", company, "history", conversation, ""]))
}

/// Adds a new message to the conversation's log.
pub(crate) fn append(company: &str, conversation: &str, id: &str) -> Result<()> {
    log(company, conversation).append(id, &Logged { id: id.to_owned() })
}

#[plugin(part, namespace = "/conversations")]
impl Crm {
    #[on("message:history", reply)]
    fn history(user: &User, request: PageRequest) -> Result<Page> {
        let PageRequest { conversation_id, before, after, limit } = request;
        let company = company(user)?;
        if !is_known(company, &conversation_id)? {
            return Err(not_found());
        }
        let is_after = after.is_some();
        let page = log(company, &conversation_id).read::<Logged>(Request { before, after, limit })?;
        let history::Page { messages: logged, mut next_before, mut next_after } = page;
        let ids = logged.iter().map(|one| Ok(one.value()?.id)).collect::<Result<Vec<String>>>()?;
        let (messages, cut) = read(company, &ids)?;
        if cut.is_some() {
            *(if is_after { &mut next_after } else { &mut next_before }) = cut;
        }
        Ok(Page { conversation_id, messages, next_before, next_after })
    }
}

/// The messages of these ids that are not deleted. If they have too many bytes for one page, the page is cut, and the last id of the page
/// is returned.
fn read(company: &str, ids: &[String]) -> Result<(Vec<New>, Option<String>)> {
    let (mut messages, mut bytes, mut last) = (Vec::new(), 0, None);
    for ids in ids.chunks(READ) {
        let keys: Vec<_> = ids.iter().map(|id| message_key(company, id)).collect();
        for (id, stored) in ids.iter().zip(store::get_many::<Json<Stored>>(&keys)?) {
            if let Some(stored) = stored {
                bytes += stored.text().len();
                if bytes > MAX_BYTES && !messages.is_empty() {
                    return Ok((messages, last));
                }
                messages.push(stored.value()?.into_new(id.clone()));
            }
            last = Some(id.clone());
        }
    }
    Ok((messages, None))
}

#[cfg(test)]
mod tests;
