//! Conversations as a product's backend publishes them. One with a member list is for its members, one without is for everyone in the
//! tenant; no other user joins its room or gets its events. Payloads are sent to clients as published.

use hubbub_sdk::{
    Json, Message, Refusal, Result, User,
    emitter::Emits,
    payload::{Id, PublishedId, published_id},
    plugin, store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Conversations, NAMESPACE, members, messages,
    news::{self, News},
    place::{self, EVERYONE, Place},
};

const TYPING: Emits<UserTyping> = Emits::new(NAMESPACE, "typing");

#[derive(Deserialize, JsonSchema)]
struct ConversationId {
    conversation_id: Id,
}

/// A conversation as published. Further fields are sent to clients too.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Conversation {
    id: PublishedId,
    /// Absent in an update: the list stays. A conversation that never had a list is for everyone in the tenant.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    members: Option<Vec<Id>>,
    #[serde(flatten)]
    _tenant: Tenant,
}

/// The fields from which the host reads a message's tenant. A field that is not an id is refused here, because the host would deliver the
/// message without a tenant.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Tenant {
    #[serde(rename = "tenant", skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    _tenant: Option<Id>,
    #[serde(rename = "companyId", skip_serializing_if = "Option::is_none", default, deserialize_with = "published_id")]
    _company_id: Option<Id>,
}

#[derive(Serialize, JsonSchema)]
struct UserTyping {
    conversation_id: Id,
    user_id: String,
    user_name: String,
}

#[plugin(part, namespace = "/")]
#[emits(TYPING)]
impl Conversations {
    /// Visitors join no room.
    #[on_connect]
    fn enter(user: Option<&User>) -> Result<()> {
        if user.is_some() { EVERYONE.join() } else { Ok(()) }
    }

    #[on("join_conversation")]
    fn join(user: &User, ConversationId { conversation_id }: ConversationId) -> Result<()> {
        let (place, stored) = Place::of_user(user, &conversation_id)?;
        place.room(stored.audience()).join()
    }

    #[on("leave_conversation")]
    fn leave(_user: &User, ConversationId { conversation_id }: ConversationId) -> Result<()> {
        place::rooms_of(&conversation_id).iter().try_for_each(|room| room.leave())
    }

    /// Sends to the room that the user has joined. Storage is not read.
    #[on("typing")]
    fn typing(user: &User, ConversationId { conversation_id }: ConversationId) -> Result<()> {
        for room in place::rooms_of(&conversation_id) {
            if room.joined()? {
                let user_name = user.display_name().to_owned();
                let typing = UserTyping { conversation_id, user_id: user.id.clone(), user_name };
                return TYPING.except_caller().volatile().to_room(&room, &typing);
            }
        }
        Err(not_authorized())
    }

    #[on_message("conversation.created")]
    fn conversation_created(message: &Message, conversation: Json<Conversation>) -> Result<()> {
        upsert(message, &conversation, News::Created)
    }

    #[on_message("conversation.updated")]
    fn conversation_updated(message: &Message, conversation: Json<Conversation>) -> Result<()> {
        upsert(message, &conversation, News::Updated)
    }

    /// The deletion of an unknown conversation is sent to the members in the message, or to everyone in the tenant if it lists none.
    #[on_message("conversation.deleted")]
    fn conversation_deleted(message: &Message, published: Json<Conversation>) -> Result<()> {
        let Conversation { id, members, .. } = published.value()?;
        let place = Place::published(id.id(), message);
        let Some(stored) = place.stored()? else {
            let named = members::replaced(&place, None, id, members)?;
            return news::send(&place, News::Deleted, &published, &named);
        };
        news::send(&place, News::Deleted, &published, &stored)?;
        messages::delete_all(&place)?;
        store::delete(&place.key("conversation"))?;
        members::remove(&place, stored.without(None))
    }
}

/// `conversation.created` and `conversation.updated`, which may arrive in any order.
fn upsert(message: &Message, published: &Json<Conversation>, news: News) -> Result<()> {
    let Conversation { id, members, .. } = published.value()?;
    let place = Place::published(id.id(), message);
    let before = place.stored()?;
    let stored = members::replaced(&place, before.as_ref(), id, members)?;
    if before.as_ref() != Some(&stored) {
        place.put(&stored)?;
    }
    news::send(&place, news, published, &stored)?;
    match before {
        Some(before) => members::remove(&place, before.without(Some(&stored))),
        None => Ok(()),
    }
}

pub(crate) fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}
