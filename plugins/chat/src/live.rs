//! A video's live chat: anyone may read, users may speak, and nothing is stored. Messages are plain text, sent as they came: a
//! client must show them as text, never as HTML.

use hubbub_sdk::{
    Caller, Refusal, Result,
    budget::Budget,
    clock,
    emitter::Emits,
    payload::Id,
    rooms::{self, Counted},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lms::fits;

const NAMESPACE: &str = "/";

pub(crate) const MESSAGE: Emits<Message> = Emits::new(NAMESPACE, "chat:message");
pub(crate) const TYPING: Emits<UserTyping> = Emits::new(NAMESPACE, "chat:typing");
pub(crate) const USER_COUNT: Emits<UserCount> = Emits::new(NAMESPACE, "chat:user-count");

/// `{videoId}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VideoId {
    video_id: Id,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Said {
    video_id: Id,
    message: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    id: String,
    video_id: Id,
    user_id: String,
    message: String,
    /// Milliseconds since 1970.
    timestamp: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Typing {
    video_id: Id,
    is_typing: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserTyping {
    video_id: Id,
    user_id: String,
    is_typing: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserCount {
    video_id: String,
    /// Distinct users and visitors, over all nodes.
    count: u64,
}

fn room(video: &str) -> String {
    format!("chat:{video}")
}

/// Who joins learns the count at once; the room hears of it by `room.counted`.
pub(crate) fn join(VideoId { video_id }: VideoId) -> Result<()> {
    let room = room(&video_id);
    rooms::join(&room)?;
    let size = rooms::size(NAMESPACE, &room)?;
    Ok(USER_COUNT.to_caller(&UserCount { video_id: video_id.into_string(), count: size.users + size.visitors })?)
}

pub(crate) fn leave(video: &VideoId) -> Result<()> {
    Ok(rooms::leave(&room(&video.video_id))?)
}

pub(crate) fn message(caller: &Caller, id: &str, Said { video_id, message }: Said, per_minute: u32) -> Result<()> {
    let user = caller.user_or("Authentication required")?;
    if !fits(&message) {
        return Err(Refusal::invalid("Invalid message"));
    }
    let budget = Budget::per_minute("live-messages", per_minute);
    budget.take(&user.id)?.or_refuse("Rate limit exceeded")?;
    let room = room(&video_id);
    let message = Message { id: id.to_owned(), video_id, user_id: user.id.clone(), message, timestamp: clock::now() };
    Ok(MESSAGE.to_room(&room, &message)?)
}

pub(crate) fn typing(caller: &Caller, Typing { video_id, is_typing }: Typing) -> Result<()> {
    let user = caller.user_or("Authentication required")?;
    let room = room(&video_id);
    let typing = UserTyping { video_id, user_id: user.id.clone(), is_typing };
    Ok(TYPING.except_caller().volatile().to_room(&room, &typing)?)
}

/// The room's new size, at most twice a second. The courses' chats, in their own namespace, show none.
pub(crate) fn counted(counted: &Counted) -> Result<()> {
    let Some(video) = counted.room.strip_prefix("chat:").filter(|_| counted.namespace == NAMESPACE) else { return Ok(()) };
    let count = UserCount { video_id: video.to_owned(), count: counted.users + counted.visitors };
    Ok(USER_COUNT.to_room(&counted.room, &count)?)
}

#[cfg(test)]
mod tests;
