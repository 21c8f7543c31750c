//! What the product's backend says of a video: views, ratings, comments. Views and ratings are counted, each once. Views come by
//! the ten thousand, so handling one must never read what another writes, and the room hears of two a second.

use std::time::Duration;

use hubbub_sdk::{
    Message, Result,
    budget::{Answer, Budget},
    emitter::Emits,
    payload::PublishedId,
    store::{self, key},
    timers::{self, Durability},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use crate::watching::{NAMESPACE, room};

/// At most two live views a second a video. The others are counted, and the last of a burst is told when its turn comes.
const VIEWS: Budget = Budget::new("views", 1, Duration::from_millis(500));

pub(crate) const VIEW: Emits<View> = Emits::new(NAMESPACE, "video:view");
pub(crate) const LIKE: Emits<Rated> = Emits::new(NAMESPACE, "video:like");
pub(crate) const COMMENT: Emits<Comment> = Emits::new(NAMESPACE, "video:comment");

/// `video.view`, `video.like`, `video.dislike`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Happened {
    video_id: PublishedId,
    #[serde(default, deserialize_with = "milliseconds")]
    timestamp: Option<u64>,
}

/// `video.comment`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Commented {
    comment_id: PublishedId,
    #[serde(flatten)]
    happened: Happened,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    video_id: PublishedId,
    /// Milliseconds since 1970.
    timestamp: u64,
}

/// What somebody thinks of a video.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub(crate) enum Rating {
    #[serde(rename = "video.like")]
    Like,
    #[serde(rename = "video.dislike")]
    Dislike,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rated {
    video_id: PublishedId,
    r#type: Rating,
    /// Milliseconds since 1970.
    timestamp: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Comment {
    video_id: PublishedId,
    comment_id: PublishedId,
    /// Milliseconds since 1970.
    timestamp: u64,
}

pub(crate) fn viewed(message: &Message, viewed: Happened) -> Result<()> {
    store::add(&key(["views", &viewed.video_id]), 1)?;
    let timestamp = viewed.when(message);
    tell_view(&View { video_id: viewed.video_id, timestamp })
}

/// Now, or when the video's turn comes: a later view takes the place of the one that waits.
pub(crate) fn tell_view(view: &View) -> Result<()> {
    let waiting = format!("view:{}", view.video_id.id());
    match VIEWS.take(&view.video_id)? {
        Answer::Taken(_) => {
            timers::cancel(&waiting)?;
            VIEW.to_room(&room(&view.video_id), view)?;
        }
        // Soft: what a durable timer costs is what this saves.
        Answer::RetryAfter(turn) => timers::after(&waiting, turn, view, Durability::Soft)?,
    }
    Ok(())
}

pub(crate) fn rated(message: &Message, rated: Happened, rating: Rating) -> Result<()> {
    let counter = match rating {
        Rating::Like => "likes",
        Rating::Dislike => "dislikes",
    };
    store::add(&key([counter, &rated.video_id]), 1)?;
    let (room, timestamp) = (room(&rated.video_id), rated.when(message));
    Ok(LIKE.to_room(&room, &Rated { video_id: rated.video_id, r#type: rating, timestamp })?)
}

pub(crate) fn commented(message: &Message, Commented { comment_id, happened }: Commented) -> Result<()> {
    let (room, timestamp) = (room(&happened.video_id), happened.when(message));
    Ok(COMMENT.to_room(&room, &Comment { video_id: happened.video_id, comment_id, timestamp })?)
}

impl Happened {
    /// The backend's own time, where it gives one.
    fn when(&self, message: &Message) -> u64 {
        self.timestamp.unwrap_or(message.at)
    }
}

/// A number of milliseconds. What else stands there is as good as nothing: a view with an odd time is a view.
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
