//! The live chat of a video: anyone may read, and users may write. A message is stored for some days before it is sent, if the operator
//! wants it. Messages are plain text: a client must show them as text, never as HTML.

use hubbub_sdk::{
    Caller, Event, Json, Refusal, Result,
    budget::Budget,
    clock,
    emitter::Emits,
    payload::Id,
    plugin,
    rooms::{Counted, Room},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Chat, lms::fits};

pub(crate) mod history;

const ROOM: Room = Room::new("/", "chat:{videoId}");

const MESSAGE: Emits<Json<Message>> = Emits::new("/", "chat:message");
const TYPING: Emits<UserTyping> = Emits::new("/", "chat:typing");
const USER_COUNT: Emits<UserCount> = Emits::new("/", "chat:user-count");

/// A visitor may connect, and may not write.
const NEEDS_USER: &str = "Authentication required";

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VideoId {
    video_id: Id,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewMessage {
    video_id: Id,
    message: String,
    /// A repeat with the same one takes effect once.
    #[schemars(length(min = 1, max = 64))]
    client_id: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    video_id: Id,
    user_id: String,
    message: String,
    /// Milliseconds since 1970.
    timestamp: u64,
    /// The sender's, if one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Typing {
    video_id: Id,
    is_typing: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserTyping {
    video_id: Id,
    user_id: String,
    is_typing: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserCount {
    video_id: String,
    /// Distinct users and visitors, over all nodes.
    count: u64,
}

#[plugin(part, namespace = "/")]
#[rooms(ROOM)]
#[emits(MESSAGE, TYPING, USER_COUNT)]
impl Chat {
    /// Sends the count to the new member at once. The room gets it with the next `room.counted`.
    #[on("chat:join")]
    fn join_live(VideoId { video_id }: VideoId) -> Result<()> {
        let room = ROOM.of(&video_id);
        room.join()?;
        let size = room.size()?;
        USER_COUNT.to_caller(&UserCount { video_id: video_id.into_string(), count: size.users + size.visitors })
    }

    #[on("chat:leave")]
    fn leave_live(VideoId { video_id }: VideoId) -> Result<()> {
        ROOM.of(&video_id).leave()
    }

    #[on("chat:message", once = "clientId", invalid = "Invalid message")]
    fn message_live(&self, caller: &Caller, event: &Event, new: NewMessage) -> Result<()> {
        let NewMessage { video_id, message, client_id } = new;
        let user = caller.user_or(NEEDS_USER)?;
        if !fits(&message) {
            return Err(Refusal::invalid("Invalid message"));
        }
        let budget = Budget::per_minute("live-messages", self.config.messages_per_minute);
        budget.take(&user.id)?.or_refuse("Rate limit exceeded")?;
        let room = ROOM.of(&video_id);
        let (id, user_id, timestamp) = (event.id.clone(), user.id.clone(), clock::now());
        let message = Message { id, video_id, user_id, message, timestamp, client_id };
        let json = Json::of(&message)?;
        history::store(self.config.live_history_days, &message, &json)?;
        MESSAGE.to_room(&room, &json)
    }

    #[on("chat:typing")]
    fn typing_live(caller: &Caller, Typing { video_id, is_typing }: Typing) -> Result<()> {
        let user = caller.user_or(NEEDS_USER)?;
        let room = ROOM.of(&video_id);
        TYPING.except_caller().volatile().to_room(&room, &UserTyping { video_id, user_id: user.id.clone(), is_typing })
    }

    /// At most two a second for each room. The rooms in `/chat` are not counted.
    #[on_message("room.counted")]
    fn counted(counted: Counted) -> Result<()> {
        let Some(video) = ROOM.param_of(&counted) else { return Ok(()) };
        let count = UserCount { video_id: video.to_owned(), count: counted.users + counted.visitors };
        USER_COUNT.to_room(&ROOM.of(video), &count)
    }
}

#[cfg(test)]
mod tests;
