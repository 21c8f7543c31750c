//! Video: how many watch, where a user's other devices stand, and what the product's backend says of a video. This page is the
//! list of what clients may say and what happens then; it must never hold a rule of its own.

mod published;
mod watching;

use hubbub_sdk::{Caller, Message, Result, plugin, rooms};

/// The plugin. It has no settings.
#[derive(Default)]
pub struct Video;

#[plugin(name = "video")]
#[namespace("/")]
#[room("/", "video:{videoId}")]
#[emits(watching::VIEWERS, watching::SYNC)]
#[emits(published::VIEW, published::LIKE, published::COMMENT)]
impl Video {
    #[on("video:join")]
    fn join(video: watching::VideoId) -> Result<()> {
        watching::join(video)
    }

    #[on("video:leave")]
    fn leave(video: watching::VideoId) -> Result<()> {
        watching::leave(&video)
    }

    #[on("video:progress")]
    fn progress(caller: &Caller, position: watching::Position) -> Result<()> {
        watching::progress(caller, &position)
    }

    #[on_message("room.counted")]
    fn counted(counted: rooms::Counted) -> Result<()> {
        watching::counted(&counted)
    }

    #[on_message("video.view")]
    fn viewed(message: &Message, viewed: published::Happened) -> Result<()> {
        published::viewed(message, viewed)
    }

    #[on_timer("view:{videoId}")]
    fn last_view(view: published::View) -> Result<()> {
        published::tell_view(&view)
    }

    #[on_message("video.like")]
    fn liked(message: &Message, liked: published::Happened) -> Result<()> {
        published::rated(message, liked, published::Rating::Like)
    }

    #[on_message("video.dislike")]
    fn disliked(message: &Message, disliked: published::Happened) -> Result<()> {
        published::rated(message, disliked, published::Rating::Dislike)
    }

    #[on_message("video.comment")]
    fn commented(message: &Message, commented: published::Commented) -> Result<()> {
        published::commented(message, commented)
    }
}
