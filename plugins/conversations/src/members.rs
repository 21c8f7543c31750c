//! A conversation as it is stored: who its members are. Who is no longer one leaves its room at once.

use std::collections::{BTreeMap, BTreeSet};

use hubbub_sdk::{
    Message, Refusal, Result, bus,
    payload::{Id, PublishedId},
    rooms, store,
};
use serde::{Deserialize, Serialize};

use crate::{
    conversations::NAMESPACE,
    messages,
    place::{Place, Reach},
    unread,
};

/// The most members of a conversation. A longer list, or one of over 256 KiB, is a failure: the message is buried.
const MAX_MEMBERS: usize = 5000;

/// How many leave in one call, at two effects each. The others follow in messages.
const LEAVES: usize = 50;

/// What is stored of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// As the backend writes it.
    pub(crate) id: PublishedId,
    /// Absent: everyone in the tenant. Short names, for there may be thousands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<Member>>,
}

/// A member, and how many messages there were before: none of those is unread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member(pub(crate) Id, pub(crate) u64);

/// `conversation.dismissed`: the plugin's own message to itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Dismissed {
    place: Place,
    users: Vec<Id>,
}

impl Stored {
    pub(crate) fn reach(&self) -> Reach {
        if self.members.is_some() { Reach::Members } else { Reach::Everyone }
    }

    pub(crate) fn listed(&self) -> &[Member] {
        self.members.as_deref().unwrap_or_default()
    }

    pub(crate) fn member(&self, user: &str) -> Option<&Member> {
        self.listed().iter().find(|member| *member.0 == *user)
    }

    /// Whether a user takes part: a member, or anyone where there is no list.
    pub(crate) fn has(&self, user: &str) -> bool {
        self.reach() == Reach::Everyone || self.member(user).is_some()
    }

    /// The members that `after` does not have.
    pub(crate) fn without(&self, after: Option<&Self>) -> Vec<Id> {
        let stay: BTreeSet<&Id> = after.into_iter().flat_map(Self::listed).map(|member| &member.0).collect();
        self.listed().iter().map(|member| &member.0).filter(|user| !stay.contains(user)).cloned().collect()
    }
}

/// What is stored after an upsert. A list once given is never taken back by an update that leaves it out: that would open what
/// was said among few to everyone.
pub(crate) fn replaced(place: &Place, before: Option<&Stored>, id: PublishedId, list: Option<Vec<Id>>) -> Result<Stored> {
    let Some(list) = list else {
        return Ok(Stored { id, members: before.and_then(|before| before.members.clone()) });
    };
    let known: BTreeMap<&Id, u64> =
        before.into_iter().flat_map(Stored::listed).map(|Member(user, since)| (user, *since)).collect();
    // A message may overtake the conversation it is the first of, and is unread all the same.
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

/// They leave the room, and what they have read is forgotten.
pub(crate) fn dismiss(place: &Place, users: Vec<Id>) -> Result<()> {
    if users.len() <= LEAVES {
        return users.iter().try_for_each(|user| dismiss_one(place, user));
    }
    for users in users.chunks(LEAVES) {
        bus::publish_keyed("conversation.dismissed", place.id(), &Dismissed { place: place.clone(), users: users.to_vec() })?;
    }
    Ok(())
}

/// Who was let in again meanwhile stays.
pub(crate) fn dismissed(message: &Message, dismissed: &Dismissed) -> Result<()> {
    let Dismissed { place, users } = dismissed;
    if place.sent_on(message, dismissed)? {
        return Ok(());
    }
    let stored = place.stored()?;
    let back = |user: &Id| stored.as_ref().is_some_and(|stored| stored.member(user).is_some());
    users.iter().take(LEAVES).filter(|user| !back(user)).try_for_each(|user| dismiss_one(place, user))
}

fn dismiss_one(place: &Place, user: &Id) -> Result<()> {
    rooms::leave_user(NAMESPACE, user, &place.room(Reach::Members))?;
    Ok(store::delete(&unread::marks_key(place, user))?)
}
