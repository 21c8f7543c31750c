//! Counters for each company and UTC day. Messages add to the counters and never read them, so that messages of one company never
//! conflict; a message reads only the keys of its own conversation.

use hubbub_sdk::{
    Message, Refusal, Result, clock,
    payload::{Id, published_id},
    plugin,
    store::{self, key},
};
use serde::{Deserialize, Serialize};

use crate::{Analytics, dashboard};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The number of counters of a day.
const COUNTERS: u32 = 5;

const MESSAGES: &str = "messages";
const CONVERSATIONS: &str = "conversations";
const CONVERTED: &str = "converted";
const REPLIES: &str = "replies";
const WAITED_MS: &str = "waited-ms";

/// The fields of a counted message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    /// Absent if the message has a tenant.
    #[serde(default, deserialize_with = "published_id")]
    company_id: Option<Id>,
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
}

/// The sums of several days.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) messages: i64,
    pub(crate) conversations: i64,
    /// Converted ones among these conversations.
    pub(crate) converted: i64,
    pub(crate) replies: i64,
    /// The sum of the times until these replies.
    pub(crate) waited_ms: i64,
}

/// A counted conversation.
#[derive(Serialize, Deserialize)]
struct Conversation {
    /// The day of its first message. Its conversion counts on that day too, so that a period's rate is a share of its conversations.
    day: String,
    stage: Stage,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Open,
    Converted,
}

#[plugin(part)]
impl Analytics {
    /// The customer waits for a reply from the first inbound message on.
    #[on_message("message.received")]
    fn received(message: &Message, about: About) -> Result<()> {
        let company = company(message, &about)?;
        let wait = wait_key(company, &about);
        if store::get::<u64>(&wait)?.is_none() {
            store::put(&wait, &message.at)?;
        }
        count(company, &day(message.at), MESSAGES, 1)
    }

    /// A reply ends the wait, and counts on its own day.
    #[on_message("message.sent")]
    fn sent(message: &Message, about: About) -> Result<()> {
        let company = company(message, &about)?;
        let (wait, today) = (wait_key(company, &about), day(message.at));
        // The two topics are handled in parallel, so a reply may arrive after the next inbound message.
        if let Some(since) = store::get::<u64>(&wait)?.filter(|since| *since <= message.at) {
            store::delete(&wait)?;
            count(company, &today, REPLIES, 1)?;
            count(company, &today, WAITED_MS, i64::try_from(message.at - since).unwrap_or(i64::MAX))?;
        }
        count(company, &today, MESSAGES, 1)
    }

    #[on_message("conversation.upserted")]
    fn upserted(message: &Message, about: About) -> Result<()> {
        let company = company(message, &about)?;
        let key = conversation_key(company, &about);
        if store::get::<Conversation>(&key)?.is_some() {
            return Ok(());
        }
        let day = day(message.at);
        count(company, &day, CONVERSATIONS, 1)?;
        store::put(&key, &Conversation { day, stage: Stage::Open })
    }

    /// Counts once for each conversation. An unknown conversation is counted as new.
    #[on_message("conversation.converted")]
    fn converted(message: &Message, about: About) -> Result<()> {
        let company = company(message, &about)?;
        let key = conversation_key(company, &about);
        let day = match store::get::<Conversation>(&key)? {
            Some(known) if known.stage == Stage::Converted => return Ok(()),
            Some(known) => known.day,
            None => {
                let day = day(message.at);
                count(company, &day, CONVERSATIONS, 1)?;
                day
            }
        };
        count(company, &day, CONVERTED, 1)?;
        store::put(&key, &Conversation { day, stage: Stage::Converted })
    }
}

/// The sums of a number of days that ends today. One scan, which never conflicts with a message.
pub(crate) fn sums(company: &str, days: u32) -> Result<Sums> {
    let first = day(clock::now().saturating_sub(u64::from(days - 1) * DAY_MS));
    let from = key(["day", company, &first, ""]);
    // One day more, because another node's clock may be ahead.
    let counters = store::prefix(&key(["day", company, ""])).from(&from).counters((days + 1) * COUNTERS)?;
    let mut sums = Sums::default();
    for counter in counters {
        let sum = match counter.key.rsplit('/').next() {
            Some(MESSAGES) => &mut sums.messages,
            Some(CONVERSATIONS) => &mut sums.conversations,
            Some(CONVERTED) => &mut sums.converted,
            Some(REPLIES) => &mut sums.replies,
            Some(WAITED_MS) => &mut sums.waited_ms,
            _ => continue,
        };
        *sum = sum.saturating_add(counter.value);
    }
    Ok(sums)
}

fn count(company: &str, day_counted: &str, counter: &str, by: i64) -> Result<()> {
    store::add(&key(["day", company, day_counted, counter]), by)?;
    // The dashboards show only today.
    if day_counted == day(clock::now()) { dashboard::changed(company) } else { Ok(()) }
}

fn company<'a>(message: &'a Message, about: &'a About) -> Result<&'a str> {
    let company = about.company_id.as_deref().or(message.tenant.as_deref());
    company.ok_or_else(|| Refusal::invalid("companyId: missing"))
}

/// The UTC day of a time, `2025-01-01`.
fn day(unix_ms: u64) -> String {
    let mut day = clock::rfc3339(unix_ms);
    day.truncate("2025-01-01".len());
    day
}

fn wait_key(company: &str, about: &About) -> String {
    key(["wait", company, &about.conversation_id])
}

fn conversation_key(company: &str, about: &About) -> String {
    key(["conversation", company, &about.conversation_id])
}

#[cfg(test)]
mod tests;
