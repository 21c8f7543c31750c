//! Who watches a video, and where. Anyone may watch and is counted; nothing of it is stored.

use hubbub_sdk::{
    Caller, Result,
    emitter::Emits,
    payload::Id,
    rooms::{self, Counted},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

pub(crate) const NAMESPACE: &str = "/";

pub(crate) const VIEWERS: Emits<Viewers> = Emits::new(NAMESPACE, "video:viewers");
pub(crate) const SYNC: Emits<Position> = Emits::new(NAMESPACE, "video:sync");

/// `{videoId}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VideoId {
    video_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Viewers {
    video_id: String,
    /// Distinct users and visitors, over all nodes.
    count: u64,
}

/// Where in a video a user is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Position {
    video_id: Id,
    /// Seconds, passed on as they were sent.
    timestamp: Number,
}

pub(crate) fn room(video: &str) -> String {
    format!("video:{video}")
}

/// Who joins learns the count at once; the room hears of it by `room.counted`.
pub(crate) fn join(VideoId { video_id }: VideoId) -> Result<()> {
    let room = room(&video_id);
    rooms::join(&room)?;
    let size = rooms::size(NAMESPACE, &room)?;
    Ok(VIEWERS.to_caller(&Viewers { video_id: video_id.into_string(), count: size.users + size.visitors })?)
}

pub(crate) fn leave(video: &VideoId) -> Result<()> {
    Ok(rooms::leave(&room(&video.video_id))?)
}

/// To the user's other devices, whether or not they have joined the video. A visitor has none.
pub(crate) fn progress(caller: &Caller, position: &Position) -> Result<()> {
    let Some(user) = &caller.user else { return Ok(()) };
    Ok(SYNC.except_caller().to_user(&user.id, position)?)
}

/// The room's new size, at most twice a second.
pub(crate) fn counted(counted: &Counted) -> Result<()> {
    let Some(video) = counted.room.strip_prefix("video:") else { return Ok(()) };
    let viewers = Viewers { video_id: video.to_owned(), count: counted.users + counted.visitors };
    Ok(VIEWERS.to_room(&counted.room, &viewers)?)
}

#[cfg(test)]
mod tests;
