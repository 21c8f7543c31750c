//! The backend's messages about a video: views, ratings and comments. Views and ratings are counted. There may be ten thousand views at
//! once, so a view never reads a key that another view writes, and the room gets at most two a second.

use std::time::Duration;

use hubbub_sdk::{
    Message, Result,
    budget::{Answer, Budget},
    emitter::Emits,
    payload::PublishedId,
    plugin,
    store::{self, key},
    timers::{self, Durability},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use crate::{VIDEO, Video};

/// At most two sent views a second for each video. Further views are counted, and the last one of them is sent later.
const VIEWS: Budget = Budget::new("views", 1, Duration::from_millis(500));

const VIEW: Emits<View> = Emits::new("/", "video:view");
const LIKE: Emits<Rated> = Emits::new("/", "video:like");
const COMMENT: Emits<Comment> = Emits::new("/", "video:comment");

/// `video.view`, `video.like`, `video.dislike`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Happened {
    video_id: PublishedId,
    #[serde(default, deserialize_with = "milliseconds")]
    timestamp: Option<u64>,
}

/// `video.comment`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Commented {
    comment_id: PublishedId,
    #[serde(flatten)]
    happened: Happened,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct View {
    video_id: PublishedId,
    /// Milliseconds since 1970.
    timestamp: u64,
}

/// A rating of a video.
#[derive(Clone, Copy, Serialize, JsonSchema)]
enum Rating {
    #[serde(rename = "video.like")]
    Like,
    #[serde(rename = "video.dislike")]
    Dislike,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Rated {
    video_id: PublishedId,
    r#type: Rating,
    /// Milliseconds since 1970.
    timestamp: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Comment {
    video_id: PublishedId,
    comment_id: PublishedId,
    /// Milliseconds since 1970.
    timestamp: u64,
}

#[plugin(part, namespace = "/")]
#[emits(VIEW, LIKE, COMMENT)]
impl Video {
    #[on_message("video.view")]
    fn viewed(message: &Message, viewed: Happened) -> Result<()> {
        store::add(&key(["views", &viewed.video_id]), 1)?;
        let timestamp = viewed.time(message);
        send_view(&View { video_id: viewed.video_id, timestamp })
    }

    #[on_timer("view:{videoId}")]
    fn view_is_due(view: View) -> Result<()> {
        send_view(&view)
    }

    #[on_message("video.like")]
    fn liked(message: &Message, liked: Happened) -> Result<()> {
        rate(message, liked, Rating::Like)
    }

    #[on_message("video.dislike")]
    fn disliked(message: &Message, disliked: Happened) -> Result<()> {
        rate(message, disliked, Rating::Dislike)
    }

    #[on_message("video.comment")]
    fn commented(message: &Message, Commented { comment_id, happened }: Commented) -> Result<()> {
        let timestamp = happened.time(message);
        COMMENT.to_room(&VIDEO.of(&happened.video_id), &Comment { video_id: happened.video_id, comment_id, timestamp })
    }
}

/// Sends the view now, or by a timer when the budget has a point again. A later view replaces the waiting one.
fn send_view(view: &View) -> Result<()> {
    let waiting = format!("view:{}", view.video_id.id());
    match VIEWS.take(&view.video_id)? {
        Answer::Taken(_) => {
            timers::cancel(&waiting)?;
            VIEW.to_room(&VIDEO.of(&view.video_id), view)
        }
        // Soft, because a durable timer is itself a write.
        Answer::RetryAfter(wait) => timers::after(&waiting, wait, view, Durability::Soft),
    }
}

fn rate(message: &Message, rated: Happened, rating: Rating) -> Result<()> {
    let counter = match rating {
        Rating::Like => "likes",
        Rating::Dislike => "dislikes",
    };
    store::add(&key([counter, &rated.video_id]), 1)?;
    let timestamp = rated.time(message);
    LIKE.to_room(&VIDEO.of(&rated.video_id), &Rated { video_id: rated.video_id, r#type: rating, timestamp })
}

impl Happened {
    /// The backend's time, or the message's.
    fn time(&self, message: &Message) -> u64 {
        self.timestamp.unwrap_or(message.at)
    }
}

/// Reads a number of milliseconds. Any other value reads as none, and does not fail the message.
fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Milliseconds(Number),
        Other(serde::de::IgnoredAny),
    }

    Ok(match Time::deserialize(deserializer)? {
        Time::Milliseconds(number) => number.as_u64().or_else(|| Some(number.as_f64().filter(|ms| *ms >= 0.0)? as u64)),
        Time::Other(_) => None,
    })
}

#[cfg(test)]
mod tests;
