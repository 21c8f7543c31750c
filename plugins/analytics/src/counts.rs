//! What is counted, a company and UTC day at a time. Counters are only added to, never read here, so that a company's messages
//! never wait for each other; what a message does read is its own conversation's.

use hubbub_sdk::{
    Message, Refusal, Result, clock,
    payload::{Id, published_id},
    store::{self, key},
};
use serde::{Deserialize, Serialize};

use crate::dashboard;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How many counters a day has at most.
const FIGURES: u32 = 5;

const MESSAGES: &str = "messages";
const CONVERSATIONS: &str = "conversations";
const CONVERTED: &str = "converted";
const REPLIES: &str = "replies";
const WAITED_MS: &str = "waited-ms";

/// What every message counted here tells of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    /// Absent where the message itself names the tenant.
    #[serde(default, deserialize_with = "published_id")]
    company_id: Option<Id>,
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
}

/// The sums of some days.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) messages: i64,
    pub(crate) conversations: i64,
    /// Of those conversations.
    pub(crate) converted: i64,
    pub(crate) replies: i64,
    /// How long those replies were waited for, together.
    pub(crate) waited_ms: i64,
}

/// A conversation that was counted.
#[derive(Serialize, Deserialize)]
struct Conversation {
    /// When it was first seen. Its conversion counts then too, so that a period's rate is a share of its conversations.
    day: String,
    stage: Stage,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Open,
    Converted,
}

/// An inbound message: somebody waits from now on, or does already.
pub(crate) fn received(message: &Message, about: &About) -> Result<()> {
    let company = company(message, about)?;
    let wait = wait_key(company, about);
    if store::get::<u64>(&wait)?.is_none() {
        store::put(&wait, &message.at)?;
    }
    count(company, &day(message.at), MESSAGES, 1)
}

/// A reply: the wait is over. It counts on the day of the reply.
pub(crate) fn sent(message: &Message, about: &About) -> Result<()> {
    let company = company(message, about)?;
    let (wait, today) = (wait_key(company, about), day(message.at));
    // The two topics are handled side by side: a reply to what came before may be late.
    if let Some(since) = store::get::<u64>(&wait)?.filter(|since| *since <= message.at) {
        store::delete(&wait)?;
        count(company, &today, REPLIES, 1)?;
        count(company, &today, WAITED_MS, i64::try_from(message.at - since).unwrap_or(i64::MAX))?;
    }
    count(company, &today, MESSAGES, 1)
}

pub(crate) fn upserted(message: &Message, about: &About) -> Result<()> {
    let company = company(message, about)?;
    let key = conversation_key(company, about);
    if store::get::<Conversation>(&key)?.is_some() {
        return Ok(());
    }
    let day = day(message.at);
    count(company, &day, CONVERSATIONS, 1)?;
    Ok(store::put(&key, &Conversation { day, stage: Stage::Open })?)
}

/// Once a conversation. One that nobody has told of is new.
pub(crate) fn converted(message: &Message, about: &About) -> Result<()> {
    let company = company(message, about)?;
    let key = conversation_key(company, about);
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
    Ok(store::put(&key, &Conversation { day, stage: Stage::Converted })?)
}

/// The sums of so many days, today with them, in one read that never makes a message wait.
pub(crate) fn sums(company: &str, days: u32) -> Result<Sums> {
    let first = day(clock::now().saturating_sub(u64::from(days - 1) * DAY_MS));
    let from = key(["day", company, &first, ""]);
    // A day more: another node's clock may be ahead.
    let counters = store::prefix(&key(["day", company, ""])).from(&from).counters((days + 1) * FIGURES)?;
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

fn count(company: &str, day_counted: &str, figure: &str, by: i64) -> Result<()> {
    store::add(&key(["day", company, day_counted, figure]), by)?;
    // The dashboards show today: an older day's number is no news.
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
