//! The stored conversation and its member list. A user that is taken off the list leaves the room at once.

use std::collections::{BTreeMap, BTreeSet};

use hubbub_sdk::{
    Message, Refusal, Result, bus,
    payload::{Id, PublishedId},
    plugin, store,
};
use serde::{Deserialize, Serialize};

use crate::{
    Conversations, messages,
    place::{Audience, Place},
    unread,
};

/// The most members of a conversation. A message with a longer list, or one of over 256 KiB, becomes a dead letter.
const MAX_MEMBERS: usize = 5000;

/// The most users that one call removes, with two effects each. The others follow in messages.
const LEAVES: usize = 50;

/// A stored conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// As the backend wrote it.
    pub(crate) id: PublishedId,
    /// Absent: everyone in the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<Member>>,
}

/// A member, and the number of messages before the member was added, which are never unread. A tuple, because a list may hold thousands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member(pub(crate) Id, pub(crate) u64);

/// `conversation.dismissed`: the plugin's message to itself.
#[derive(Serialize, Deserialize)]
struct Dismissed {
    place: Place,
    users: Vec<Id>,
}

impl Stored {
    pub(crate) fn audience(&self) -> Audience {
        if self.members.is_some() { Audience::Members } else { Audience::Everyone }
    }

    pub(crate) fn listed(&self) -> &[Member] {
        self.members.as_deref().unwrap_or_default()
    }

    pub(crate) fn member(&self, user: &str) -> Option<&Member> {
        self.listed().iter().find(|member| *member.0 == *user)
    }

    /// Whether a user takes part: a member, or any user if there is no list.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.audience() == Audience::Everyone || self.member(user).is_some()
    }

    /// The members that are not in `after`.
    pub(crate) fn without(&self, after: Option<&Self>) -> Vec<Id> {
        let stay: BTreeSet<&Id> = after.into_iter().flat_map(Self::listed).map(|member| &member.0).collect();
        self.listed().iter().map(|member| &member.0).filter(|user| !stay.contains(user)).cloned().collect()
    }
}

/// The conversation to store after an upsert. An update without a list keeps the old list: without it, everyone could read messages
/// that were meant for a few.
pub(crate) fn replaced(place: &Place, before: Option<&Stored>, id: PublishedId, list: Option<Vec<Id>>) -> Result<Stored> {
    let Some(list) = list else {
        return Ok(Stored { id, members: before.and_then(|before| before.members.clone()) });
    };
    let known: BTreeMap<&Id, u64> =
        before.into_iter().flat_map(Stored::listed).map(|Member(user, since)| (user, *since)).collect();
    // The messages of a new conversation may arrive before it, and are unread then.
    let now = if before.is_some() { messages::total(place)? } else { 0 };
    let mut members = Vec::with_capacity(list.len());
    let mut listed = BTreeSet::new();
    for user in list {
        if listed.insert(user.clone()) {
            let since = known.get(&user).copied().unwrap_or(now);
            members.push(Member(user, since));
        }
    }
    if members.len() > MAX_MEMBERS {
        return Err(Refusal::invalid(format!("members: more than {MAX_MEMBERS}")));
    }
    Ok(Stored { id, members: Some(members) })
}

/// The users leave the room, and their read marks are deleted.
pub(crate) fn remove(place: &Place, users: Vec<Id>) -> Result<()> {
    if users.len() <= LEAVES {
        return users.iter().try_for_each(|user| remove_one(place, user));
    }
    for users in users.chunks(LEAVES) {
        bus::publish_keyed("conversation.dismissed", place.id(), &Dismissed { place: place.clone(), users: users.to_vec() })?;
    }
    Ok(())
}

#[plugin(part)]
impl Conversations {
    /// A user that was added again meanwhile stays.
    #[on_message("conversation.dismissed")]
    fn dismissed(message: &Message, dismissed: Dismissed) -> Result<()> {
        let Dismissed { place, users } = &dismissed;
        if place.republished(message, &dismissed)? {
            return Ok(());
        }
        let stored = place.stored()?;
        let back = |user: &Id| stored.as_ref().is_some_and(|stored| stored.member(user).is_some());
        users.iter().take(LEAVES).filter(|user| !back(user)).try_for_each(|user| remove_one(place, user))
    }
}

fn remove_one(place: &Place, user: &Id) -> Result<()> {
    place.room(Audience::Members).leave_user(user)?;
    store::delete(&unread::marks_key(place, user))
}
