//! A course's chat: for its participants only, stored before it is told, and never told in raw HTML.

use hubbub_sdk::{Json, Refusal, Result, User, budget::Budget, clock, emitter::Emits, payload::Id, rooms, store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    participants::{self, Found, Shown},
    sanitize,
};

pub(crate) mod history;
pub(crate) mod unread;

pub(crate) const NAMESPACE: &str = "/chat";

/// The most characters of a message, in both chats.
pub(crate) const MAX_CHARACTERS: usize = 2000;

pub(crate) const JOINED: Emits<Person> = Emits::new(NAMESPACE, "user:joined");
pub(crate) const LEFT: Emits<Person> = Emits::new(NAMESPACE, "user:left");
pub(crate) const MESSAGE: Emits<Json<Message>> = Emits::new(NAMESPACE, "chat:message");
pub(crate) const TYPING: Emits<Typing> = Emits::new(NAMESPACE, "chat:typing");

/// `{chatId}`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatId {
    pub(crate) chat_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Joined {
    chat_id: Id,
    participants: Json<Vec<Shown>>,
    /// Distinct users in the room, over all nodes.
    online_count: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Person {
    user_id: String,
    name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Said {
    chat_id: Id,
    content: String,
}

/// A message as it is stored and sent.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    id: String,
    chat_id: Id,
    user_id: String,
    user: Author,
    /// Sanitized HTML.
    content: String,
    created_at: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Author {
    name: String,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    image: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Typing {
    chat_id: Id,
    user_id: String,
    user_name: String,
}

pub(crate) fn room(chat: &str) -> String {
    format!("chat:{chat}")
}

fn not_authorized() -> Refusal {
    Refusal::forbidden("Not authorized")
}

pub(crate) fn join(user: &User, ChatId { chat_id }: ChatId) -> Result<Joined> {
    let listed = participants::find(&chat_id, user.tenant.as_deref(), &user.id)?.ok_or_else(not_authorized)?;
    let room = room(&chat_id);
    if !rooms::joined(&room)? {
        rooms::join(&room)?;
        JOINED.to_room(&room, &Person { user_id: user.id.clone(), name: name(user, Some(listed)) })?;
    }
    let participants = participants::all(&chat_id, user.tenant.as_deref())?;
    Ok(Joined { participants, online_count: rooms::size(NAMESPACE, &room)?.users, chat_id })
}

pub(crate) fn message(user: &User, id: &str, said: Said, per_minute: u32) -> Result<()> {
    if !fits(&said.content) {
        return Err(Refusal::invalid("Invalid message"));
    }
    let room = room(&said.chat_id);
    if !rooms::joined(&room)? {
        return Err(not_authorized());
    }
    let budget = Budget::per_minute("messages", per_minute);
    budget.take(&user.id)?.or_refuse("Too many messages. Please slow down.")?;
    let message = Message {
        id: id.to_owned(),
        user_id: user.id.clone(),
        user: author(&said.chat_id, user)?,
        content: sanitize::clean(said.content),
        created_at: clock::rfc3339(clock::now()),
        chat_id: said.chat_id,
    };
    let json = Json::of(&message)?;
    store::append(&history::prefix(&message.chat_id), &json)?;
    unread::grow(&message.chat_id, user)?;
    Ok(MESSAGE.to_room(&room, &json)?)
}

/// Whether a text is long enough to say something and short enough to be read.
pub(crate) fn fits(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_CHARACTERS
}

/// Who the token says it is; what it leaves open, the product's list of participants knows.
fn author(chat: &str, user: &User) -> Result<Author> {
    if let (Some(name), Some(image)) = (&user.name, &user.image) {
        return Ok(Author { name: name.clone(), image: Some(image.clone()) });
    }
    let listed = participants::find(chat, user.tenant.as_deref(), &user.id)?;
    let image = listed.as_ref().and_then(|one| one.image.clone());
    Ok(Author { image: user.image.clone().or(image), name: name(user, listed) })
}

fn name(user: &User, listed: Option<Found>) -> String {
    user.name.clone().or_else(|| listed.map(|one| one.name)).unwrap_or_else(|| user.id.clone())
}

/// Straight to the room: no store, no bus.
pub(crate) fn typing(user: &User, ChatId { chat_id }: ChatId) -> Result<()> {
    let room = room(&chat_id);
    if !rooms::joined(&room)? {
        return Err(not_authorized());
    }
    let typing = Typing { chat_id, user_id: user.id.clone(), user_name: user.display_name().to_owned() };
    Ok(TYPING.except_caller().volatile().to_room(&room, &typing)?)
}

pub(crate) fn leave(user: &User, chat: ChatId) -> Result<ChatId> {
    let room = room(&chat.chat_id);
    if rooms::joined(&room)? {
        rooms::leave(&room)?;
        let listed = participants::find(&chat.chat_id, user.tenant.as_deref(), &user.id)?;
        LEFT.to_room(&room, &Person { user_id: user.id.clone(), name: name(user, listed) })?;
    }
    Ok(chat)
}

#[cfg(test)]
mod tests;
