//! The number of messages of a conversation that a member has not read. It is computed from the messages' numbers and the member's read
//! marks: a message writes nothing for each member, and reading it twice changes nothing.

use std::collections::BTreeMap;

use hubbub_sdk::{
    Message, Result, bus,
    emitter::Emits,
    payload::{Id, PublishedId},
    plugin, store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Conversations, NAMESPACE,
    members::{Member, Stored},
    messages::{REMEMBERED, remembered_all, total},
    place::{self, Place},
};

/// The most members that one call sends counts to, because each count may differ. The others follow in messages.
const SENT: usize = 200;

const UNREAD: Emits<Count> = Emits::new(NAMESPACE, "unread_count");

#[derive(Serialize, JsonSchema)]
struct Count {
    conversation_id: PublishedId,
    /// At most 1000: an older message counts as read.
    unread_count: u64,
}

/// `conversation.unread`: the plugin's message to itself.
#[derive(Serialize, Deserialize)]
struct Unread {
    place: Place,
    users: Vec<Id>,
}

/// The numbers of the messages that a member has read or written: sorted ranges that do not touch, both ends included. Only the last
/// `REMEMBERED` numbers matter, so there are at most half as many ranges.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Marks(Vec<(u64, u64)>);

impl Marks {
    fn of(place: &Place, user: &str) -> Result<Self> {
        Ok(store::get(&marks_key(place, user))?.unwrap_or_default())
    }

    /// Stores the marks without those at or below the floor, where every message counts as read.
    fn put(&mut self, place: &Place, user: &str, floor: u64) -> Result<()> {
        self.0.retain(|(_, end)| *end > floor);
        store::put(&marks_key(place, user), self)
    }

    fn insert(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, end)| end + 1 < number);
        // The ranges that hold or touch the number: none, one, or two.
        let beside = self.0[at..].iter().take_while(|(start, _)| *start <= number + 1).count();
        let joined =
            self.0.drain(at..at + beside).fold((number, number), |(low, high), (start, end)| (low.min(start), high.max(end)));
        self.0.insert(at, joined);
    }

    fn unread(&self, floor: u64, total: u64) -> u64 {
        let read = self.0.iter().map(|(start, end)| end.saturating_sub(floor.max(start - 1))).sum();
        total.saturating_sub(floor).saturating_sub(read)
    }
}

#[plugin(part, namespace = "/")]
#[emits(UNREAD)]
impl Conversations {
    /// Sends the members' current counts.
    #[on_message("conversation.unread")]
    fn send_unread(message: &Message, unread: Unread) -> Result<()> {
        let Unread { place, users } = &unread;
        if place.republished(message, &unread)? {
            return Ok(());
        }
        let Some(stored) = place.stored()? else { return Ok(()) };
        let members: Vec<&Member> = users.iter().take(SENT).filter_map(|user| stored.member(user)).collect();
        send(place, &stored, &members)
    }
}

pub(crate) fn marks_key(place: &Place, user: &str) -> String {
    place.key_of("read", user)
}

/// The number up to which every message counts as read.
fn floor(member: &Member, total: u64) -> u64 {
    member.1.max(total.saturating_sub(REMEMBERED))
}

/// A new message is unread for every member except its author.
pub(crate) fn count_message(place: &Place, stored: &Stored, author: Option<&Id>, number: u64) -> Result<()> {
    if let Some(author) = author.and_then(|author| stored.member(author)) {
        let mut marks = Marks::of(place, &author.0)?;
        marks.insert(number);
        marks.put(place, &author.0, floor(author, number))?;
    }
    let others: Vec<&Member> = stored.listed().iter().filter(|member| Some(&member.0) != author).collect();
    let (now, later) = others.split_at(others.len().min(SENT));
    send(place, stored, now)?;
    for members in later.chunks(SENT) {
        let users = members.iter().map(|member| member.0.clone()).collect();
        bus::publish_keyed("conversation.unread", place.id(), &Unread { place: place.clone(), users })?;
    }
    Ok(())
}

/// Sends the members' counts, with one emit for members with equal counts.
fn send(place: &Place, stored: &Stored, members: &[&Member]) -> Result<()> {
    let total = total(place)?;
    let mut counts: BTreeMap<u64, Vec<&Id>> = BTreeMap::new();
    let keys: Vec<_> = members.iter().map(|member| marks_key(place, &member.0)).collect();
    for (member, marks) in members.iter().zip(store::get_many::<Marks>(&keys)?) {
        let unread = marks.unwrap_or_default().unread(floor(member, total), total);
        counts.entry(unread).or_default().push(&member.0);
    }
    for (unread_count, users) in counts {
        place::to_users(UNREAD, &users, &Count { conversation_id: stored.id.clone(), unread_count })?;
    }
    Ok(())
}

/// Marks messages as read. The reader's count is sent if it has changed.
pub(crate) fn mark_read<'a>(place: &Place, stored: &Stored, reader: &str, messages: impl Iterator<Item = &'a Id>) -> Result<()> {
    let Some(reader) = stored.member(reader) else { return Ok(()) };
    let total = total(place)?;
    let floor = floor(reader, total);
    let mut marks = Marks::of(place, &reader.0)?;
    let before = marks.unread(floor, total);
    for known in remembered_all(place, messages)?.into_iter().flatten() {
        marks.insert(known.number);
    }
    let unread_count = marks.unread(floor, total);
    if unread_count == before {
        return Ok(());
    }
    marks.put(place, &reader.0, floor)?;
    place::to_users(UNREAD, &[&reader.0], &Count { conversation_id: stored.id.clone(), unread_count })
}
