//! The events for created, updated and deleted conversations, sent to all members of a conversation and to no other user.

use hubbub_sdk::{Json, Message, Result, bus, emitter::Emits, payload::Id, plugin, store};
use serde::{Deserialize, Serialize};

use crate::{
    Conversations, NAMESPACE,
    conversations::Conversation,
    members::Stored,
    place::{self, Audience, EVERYONE, Place, USERS_OF_AN_EMIT},
};

const CREATED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation_created");
const UPDATED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation_updated");
const DELETED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation_deleted");

/// The most bytes of a call's emits, of its 1 MiB of effects, and their most number.
const EMITTED_BYTES: usize = 512 * 1024;
const MAX_EMITS: usize = 16;

/// The most users in one message.
const USERS_OF_A_MESSAGE: usize = 1000;

/// A change of a conversation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    Created,
    Updated,
    Deleted,
}

/// `conversation.told`: the plugin's message to itself, for members that one call cannot reach.
#[derive(Serialize, Deserialize)]
struct Told {
    place: Place,
    news: News,
    users: Vec<Id>,
}

impl News {
    fn event(self) -> Emits<Json<Conversation>> {
        match self {
            Self::Created => CREATED,
            Self::Updated => UPDATED,
            Self::Deleted => DELETED,
        }
    }
}

#[plugin(part, namespace = "/")]
#[emits(CREATED, UPDATED, DELETED)]
impl Conversations {
    /// Sends the data that was published last, which may be newer than the change.
    #[on_message("conversation.told")]
    fn conversation_told(message: &Message, told: Told) -> Result<()> {
        let Told { place, news, users } = &told;
        if place.republished(message, &told)? {
            return Ok(());
        }
        let Some(published) = store::get::<Json<Conversation>>(&place.key("published"))? else { return Ok(()) };
        place::to_users(news.event(), &users.iter().collect::<Vec<_>>(), &published)
    }
}

/// Sends a change. If one call cannot reach all members, the published data is stored for the calls that do. Its key stays after the
/// conversation is deleted, because those calls send the deletion.
pub(crate) fn send(place: &Place, news: News, published: &Json<Conversation>, to: &Stored) -> Result<()> {
    if to.audience() == Audience::Everyone {
        return news.event().to_room(&EVERYONE, published);
    }
    let users: Vec<&Id> = to.listed().iter().map(|member| &member.0).collect();
    let at_once = users_of_a_call(published);
    if users.len() <= at_once {
        return place::to_users(news.event(), &users, published);
    }
    store::put(&place.key("published"), published)?;
    for users in users.chunks(at_once) {
        let users = users.iter().map(|user| (*user).clone()).collect();
        bus::publish_keyed("conversation.told", place.id(), &Told { place: place.clone(), news, users })?;
    }
    Ok(())
}

fn users_of_a_call(published: &Json<Conversation>) -> usize {
    let emits = (EMITTED_BYTES / published.text().len().max(1)).clamp(1, MAX_EMITS);
    USERS_OF_A_MESSAGE.min(emits * USERS_OF_AN_EMIT)
}
