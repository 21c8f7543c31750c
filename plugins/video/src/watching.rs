//! The viewers of a video. Anyone may watch and is counted; nothing is stored.

use hubbub_sdk::{Result, User, emitter::Emits, payload::Id, plugin, rooms::Counted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::{VIDEO, Video};

const VIEWERS: Emits<Viewers> = Emits::new("/", "video:viewers");
const SYNC: Emits<Position> = Emits::new("/", "video:sync");

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VideoId {
    video_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Viewers {
    video_id: String,
    /// Distinct users and visitors, over all nodes.
    count: u64,
}

/// A user's position in a video.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Position {
    video_id: Id,
    /// Seconds, sent on as they came.
    timestamp: Number,
}

#[plugin(part, namespace = "/")]
#[emits(VIEWERS, SYNC)]
impl Video {
    /// Sends the count to the new viewer at once. The room gets it with the next `room.counted`.
    #[on("video:join")]
    fn join(VideoId { video_id }: VideoId) -> Result<()> {
        let room = VIDEO.of(&video_id);
        room.join()?;
        let size = room.size()?;
        VIEWERS.to_caller(&Viewers { video_id: video_id.into_string(), count: size.users + size.visitors })
    }

    #[on("video:leave")]
    fn leave(VideoId { video_id }: VideoId) -> Result<()> {
        VIDEO.of(&video_id).leave()
    }

    /// Sends to the user's other devices, in the room or not. A visitor has none.
    #[on("video:progress")]
    fn progress(user: Option<&User>, position: Position) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        SYNC.except_caller().to_user(&user.id, &position)
    }

    /// At most two a second for each room.
    #[on_message("room.counted")]
    fn counted(counted: Counted) -> Result<()> {
        let Some(video) = VIDEO.param_of(&counted) else { return Ok(()) };
        let viewers = Viewers { video_id: video.to_owned(), count: counted.users + counted.visitors };
        VIEWERS.to_room(&VIDEO.of(video), &viewers)
    }
}

#[cfg(test)]
mod tests;
