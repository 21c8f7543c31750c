//! Conversations as a product's backend publishes them: with a member list for its members, without one for everyone in the tenant.
//! Nobody else ever gets into one's room or hears of it. Payloads are passed on as published.

use hubbub_sdk::{
    Caller, Json, Message, Refusal, Result, User,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    rooms, store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    members, messages,
    news::{self, News},
    place::{self, EVERYONE, Place},
};

pub(crate) const NAMESPACE: &str = "/";

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
    #[serde(flatten)]
    _tenant: Tenant,
}

/// Where a message names its tenant, which the host reads before the plugin is called. One that is no id is refused here: the
/// message would be taken for one without a tenant.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Tenant {
    #[serde(rename = "tenant", skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    _tenant: Option<Id>,
    #[serde(rename = "companyId", skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    _company_id: Option<Id>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct UserTyping {
    conversation_id: Id,
    user_id: String,
    user_name: String,
}

pub(crate) fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}

/// On connect: where what is for everyone in the tenant will reach this socket. Visitors hear nothing of teams.
pub(crate) fn enter(caller: &Caller) -> Result<()> {
    if caller.user.is_none() {
        return Ok(());
    }
    Ok(rooms::join(EVERYONE)?)
}

/// `conversation.created` and `conversation.updated`, which may come in any order.
pub(crate) fn upserted(message: &Message, published: &Json<Conversation>, news: News) -> Result<()> {
    let Conversation { id, members, .. } = published.value()?;
    let place = Place::published(id.id(), message);
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
    let Conversation { id, members, .. } = published.value()?;
    let place = Place::published(id.id(), message);
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

pub(crate) fn leave(conversation: &ConversationId) -> Result<()> {
    for room in place::rooms_of(&conversation.conversation_id) {
        rooms::leave(&room)?;
    }
    Ok(())
}

/// Straight to the room that the user has joined: no store, no bus.
pub(crate) fn typing(user: &User, ConversationId { conversation_id }: ConversationId) -> Result<()> {
    for room in place::rooms_of(&conversation_id) {
        if rooms::joined(&room)? {
            let user_name = user.display_name().to_owned();
            let typing = UserTyping { conversation_id, user_id: user.id.clone(), user_name };
            return Ok(TYPING.except_caller().volatile().to_room(&room, &typing)?);
        }
    }
    Err(not_authorized())
}
