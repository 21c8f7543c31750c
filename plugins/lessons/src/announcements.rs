//! What instructors announce, to everyone in the course's rooms. Nothing is stored: who is not connected reads it from the
//! product.

use hubbub_sdk::{Message, Result, clock, emitter::Emits, payload::PublishedId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enrolments;

pub(crate) const EVERYWHERE: Emits<Announcement> = Emits::new(enrolments::EVERYWHERE, "announcement:new");
pub(crate) const IN_COURSE: Emits<Announcement> = Emits::new("/course/{id}", "announcement:new");

/// `announcement.created`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Announced {
    course_id: PublishedId,
    instructor: Instructor,
    title: String,
    content: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Announcement {
    id: String,
    course_id: PublishedId,
    instructor: Instructor,
    title: String,
    content: String,
    created_at: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Instructor {
    name: String,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    image: Option<String>,
}

pub(crate) fn announced(message: &Message, announced: Announced) -> Result<()> {
    let Announced { course_id, instructor, title, content } = announced;
    let (room, namespace) = (enrolments::room(&course_id), enrolments::namespace(&course_id));
    let created_at = clock::rfc3339(message.at);
    let announcement = Announcement { id: message.id.clone(), course_id, instructor, title, content, created_at };
    EVERYWHERE.to_room(&room, &announcement)?;
    if let Some(namespace) = namespace {
        IN_COURSE.within(&namespace).to_room(&room, &announcement)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
