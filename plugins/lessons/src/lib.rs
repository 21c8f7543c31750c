//! Lessons: who is enrolled in which course, what instructors announce there, and how far each lesson was watched. This page is
//! the list of what clients may say and what happens then; it must never hold a rule of its own.

mod announcements;
mod enrolments;
mod progress;

use hubbub_sdk::{Caller, Message, Result, Timer, plugin};
use serde::Deserialize;

/// The operator's settings, `[plugins.lessons.config]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Seconds between two stored writes of a user's progress in a lesson. 0: every report is written.
    save_every_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { save_every_seconds: 30 }
    }
}

/// The plugin: its settings, and nothing that changes.
pub struct Lessons {
    window: progress::Window,
}

#[plugin(name = "lessons")]
#[tenant_keys("enrolled/")]
#[tenant_keys("changes/")]
#[tenant_keys("progress/")]
#[door("/course/{id}", token = "required", missing = "Authentication error", invalid = "Invalid token")]
#[namespace("/")]
#[room("/", "course:{id}")]
#[room("/course/{id}", "course:{id}")]
#[emits(announcements::EVERYWHERE, announcements::IN_COURSE)]
impl Lessons {
    fn init(config: Config) -> Result<Self, String> {
        Ok(Self { window: progress::Window::of_seconds(config.save_every_seconds)? })
    }

    #[authorize("/course/{id}")]
    fn may_enter(caller: &Caller) -> Result<()> {
        enrolments::check(caller)
    }

    #[on_connect("/course/{id}")]
    fn enter_course(caller: &Caller) -> Result<()> {
        enrolments::enter_course(caller)
    }

    #[on_connect("/")]
    fn enter(caller: &Caller) -> Result<()> {
        enrolments::enter_every_course(caller)
    }

    #[on("lesson:progress", namespace = "/", reply)]
    fn progress(&self, caller: &Caller, watched: progress::Watched) -> Result<progress::Progress> {
        progress::report(caller.user_or("Authentication error")?, watched, self.window)
    }

    #[on("lesson:progress", namespace = "/course/{id}", reply)]
    fn progress_in_course(&self, caller: &Caller, watched: progress::Watched) -> Result<progress::Progress> {
        enrolments::check(caller)?;
        progress::report(caller.user()?, watched, self.window)
    }

    #[on_timer("progress:{lesson}")]
    fn save_progress(&self, timer: &Timer, report: progress::Report) -> Result<()> {
        progress::window_ended(timer.due, report, self.window)
    }

    #[on_message("course.enrolled")]
    fn enrolled(message: &Message, enrolment: enrolments::Enrolment) -> Result<()> {
        enrolments::enrolled(message, &enrolment)
    }

    #[on_message("course.unenrolled")]
    fn unenrolled(message: &Message, enrolment: enrolments::Enrolment) -> Result<()> {
        enrolments::unenrolled(message, &enrolment)
    }

    #[on_message("announcement.created")]
    fn announced(message: &Message, announced: announcements::Announced) -> Result<()> {
        announcements::announced(message, announced)
    }
}
