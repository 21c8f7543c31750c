//! A company's dashboards: they ask for the numbers of a period, and get today's numbers after a change, at most once a second. They never
//! get numbers of another company.

use std::time::Duration;

use hubbub_sdk::{
    Refusal, Result, User,
    budget::{Answer, Budget},
    clock,
    emitter::Emits,
    plugin,
    rooms::Room,
    timers::{self, Durability, Timer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Analytics, counts};

const COMPANY: Room = Room::new("/analytics", "analytics:{id}");

const UPDATE: Emits<Metrics> = Emits::new("/analytics", "metrics:update");

/// The time for which changes are collected before an update.
const COLLECT: Duration = Duration::from_millis(200);

/// One update a second for each company, over all nodes. A change within that second is sent at its end.
const UPDATES: Budget = Budget::new("updates", 1, Duration::from_secs(1));

/// Whole UTC days, up to today.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Period {
    /// Since midnight.
    Today,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    period: Period,
    /// In both directions.
    total_messages: i64,
    /// Conversations with their first message in the period.
    total_conversations: i64,
    /// Seconds from an inbound message to the first reply; 0 without any.
    average_response_time: f64,
    /// The share of conversations that were converted, 0 to 1; 0 without any.
    conversion_rate: f64,
    timestamp: String,
}

impl Period {
    fn days(self) -> u32 {
        match self {
            Self::Today => 1,
            Self::Week => 7,
            Self::Month => 30,
        }
    }
}

#[plugin(part, namespace = "/analytics")]
#[rooms(COMPANY)]
#[emits(UPDATE)]
impl Analytics {
    #[on_connect]
    fn enter(user: &User) -> Result<()> {
        COMPANY.of(company(user)?).join()
    }

    #[on(
        "analytics:request",
        reply = "analytics:update",
        invalid = "Failed to get metrics",
        on_failure = "Failed to get metrics"
    )]
    fn request(user: &User, period: Period) -> Result<Metrics> {
        metrics_of(company(user)?, period)
    }

    /// Only changes start this timer, so these numbers differ from the last that were sent.
    #[on_timer("update:{company}")]
    fn update(timer: &Timer) -> Result<()> {
        let company = timer.param();
        let room = COMPANY.of(company);
        if room.size()?.sockets == 0 {
            return Ok(());
        }
        match UPDATES.take(company)? {
            Answer::Taken(_) => UPDATE.to_room(&room, &metrics_of(company, Period::Today)?),
            Answer::RetryAfter(wait) => update_after(company, wait),
        }
    }
}

/// Sends today's numbers soon, because they have changed.
pub(crate) fn changed(company: &str) -> Result<()> {
    update_after(company, COLLECT)
}

fn update_after(company: &str, delay: Duration) -> Result<()> {
    timers::after(&format!("update:{company}"), delay, &(), Durability::Soft)
}

fn metrics_of(company: &str, period: Period) -> Result<Metrics> {
    let sums = counts::sums(company, period.days())?;
    Ok(Metrics {
        period,
        total_messages: sums.messages,
        total_conversations: sums.conversations,
        average_response_time: ratio(sums.waited_ms, sums.replies) / 1000.0,
        conversion_rate: ratio(sums.converted, sums.conversations),
        timestamp: clock::rfc3339(clock::now()),
    })
}

fn ratio(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn company(user: &User) -> Result<&str> {
    user.tenant.as_deref().ok_or_else(|| Refusal::unauthenticated("Invalid or expired token"))
}

#[cfg(test)]
mod tests;
