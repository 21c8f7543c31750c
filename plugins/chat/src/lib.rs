//! Chats of a school: the Q&A chats of courses in `/chat`, and the live chats of videos in `/`. All tenants share the rooms and
//! topics.

mod live;
mod lms;
mod participants;
mod sanitize;

use hubbub_sdk::plugin;
use serde::Deserialize;

/// The operator's settings, `[plugins.chat.config]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Messages a minute for each user, in the courses' chats and in the videos' chats. 0: no limit.
    messages_per_minute: u32,
    /// Days for which the messages of a video's chat are stored. 0: they are not stored.
    live_history_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { messages_per_minute: 10, live_history_days: 7 }
    }
}

/// The plugin, with its settings.
pub struct Chat {
    config: Config,
}

#[plugin(name = "chat")]
#[door("/chat", token = "required", missing = "Authentication error", invalid = "Invalid token")]
#[door("/", token = "optional", missing = "Authentication error", invalid = "Invalid token")]
#[parts(lms, lms::history, lms::unread, participants, live, live::history)]
impl Chat {
    fn init(config: Config) -> Self {
        Self { config }
    }
}
