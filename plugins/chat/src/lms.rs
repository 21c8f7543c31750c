//! The chat of a course: for its participants only. A message is stored and sanitized before it is sent.

use hubbub_sdk::{
    Event, Json, Refusal, Result, User, budget::Budget, clock, emitter::Emits, payload::Id, plugin, rooms::Room, store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Chat,
    participants::{self, Found, Shown},
    sanitize,
};

pub(crate) mod history;
pub(crate) mod unread;

/// The most characters of a message, in both kinds of chat.
pub(crate) const MAX_CHARACTERS: usize = 2000;

pub(crate) const ROOM: Room = Room::new("/chat", "chat:{chatId}");

const JOINED: Emits<Person> = Emits::new("/chat", "user:joined");
const LEFT: Emits<Person> = Emits::new("/chat", "user:left");
const MESSAGE: Emits<Json<Message>> = Emits::new("/chat", "chat:message");
const TYPING: Emits<Typing> = Emits::new("/chat", "chat:typing");

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChatId {
    chat_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Joined {
    chat_id: Id,
    participants: Json<Vec<Shown>>,
    /// Distinct users in the room, over all nodes.
    online_count: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Person {
    user_id: String,
    name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewMessage {
    chat_id: Id,
    content: String,
    /// A repeat with the same one takes effect once.
    #[schemars(length(min = 1, max = 64))]
    client_id: Option<String>,
}

/// A message as it is stored and sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    chat_id: Id,
    user_id: String,
    user: Author,
    /// Sanitized HTML.
    content: String,
    created_at: String,
    /// The sender's, if one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Author {
    name: String,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    image: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Typing {
    chat_id: Id,
    user_id: String,
    user_name: String,
}

#[plugin(part, namespace = "/chat")]
#[rooms(ROOM)]
#[emits(JOINED, LEFT, MESSAGE, TYPING)]
impl Chat {
    #[on("chat:join", reply)]
    fn join(user: &User, ChatId { chat_id }: ChatId) -> Result<Joined> {
        let participant = participants::find(&chat_id, user)?.ok_or_else(not_authorized)?;
        let room = ROOM.of(&chat_id);
        if !room.joined()? {
            room.join()?;
            JOINED.to_room(&room, &person(user, Some(participant)))?;
        }
        let participants = participants::all(&chat_id, user.tenant.as_deref())?;
        Ok(Joined { participants, online_count: room.size()?.users, chat_id })
    }

    #[on("chat:message", once = "clientId", invalid = "Invalid message")]
    fn message(&self, user: &User, event: &Event, NewMessage { chat_id, content, client_id }: NewMessage) -> Result<()> {
        if !fits(&content) {
            return Err(Refusal::invalid("Invalid message"));
        }
        let room = joined_room(&chat_id)?;
        let budget = Budget::per_minute("messages", self.config.messages_per_minute);
        budget.take(&user.id)?.or_refuse("Too many messages. Please slow down.")?;
        let message = Message {
            id: event.id.clone(),
            user_id: user.id.clone(),
            user: author(&chat_id, user)?,
            content: sanitize::clean(content),
            created_at: clock::rfc3339(clock::now()),
            chat_id,
            client_id,
        };
        let json = Json::of(&message)?;
        store::append(&history::prefix(&message.chat_id), &json)?;
        unread::count_message(&message.chat_id, user)?;
        MESSAGE.to_room(&room, &json)
    }

    #[on("chat:typing")]
    fn typing(user: &User, ChatId { chat_id }: ChatId) -> Result<()> {
        let room = joined_room(&chat_id)?;
        let typing = Typing { chat_id, user_id: user.id.clone(), user_name: user.display_name().to_owned() };
        TYPING.except_caller().volatile().to_room(&room, &typing)
    }

    #[on("chat:leave", reply)]
    fn leave(user: &User, chat: ChatId) -> Result<ChatId> {
        let room = ROOM.of(&chat.chat_id);
        if room.joined()? {
            room.leave()?;
            LEFT.to_room(&room, &person(user, participants::find(&chat.chat_id, user)?))?;
        }
        Ok(chat)
    }
}

/// The chat's room, or a refusal if the caller has not joined it. Storage is not read.
fn joined_room(chat: &str) -> Result<Room> {
    let room = ROOM.of(chat);
    if room.joined()? { Ok(room) } else { Err(not_authorized()) }
}

fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}

/// Whether a message has a text, and one that is short enough.
pub(crate) fn fits(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_CHARACTERS
}

/// The author as the token names them. The list of participants fills in a missing name or image.
fn author(chat: &str, user: &User) -> Result<Author> {
    if let (Some(name), Some(image)) = (&user.name, &user.image) {
        return Ok(Author { name: name.clone(), image: Some(image.clone()) });
    }
    let participant = participants::find(chat, user)?;
    let image = participant.as_ref().and_then(|one| one.image.clone());
    Ok(Author { image: user.image.clone().or(image), name: name(user, participant) })
}

fn person(user: &User, participant: Option<Found>) -> Person {
    Person { user_id: user.id.clone(), name: name(user, participant) }
}

fn name(user: &User, participant: Option<Found>) -> String {
    user.name.clone().or_else(|| participant.map(|one| one.name)).unwrap_or_else(|| user.id.clone())
}

#[cfg(test)]
mod tests;
