//! Chat of a school: the courses' stored Q&A chats in `/chat`, and the videos' live chats in `/`. Rooms and topics are shared by all
//! tenants. This page is the list of what clients and backends may say and what happens then; it must never hold a rule of its own.

mod live;
mod lms;
mod participants;
mod sanitize;

use hubbub_sdk::{Caller, Event, Message, Result, plugin, rooms};
use serde::Deserialize;

/// The operator's settings, `[plugins.chat.config]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Messages a minute and user, in each of the courses' and the videos' chats. 0: no limit.
    messages_per_minute: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { messages_per_minute: 10 }
    }
}

/// The plugin: its settings, and nothing that changes.
pub struct Chat {
    config: Config,
}

#[plugin(name = "chat")]
#[tenant_keys("participants/")]
#[tenant_keys("own/")]
#[tenant_keys("seen/")]
#[door("/chat", token = "required", missing = "Authentication error", invalid = "Invalid token")]
#[door("/", token = "optional", missing = "Authentication error", invalid = "Invalid token")]
#[room("/chat", "chat:{chatId}")]
#[room("/", "chat:{videoId}")]
#[emits(lms::JOINED, lms::LEFT, lms::MESSAGE, lms::TYPING)]
#[emits(live::MESSAGE, live::TYPING, live::USER_COUNT)]
impl Chat {
    fn init(config: Config) -> Self {
        Self { config }
    }

    #[on("chat:join", namespace = "/chat", reply)]
    fn join(caller: &Caller, chat: lms::ChatId) -> Result<lms::Joined> {
        lms::join(caller.user()?, chat)
    }

    #[on("chat:message", namespace = "/chat", invalid = "Invalid message")]
    fn message(&self, caller: &Caller, event: &Event, said: lms::Said) -> Result<()> {
        lms::message(caller.user()?, &event.id, said, self.config.messages_per_minute)
    }

    #[on("chat:typing", namespace = "/chat")]
    fn typing(caller: &Caller, chat: lms::ChatId) -> Result<()> {
        lms::typing(caller.user()?, chat)
    }

    #[on("chat:leave", namespace = "/chat", reply)]
    fn leave(caller: &Caller, chat: lms::ChatId) -> Result<lms::ChatId> {
        lms::leave(caller.user()?, chat)
    }

    #[on("chat:history", namespace = "/chat", reply)]
    fn history(caller: &Caller, asked: lms::history::Asked) -> Result<lms::history::Page> {
        lms::history::page(caller.user()?, asked)
    }

    #[on("chat:read", namespace = "/chat", reply)]
    fn read(caller: &Caller, chat: lms::ChatId) -> Result<lms::unread::Count> {
        lms::unread::read(caller.user()?, chat)
    }

    #[on_message("chat.upserted")]
    fn upserted(message: &Message, chat: participants::Upserted) -> Result<()> {
        participants::upserted(message, chat)
    }

    #[on_message("chat.deleted")]
    fn deleted(message: &Message, chat: participants::Deleted) -> Result<()> {
        participants::deleted(message, chat)
    }

    #[on_message("chat.removed")]
    fn removed(message: &Message, batch: participants::Removed) -> Result<()> {
        participants::removed(message, &batch)
    }

    #[on("chat:join", namespace = "/")]
    fn join_live(video: live::VideoId) -> Result<()> {
        live::join(video)
    }

    #[on("chat:leave", namespace = "/")]
    fn leave_live(video: live::VideoId) -> Result<()> {
        live::leave(&video)
    }

    #[on("chat:message", namespace = "/", invalid = "Invalid message")]
    fn message_live(&self, caller: &Caller, event: &Event, said: live::Said) -> Result<()> {
        live::message(caller, &event.id, said, self.config.messages_per_minute)
    }

    #[on("chat:typing", namespace = "/")]
    fn typing_live(caller: &Caller, typing: live::Typing) -> Result<()> {
        live::typing(caller, typing)
    }

    #[on_message("room.counted")]
    fn counted(counted: rooms::Counted) -> Result<()> {
        live::counted(&counted)
    }
}
