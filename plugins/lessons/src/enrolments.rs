//! The enrolments of users in courses, as the product's backend publishes them. A user that is unenrolled leaves the course's rooms, also
//! if that happens while the user connects.

use hubbub_sdk::{
    Caller, Message, Refusal, Result, User,
    payload::{Id, published_id},
    plugin, rooms,
    store::{self, tenant_key},
};
use serde::Deserialize;

use crate::{COURSE, Lessons};

/// The most courses with a room for a user in `/`, of the 64 rooms of a socket. A user of more courses is in the rooms of the first by
/// id, and gets the announcements of the others in their own namespaces.
const MAX_ROOMS: u32 = 24;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enrolment {
    #[serde(deserialize_with = "published_id")]
    course_id: Id,
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
}

#[plugin(part)]
#[tenant_keys("enrolled/")]
#[tenant_keys("changes/")]
impl Lessons {
    #[authorize("/course/{id}")]
    fn only_enrolled_users(caller: &Caller, user: &User) -> Result<()> {
        check(caller, user)
    }

    /// Checks again: if the enrolment has ended since `authorize`, the user joins no room.
    #[on_connect("/course/{id}")]
    fn enter_course(caller: &Caller, user: &User) -> Result<()> {
        if is_enrolled(user, caller.param())? { COURSE.of(caller.param()).join() } else { Ok(()) }
    }

    #[on_connect("/")]
    fn enter_every_course(user: Option<&User>) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        // The scan is not checked at commit. This read is, and every enrolment changes its counter: then the call runs again.
        let student = Student::of(user);
        store::counter(&student.changes())?;
        student.courses(MAX_ROOMS)?.iter().try_for_each(|course| COURSE.of(course).join())
    }

    /// The user's connected sockets join at once.
    #[on_message("course.enrolled")]
    fn enrolled(message: &Message, Enrolment { course_id, user_id }: Enrolment) -> Result<()> {
        let student = Student { tenant: message.tenant.as_deref(), id: &user_id };
        store::put(&student.enrolment(&course_id), &course_id)?;
        store::add(&student.changes(), 1)?;
        let has_room = student.courses(MAX_ROOMS + 1)?.len() <= MAX_ROOMS as usize;
        let namespaces = namespaces(&course_id).into_iter().skip(if has_room { 0 } else { 1 });
        namespaces.into_iter().try_for_each(|namespace| rooms::join_user(&namespace, &user_id, &COURSE.of(&course_id)))
    }

    #[on_message("course.unenrolled")]
    fn unenrolled(message: &Message, Enrolment { course_id, user_id }: Enrolment) -> Result<()> {
        let student = Student { tenant: message.tenant.as_deref(), id: &user_id };
        store::delete(&student.enrolment(&course_id))?;
        store::add(&student.changes(), 1)?;
        let namespaces = namespaces(&course_id);
        namespaces.iter().try_for_each(|namespace| rooms::leave_user(namespace, &user_id, &COURSE.of(&course_id)))
    }
}

/// The namespaces in which a course has a room: `/`, then its own, unless its id cannot end a namespace.
pub(crate) fn namespaces(course: &str) -> Vec<String> {
    let own = (!course.contains('/')).then(|| format!("/course/{course}"));
    std::iter::once("/".to_owned()).chain(own).collect()
}

/// Refuses a user that is not enrolled in the namespace's course.
pub(crate) fn check(caller: &Caller, user: &User) -> Result<()> {
    if is_enrolled(user, caller.param())? { Ok(()) } else { Err(Refusal::forbidden("Not enrolled")) }
}

fn is_enrolled(user: &User, course: &str) -> Result<bool> {
    // The course's id comes from a client, and must not make a key that is too long.
    if course.len() > Id::MAX_BYTES {
        return Ok(false);
    }
    Ok(store::text(&Student::of(user).enrolment(course))?.is_some())
}

/// A user within a tenant. Users of two tenants may have equal ids.
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

    /// The key of an enrolment. Its value is the course's id, which is escaped in the key.
    fn enrolment(&self, course: &str) -> String {
        tenant_key(self.tenant, ["enrolled", self.id, course])
    }

    /// The key of the number of changes of the user's enrolments.
    fn changes(&self) -> String {
        tenant_key(self.tenant, ["changes", self.id])
    }
}

#[cfg(test)]
mod tests;
