//! Histories: the stored messages of a conversation, read in pages. A page runs from the newest message down, from a known message down
//! (`before`), or from a known message up (`after`), so that a client fills a gap of any length.
//!
//! The messages are written by [`store::append`], so a page has them in the order in which the room received them. Pages are read
//! without a check for conflicts. A page has at most 100 messages (default: 50) and [`MAX_BYTES`], and at least one message if there is
//! one.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    Json, Refusal, Result,
    payload::{Id, PublishedId},
    store::{self, key},
};

/// The most messages of a page, and their number if the client asks for none.
const MAX_PAGE: u32 = 100;
const DEFAULT_PAGE: u32 = 50;

/// The most bytes of a page's messages. A reply is sent as the event and as the acknowledgement, and a call has 1 MiB of effects.
pub const MAX_BYTES: usize = 384 << 10;

/// The digits that [`store::append`] adds to the prefix: a message's position.
const POSITION_DIGITS: usize = 20;

/// The host's limit of a key.
const MAX_KEY: usize = 512;

/// The entries that a search for an id reads at once.
const SEARCHED: u32 = 32;

/// The page that a client asks for.
#[derive(Debug, Default)]
pub struct Request {
    /// `nextBefore` of the last page, or a message's id: the page begins with the next older message.
    pub before: Option<Id>,
    /// `nextAfter` of the last page, or a message's id: the page begins with the next newer message.
    pub after: Option<Id>,
    /// 1–100. Default: 50.
    pub limit: Option<u32>,
}

/// A page of messages as they are stored.
#[derive(Debug)]
pub struct Page<T> {
    /// Oldest first if the client asked for `after`, else newest first.
    pub messages: Vec<Json<T>>,
    /// The position of the last message, if there are older ones. Absent for `after`.
    pub next_before: Option<String>,
    /// The position of the last message, if there are newer ones. Only for `after`.
    pub next_after: Option<String>,
}

impl Request {
    /// Reads the page of the messages that were appended with this prefix. `find` returns the whole key of the message with an id. An
    /// unknown id, and both keys at once, are `invalid`.
    pub fn read<T>(self, prefix: &str, find: impl FnOnce(&str) -> Result<Option<String>>) -> Result<Page<T>> {
        let limit = self.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        let all = store::prefix(prefix);
        // One more than asked for shows whether there is a further one.
        let mut entries = match (&self.before, &self.after) {
            (Some(_), Some(_)) => return Err(Refusal::invalid("before, after: only one of them may be given")),
            (None, None) => all.reverse().read::<Json<T>>(limit + 1)?,
            (Some(before), None) => {
                let known = known(prefix, "before", before, find)?;
                all.before(&known).reverse().read(limit + 1)?
            }
            (None, Some(after)) => {
                let above = above(&known(prefix, "after", after, find)?);
                all.from(&above).read(limit + 1)?
            }
        };
        let mut bytes = 0;
        let fits = entries.iter().take(limit as usize).take_while(|entry| {
            bytes += entry.value.text().len();
            bytes <= MAX_BYTES
        });
        let kept = fits.count().max(1);
        let more = entries.len() > kept;
        entries.truncate(kept);
        let next = entries.last().filter(|_| more).map(|entry| entry.key[prefix.len()..].to_owned());
        let (next_before, next_after) = if self.after.is_some() { (None, next) } else { (next, None) };
        Ok(Page { messages: entries.into_iter().map(|entry| entry.value).collect(), next_before, next_after })
    }
}

/// The whole key of a position or of a message's id.
fn known(prefix: &str, field: &str, id: &str, find: impl FnOnce(&str) -> Result<Option<String>>) -> Result<String> {
    if id.len() == POSITION_DIGITS && id.bytes().all(|byte| byte.is_ascii_digit()) {
        let key = format!("{prefix}{id}");
        if store::text(&key)?.is_some() {
            return Ok(key);
        }
    }
    find(id)?.ok_or_else(|| Refusal::invalid(format!("{field}: unknown id")))
}

/// A key between the key of a position and that of the next one.
fn above(key: &str) -> String {
    format!("{key}0")
}

/// The messages of one conversation, with an index of their ids, which may be of any kind: a backend's ids have no order.
///
/// ```
/// use hubbub_sdk::{Result, history::{Log, Request}, store};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Said { id: String, text: String }
///
/// fn say(room: &str, said: &Said) -> Result<()> {
///     Log::new(&store::key(["rooms", room, ""])).append(&said.id, said)
/// }
///
/// fn newest(room: &str) -> Result<usize> {
///     let page = Log::new(&store::key(["rooms", room, ""])).read::<Said>(Request::default())?;
///     Ok(page.messages.len())
/// }
/// ```
#[derive(Debug)]
pub struct Log {
    messages: String,
    ids: String,
}

/// A stored message has at least an `id`.
#[derive(Deserialize)]
struct Named {
    id: PublishedId,
}

impl Log {
    /// The log with keys `{prefix}messages/…` and `{prefix}ids/…`. The prefix ends with `/`.
    pub fn new(prefix: &str) -> Self {
        Self { messages: format!("{prefix}messages/"), ids: format!("{prefix}ids/") }
    }

    /// Whether a message with this id was appended.
    pub fn has(&self, id: &str) -> Result<bool> {
        Ok(self.position_below(id)?.is_some())
    }

    /// Stores a message, which has the field `id`. Two writes; calls that append to the same log never conflict.
    ///
    /// The message's own position is known only at commit. The index holds the position of the newest message before it, which is at
    /// most as many messages away as calls are handled at the same time.
    pub fn append<T: Serialize + ?Sized>(&self, id: &str, message: &T) -> Result<()> {
        let newest = store::prefix(&self.messages).reverse().read::<IgnoredAny>(1)?;
        let position = newest.first().map_or("", |entry| &entry.key[self.messages.len()..]);
        if let Some(key) = self.id_key(id) {
            store::put(&key, position)?;
        }
        store::append(&self.messages, message)
    }

    /// Reads a page.
    pub fn read<T>(&self, request: Request) -> Result<Page<T>> {
        request.read(&self.messages, |id| self.find(id))
    }

    fn find(&self, id: &str) -> Result<Option<String>> {
        let Some(position) = self.position_below(id)? else { return Ok(None) };
        let mut from = format!("{}{position}", self.messages);
        loop {
            let entries = store::prefix(&self.messages).from(&from).read::<Named>(SEARCHED)?;
            if let Some(found) = entries.iter().find(|entry| **entry.value.id.id() == *id) {
                return Ok(Some(found.key.clone()));
            }
            match entries.last() {
                Some(last) if entries.len() == SEARCHED as usize => from = above(&last.key),
                _ => return Ok(None),
            }
        }
    }

    /// A position below that of the message with this id: empty for the first message, absent if the id is unknown.
    fn position_below(&self, id: &str) -> Result<Option<String>> {
        self.id_key(id).map_or(Ok(None), |key| store::get(&key))
    }

    /// The key of an id in the index. A key over the host's limit is never stored.
    fn id_key(&self, id: &str) -> Option<String> {
        let whole = format!("{}{}", self.ids, key([id]));
        (whole.len() <= MAX_KEY).then_some(whole)
    }
}
