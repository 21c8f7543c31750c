//! How far a lesson was watched. A player reports every few seconds; storage must never be written for each: at most one write in
//! a window of time, a user and a lesson, and the last report of the window is the one that is kept.

use std::time::Duration;

use hubbub_sdk::{
    Refusal, Result, User, clock,
    payload::Id,
    store::{self, tenant_key},
    timers::{self, Durability},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest window. A report that waits is in one node's memory: this much of watching is lost with it.
const MAX_WINDOW_SECONDS: u64 = 3600;

/// How long after a write the next one may follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    ms: u64,
}

impl Window {
    pub(crate) fn of_seconds(seconds: u64) -> Result<Self, String> {
        if seconds > MAX_WINDOW_SECONDS {
            return Err(format!("configuration key save_every_seconds: must be at most {MAX_WINDOW_SECONDS}"));
        }
        Ok(Self { ms: seconds * 1000 })
    }

    /// The rest of the window that a write opened; none where the next may follow. A write more than a window ahead was made before
    /// the clock was set back, and opens no window.
    fn left_after(self, write: u64) -> Option<Duration> {
        let now = clock::now();
        let left = write.saturating_add(self.ms).saturating_sub(now);
        (left > 0 && write <= now.saturating_add(self.ms)).then(|| Duration::from_millis(left.min(self.ms)))
    }
}

/// What a player reports, in seconds.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Watched {
    lesson_id: Id,
    watched_duration: f64,
    total_duration: f64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    lesson_id: Id,
    /// Whole per cent, 0–100.
    progress: u8,
    /// Whether it is stored. False while it waits for the end of the window.
    saved: bool,
}

/// A report with whose it is, as it waits.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    user_id: String,
    lesson_id: Id,
    #[serde(flatten)]
    position: Position,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    watched_duration: f64,
    total_duration: f64,
    progress: u8,
    /// At least that of the stored report, also after the clock was set back: a later report never has an earlier time.
    reported_at: u64,
}

impl Position {
    /// Not older, and not the same: a timer may come twice, and two reports in one millisecond.
    fn is_news_after(&self, last: &Self) -> bool {
        self != last && self.reported_at >= last.reported_at
    }
}

/// A report as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    #[serde(flatten)]
    position: Position,
    saved_at: u64,
}

pub(crate) fn report(user: &User, watched: Watched, window: Window) -> Result<Progress> {
    let Watched { lesson_id, watched_duration, total_duration } = watched;
    let progress = per_cent(watched_duration, total_duration)?;
    let position = Position { watched_duration, total_duration, progress, reported_at: clock::now() };
    let mut report = Report { tenant: user.tenant.clone(), user_id: user.id.clone(), lesson_id, position };
    let last = last(&report)?;
    let before = last.as_ref().map_or(0, |last| last.position.reported_at);
    report.position.reported_at = report.position.reported_at.max(before);
    let saved = save_or_wait(&report, last, window)?;
    Ok(Progress { lesson_id: report.lesson_id, progress, saved })
}

/// The end of a window. Another node may have written meanwhile: what is newer stays, and what is not waits again. A timer that
/// comes early comes because the server stops, and what would wait now would be lost.
pub(crate) fn window_ended(due: u64, report: Report, window: Window) -> Result<()> {
    let last = last(&report)?;
    if last.as_ref().is_some_and(|last| !report.position.is_news_after(&last.position)) {
        return Ok(());
    }
    if clock::now() < due { save(&report) } else { save_or_wait(&report, last, window).map(drop) }
}

/// Whether it was saved. The last write was read, so of two reports at once one is saved and the other runs again, and waits.
fn save_or_wait(report: &Report, last: Option<Saved>, window: Window) -> Result<bool> {
    if let Some(left) = last.and_then(|last| window.left_after(last.saved_at)) {
        // Soft: a durable timer is itself a write.
        timers::after(&timer(report), left, report, Durability::Soft)?;
        return Ok(false);
    }
    // What still waits is older.
    timers::cancel(&timer(report))?;
    save(report)?;
    Ok(true)
}

fn save(report: &Report) -> Result<()> {
    Ok(store::put(&stored(report), &Saved { position: report.position, saved_at: clock::now() })?)
}

fn per_cent(watched: f64, total: f64) -> Result<u8> {
    if !(total.is_finite() && total > 0.0) {
        return Err(Refusal::invalid("totalDuration: must be more than 0"));
    }
    if !(watched.is_finite() && watched >= 0.0) {
        return Err(Refusal::invalid("watchedDuration: must be 0 or more"));
    }
    Ok((100.0 * watched / total).floor().clamp(0.0, 100.0) as u8)
}

fn last(report: &Report) -> Result<Option<Saved>> {
    Ok(store::get(&stored(report))?)
}

fn stored(report: &Report) -> String {
    tenant_key(report.tenant.as_deref(), ["progress", &report.user_id, &report.lesson_id])
}

/// The host keeps the timers of two tenants apart. Names are shorter than store keys, so nothing is escaped here; the length keeps two pairs of ids apart.
fn timer(Report { user_id, lesson_id, .. }: &Report) -> String {
    format!("progress:{}:{user_id}:{lesson_id}", user_id.len())
}

#[cfg(test)]
mod tests;
