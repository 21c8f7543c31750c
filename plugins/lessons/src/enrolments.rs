//! Who is enrolled in which course, as the product's backend publishes it. Must never leave in a course's room who was
//! unenrolled, also where that happens while the user connects.

use hubbub_sdk::{
    Caller, Message, Refusal, Result, User,
    payload::{Id, published_id},
    rooms,
    store::{self, tenant_key},
};
use serde::Deserialize;

/// How many courses' rooms a user is in on `/`, of the 64 that a socket may have in all. Who is enrolled in more is in the rooms
/// of the first by id; what the others announce is seen in their own namespaces.
const MAX_ROOMS: u32 = 24;

/// The namespace that all courses share.
pub(crate) const EVERYWHERE: &str = "/";

/// `{courseId, userId}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enrolment {
    #[serde(deserialize_with = "published_id")]
    course_id: Id,
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
}

pub(crate) fn room(course: &str) -> String {
    format!("course:{course}")
}

/// A course's own namespace. None for an id that no namespace can end in.
pub(crate) fn namespace(course: &str) -> Option<String> {
    (!course.contains('/')).then(|| format!("/course/{course}"))
}

/// Only who is enrolled in the namespace's course passes.
pub(crate) fn check(caller: &Caller) -> Result<()> {
    if is_enrolled(caller.user()?, caller.param())? { Ok(()) } else { Err(Refusal::forbidden("Not enrolled")) }
}

/// Reads again what the door has read: an enrolment may end between the two, and then nothing is joined.
pub(crate) fn enter_course(caller: &Caller) -> Result<()> {
    if is_enrolled(caller.user()?, caller.param())? {
        rooms::join(&room(caller.param()))?;
    }
    Ok(())
}

pub(crate) fn enter_every_course(caller: &Caller) -> Result<()> {
    let Some(user) = &caller.user else { return Ok(()) };
    // A scan is not checked at commit. This read is, and changes with every enrolment: then the call runs again.
    let student = Student::of(user);
    store::counter(&student.changes())?;
    for course in student.courses(MAX_ROOMS)? {
        rooms::join(&room(&course))?;
    }
    Ok(())
}

/// Whoever is connected gets announcements at once.
pub(crate) fn enrolled(message: &Message, Enrolment { course_id, user_id }: &Enrolment) -> Result<()> {
    let student = Student { tenant: message.tenant.as_deref(), id: user_id };
    store::put(&student.enrolment(course_id), course_id)?;
    store::add(&student.changes(), 1)?;
    let room = room(course_id);
    if student.courses(MAX_ROOMS + 1)?.len() <= MAX_ROOMS as usize {
        rooms::join_user(EVERYWHERE, user_id, &room)?;
    }
    if let Some(namespace) = namespace(course_id) {
        rooms::join_user(&namespace, user_id, &room)?;
    }
    Ok(())
}

pub(crate) fn unenrolled(message: &Message, Enrolment { course_id, user_id }: &Enrolment) -> Result<()> {
    let student = Student { tenant: message.tenant.as_deref(), id: user_id };
    store::delete(&student.enrolment(course_id))?;
    store::add(&student.changes(), 1)?;
    let room = room(course_id);
    rooms::leave_user(EVERYWHERE, user_id, &room)?;
    if let Some(namespace) = namespace(course_id) {
        rooms::leave_user(&namespace, user_id, &room)?;
    }
    Ok(())
}

fn is_enrolled(user: &User, course: &str) -> Result<bool> {
    // A client names the course: what is no id is no course, and must not become a key that is too long.
    if course.len() > Id::MAX_BYTES {
        return Ok(false);
    }
    Ok(store::text(&Student::of(user).enrolment(course))?.is_some())
}

/// A user within the tenant: two tenants may each have a user of the same id.
struct Student<'a> {
    tenant: Option<&'a str>,
    id: &'a str,
}

impl<'a> Student<'a> {
    fn of(user: &'a User) -> Self {
        Self { tenant: user.tenant.as_deref(), id: &user.id }
    }

    /// The first courses, by id.
    fn courses(&self, limit: u32) -> Result<Vec<Id>> {
        let entries = store::prefix(&self.enrolment("")).read::<Id>(limit)?;
        Ok(entries.into_iter().map(|entry| entry.value).collect())
    }

    /// The value is the course's id: in the key it is escaped.
    fn enrolment(&self, course: &str) -> String {
        tenant_key(self.tenant, ["enrolled", self.id, course])
    }

    /// How often the enrolments have changed.
    fn changes(&self) -> String {
        tenant_key(self.tenant, ["changes", self.id])
    }
}

#[cfg(test)]
mod tests;
