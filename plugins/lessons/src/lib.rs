//! Lessons: the enrolments of courses, the announcements of instructors, and each user's progress in a lesson.

mod announcements;
mod enrolments;
mod progress;

use hubbub_sdk::{plugin, rooms::Room};
use serde::Deserialize;

/// The operator's settings, `[plugins.lessons.config]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Seconds between two writes of a user's progress in a lesson. 0: every report is written.
    save_every_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { save_every_seconds: 30 }
    }
}

/// The namespace of all courses, and those of single courses.
const BOTH: &[&str] = &["/", "/course/{id}"];

/// The users of a course.
const COURSE: Room = Room::in_each(BOTH, "course:{id}");

/// The plugin, with its settings.
pub struct Lessons {
    window: progress::Window,
}

#[plugin(name = "lessons")]
#[door("/course/{id}", token = "required", missing = "Authentication error", invalid = "Invalid token")]
#[namespace("/", missing = "Authentication error")]
#[rooms(COURSE)]
#[parts(enrolments, progress, announcements)]
impl Lessons {
    fn init(config: Config) -> Result<Self, String> {
        Ok(Self { window: progress::Window::of_seconds(config.save_every_seconds)? })
    }
}
