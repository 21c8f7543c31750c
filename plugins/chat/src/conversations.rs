//! Conversations of a team in `/`, as a product's backend publishes them: with a member list for its members, without one for
//! everyone in the tenant. Nobody else ever gets into one's room or hears of it. Payloads are passed on as published.

use hubbub_sdk::{
    Caller, Json, Message, Refusal, Result, User,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    rooms, store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    news::News,
    place::{EVERYONE, Place, tenant_of},
};
use crate::tenants;

pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod news;
mod place;
pub(crate) mod unread;

const NAMESPACE: &str = "/";

pub(crate) const TYPING: Emits<UserTyping> = Emits::new(NAMESPACE, "typing");

/// `{conversation_id}`, from a client: a string.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ConversationId {
    conversation_id: Id,
}

/// A conversation as published, with whatever else it carries.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Conversation {
    id: PublishedId,
    /// Absent: an update leaves the list as it is, and one that never had a list is for everyone in the tenant.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    members: Option<Vec<Id>>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    tenant: Option<Id>,
    #[serde(rename = "companyId", skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    company_id: Option<Id>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct UserTyping {
    conversation_id: Id,
    user_id: String,
    user_name: String,
}

fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}

/// On connect: where what is for a whole team, or for one member of it, will reach this socket. Visitors hear nothing of teams.
pub(crate) fn enter(caller: &Caller) -> Result<()> {
    let Some(user) = &caller.user else { return Ok(()) };
    match tenant_of(user) {
        Some(tenant) => Ok(rooms::join(&tenants::room("member", tenant, &user.id))?),
        None => Ok(rooms::join(EVERYONE)?),
    }
}

/// `conversation.created` and `conversation.updated`, which may come in any order.
pub(crate) fn upserted(message: &Message, published: &Json<Conversation>, news: News) -> Result<()> {
    let Conversation { id, members, tenant, company_id } = published.value()?;
    let place = Place::published(id.id(), tenant.or(company_id), message);
    let before = place.stored()?;
    let stored = members::replaced(&place, before.as_ref(), id, members)?;
    if before.as_ref() != Some(&stored) {
        place.put(&stored)?;
    }
    news::tell(&place, news, published, &stored)?;
    match before {
        Some(before) => members::dismiss(&place, before.without(Some(&stored))),
        None => Ok(()),
    }
}

/// The deletion of an unknown conversation is sent to the members that the message names, else to everyone in the tenant.
pub(crate) fn deleted(message: &Message, published: &Json<Conversation>) -> Result<()> {
    let Conversation { id, members, tenant, company_id } = published.value()?;
    let place = Place::published(id.id(), tenant.or(company_id), message);
    let Some(stored) = place.stored()? else {
        let named = members::replaced(&place, None, id, members)?;
        return news::tell(&place, News::Deleted, published, &named);
    };
    news::tell(&place, News::Deleted, published, &stored)?;
    messages::forget(&place)?;
    store::delete(&place.key("conversation"))?;
    members::dismiss(&place, stored.without(None))
}

pub(crate) fn join(user: &User, conversation: &ConversationId) -> Result<()> {
    let (place, stored) = Place::of_user(user, &conversation.conversation_id)?;
    Ok(rooms::join(&place.room(stored.reach()))?)
}

pub(crate) fn leave(user: &User, conversation: &ConversationId) -> Result<()> {
    for room in place::rooms_of(user, &conversation.conversation_id) {
        rooms::leave(&room)?;
    }
    Ok(())
}

/// Straight to the room that the user has joined: no store, no bus.
pub(crate) fn typing(user: &User, ConversationId { conversation_id }: ConversationId) -> Result<()> {
    for room in place::rooms_of(user, &conversation_id) {
        if rooms::joined(&room)? {
            let user_name = user.display_name().to_owned();
            let typing = UserTyping { conversation_id, user_id: user.id.clone(), user_name };
            return Ok(TYPING.except_caller().volatile().to_room(&room, &typing)?);
        }
    }
    Err(not_authorized())
}

#[cfg(test)]
mod tests;
