//! A user's progress in a lesson. A player reports every few seconds. Reports are stored with a trailing throttle: at most one write in a
//! window of time for each user and lesson, and the last report of the window is stored at its end.

use std::time::Duration;

use hubbub_sdk::{
    Caller, Refusal, Result, User, clock,
    payload::Id,
    plugin,
    store::{self, tenant_key},
    timers::{self, Durability, Timer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Lessons, enrolments};

/// The longest window. A waiting report is in the memory of one node, and is lost if that node dies.
const MAX_WINDOW_SECONDS: u64 = 3600;

/// The time from one write to the next.
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

    /// The rest of the window after a write; absent if the next write may follow. A write that is more than a window in the future was
    /// made before the clock was set back, and is ignored.
    fn left_after(self, write: u64) -> Option<Duration> {
        let now = clock::now();
        let left = write.saturating_add(self.ms).saturating_sub(now);
        (left > 0 && write <= now.saturating_add(self.ms)).then(|| Duration::from_millis(left.min(self.ms)))
    }
}

/// A player's report, in seconds.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Watched {
    lesson_id: Id,
    watched_duration: f64,
    total_duration: f64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Progress {
    lesson_id: Id,
    /// Per cent, 0–100.
    progress: u8,
    /// Whether the report is stored. False if it waits for the end of the window.
    saved: bool,
}

/// A waiting report and its user.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
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
    /// Never earlier than that of the stored report, also after the clock was set back.
    reported_at: u64,
}

impl Position {
    /// Whether it is newer. Two reports may have the same millisecond, and a timer may run twice.
    fn is_newer_than(&self, last: &Self) -> bool {
        self != last && self.reported_at >= last.reported_at
    }
}

/// A stored report.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    #[serde(flatten)]
    position: Position,
    saved_at: u64,
}

#[plugin(part, namespace = "/")]
#[tenant_keys("progress/")]
impl Lessons {
    #[on("lesson:progress", reply)]
    fn progress(&self, user: &User, watched: Watched) -> Result<Progress> {
        report_progress(user, watched, self.window)
    }

    #[on("lesson:progress", namespace = "/course/{id}", reply)]
    fn progress_in_course(&self, caller: &Caller, user: &User, watched: Watched) -> Result<Progress> {
        enrolments::check(caller, user)?;
        report_progress(user, watched, self.window)
    }

    #[on_timer("progress:{lesson}")]
    fn window_ended(&self, timer: &Timer, report: Report) -> Result<()> {
        end_window(timer.due, &report, self.window)
    }
}

fn report_progress(user: &User, watched: Watched, window: Window) -> Result<Progress> {
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

/// Stores a report at the end of its window. Another node may have stored one meanwhile: a newer one stays, and an older one makes this
/// report wait again. A timer that runs early runs because the server stops, and then waiting would lose the report.
fn end_window(due: u64, report: &Report, window: Window) -> Result<()> {
    let last = last(report)?;
    if last.as_ref().is_some_and(|last| !report.position.is_newer_than(&last.position)) {
        return Ok(());
    }
    if clock::now() < due { save(report) } else { save_or_wait(report, last, window).map(drop) }
}

/// Stores the report or starts its timer. Returns whether it was stored. The last write was read, so of two reports at the same time one
/// is stored; the other call runs again and starts the timer.
fn save_or_wait(report: &Report, last: Option<Saved>, window: Window) -> Result<bool> {
    if let Some(left) = last.and_then(|last| window.left_after(last.saved_at)) {
        // Soft, because a durable timer is itself a write.
        timers::after(&timer(report), left, report, Durability::Soft)?;
        return Ok(false);
    }
    // A report that still waits is older.
    timers::cancel(&timer(report))?;
    save(report)?;
    Ok(true)
}

fn save(report: &Report) -> Result<()> {
    store::put(&stored(report), &Saved { position: report.position, saved_at: clock::now() })
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
    store::get(&stored(report))
}

fn stored(report: &Report) -> String {
    tenant_key(report.tenant.as_deref(), ["progress", &report.user_id, &report.lesson_id])
}

/// The timer's key. The host keeps the timers of tenants apart. Names of timers are shorter than store keys, so nothing is escaped; the
/// length keeps two pairs of ids apart.
fn timer(Report { user_id, lesson_id, .. }: &Report) -> String {
    format!("progress:{}:{user_id}:{lesson_id}", user_id.len())
}

#[cfg(test)]
mod tests;
