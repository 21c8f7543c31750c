//! Announcements of instructors, sent to the course's rooms. Nothing is stored here: the product shows them to users that were not
//! connected.

use hubbub_sdk::{Message, Result, clock, emitter::Emits, payload::PublishedId, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BOTH, COURSE, Lessons, enrolments};

const NEW: Emits<Announcement> = Emits::in_each(BOTH, "announcement:new");

/// `announcement.created`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Announced {
    course_id: PublishedId,
    instructor: Instructor,
    title: String,
    content: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Announcement {
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

#[plugin(part)]
#[emits(NEW)]
impl Lessons {
    #[on_message("announcement.created")]
    fn announced(message: &Message, announced: Announced) -> Result<()> {
        let Announced { course_id, instructor, title, content } = announced;
        let namespaces = enrolments::namespaces(&course_id);
        let (room, created_at) = (COURSE.of(&course_id), clock::rfc3339(message.at));
        let announcement = Announcement { id: message.id.clone(), course_id, instructor, title, content, created_at };
        namespaces.iter().try_for_each(|namespace| NEW.within(namespace).to_room(&room, &announcement))
    }
}

#[cfg(test)]
mod tests;
