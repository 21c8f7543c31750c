//! That a conversation was created, updated or deleted, told to its members, however many they are. Nobody else ever hears of it.

use hubbub_sdk::{Json, Message, Result, bus, emitter::Emits, payload::Id, store};
use serde::{Deserialize, Serialize};

use crate::{
    conversations::{Conversation, NAMESPACE},
    members::Stored,
    place::{Place, Reach, USERS_OF_AN_EMIT},
};

pub(crate) const CREATED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation_created");
pub(crate) const UPDATED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation_updated");
pub(crate) const DELETED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation_deleted");

/// How much of a call's 1 MiB of effects its emits may take, and how many they may be.
const EMITTED_BYTES: usize = 512 * 1024;
const MAX_EMITS: usize = 16;

/// The most users that one message names.
const USERS_OF_A_MESSAGE: usize = 1000;

/// What has become of a conversation.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    Created,
    Updated,
    Deleted,
}

/// `conversation.told`: the plugin's own message to itself, for members that one call cannot reach.
#[derive(Serialize, Deserialize)]
pub(crate) struct Told {
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

/// Where there are more members than a call can tell, what was published is stored for the calls that tell them.
/// That one key stays when the conversation is deleted: it holds what its end was told with.
pub(crate) fn tell(place: &Place, news: News, published: &Json<Conversation>, to: &Stored) -> Result<()> {
    if to.reach() == Reach::Everyone {
        return place.to_everyone(news.event(), published);
    }
    let users: Vec<&Id> = to.listed().iter().map(|member| &member.0).collect();
    let at_once = users_of_a_call(published);
    if users.len() <= at_once {
        return place.to_users(news.event(), &users, published);
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

/// Tells what was published last, which is newer where more has happened meanwhile.
pub(crate) fn told(message: &Message, told: &Told) -> Result<()> {
    let Told { place, news, users } = told;
    if place.sent_on(message, told)? {
        return Ok(());
    }
    let Some(published) = store::get::<Json<Conversation>>(&place.key("published"))? else { return Ok(()) };
    place.to_users(news.event(), &users.iter().collect::<Vec<_>>(), &published)
}
