//! A company's dashboards: its numbers when asked, and today's again when they have changed. Never a number of another company,
//! nor more than one update a second, whatever a company's traffic.

use std::time::Duration;

use hubbub_sdk::{
    Refusal, Result, User,
    budget::{Answer, Budget},
    clock,
    emitter::Emits,
    rooms,
    timers::{self, Durability},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::counts;

const NAMESPACE: &str = "/analytics";

pub(crate) const UPDATE: Emits<Metrics> = Emits::new(NAMESPACE, "metrics:update");

/// How long changes are collected before an update tells of them.
const COLLECT: Duration = Duration::from_millis(200);

/// One update a second and company, over all nodes. A change within it is told when it has passed.
const UPDATES: Budget = Budget::new("updates", 1, Duration::from_secs(1));

/// Whole UTC days, today with them.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Period {
    /// Since midnight.
    Today,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metrics {
    period: Period,
    /// In both directions.
    total_messages: i64,
    /// First seen in the period.
    total_conversations: i64,
    /// Seconds from an inbound message to the first reply; 0 without any.
    average_response_time: f64,
    /// How much of the conversations was converted, 0 to 1; 0 without any.
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

pub(crate) fn enter(user: &User) -> Result<()> {
    Ok(rooms::join(&room(company(user)?))?)
}

pub(crate) fn request(user: &User, period: Period) -> Result<Metrics> {
    metrics(company(user)?, period)
}

/// Today's numbers are others now.
pub(crate) fn changed(company: &str) -> Result<()> {
    update_after(company, COLLECT)
}

/// The timer is started by changes alone, so these numbers are others than the last that were sent.
pub(crate) fn update(company: &str) -> Result<()> {
    let room = room(company);
    if rooms::size(NAMESPACE, &room)?.sockets == 0 {
        return Ok(());
    }
    match UPDATES.take(company)? {
        Answer::Taken(_) => Ok(UPDATE.to_room(&room, &metrics(company, Period::Today)?)?),
        Answer::RetryAfter(wait) => update_after(company, wait),
    }
}

fn update_after(company: &str, delay: Duration) -> Result<()> {
    Ok(timers::after(&format!("update:{company}"), delay, &(), Durability::Soft)?)
}

fn metrics(company: &str, period: Period) -> Result<Metrics> {
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

fn room(company: &str) -> String {
    format!("analytics:{company}")
}

#[cfg(test)]
mod tests;
