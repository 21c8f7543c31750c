//! Videos in `/`: the number of viewers, a user's position on other devices, and the product's views, ratings and comments.

mod published;
mod watching;

use hubbub_sdk::{plugin, rooms::Room};

/// The viewers of a video.
const VIDEO: Room = Room::new("/", "video:{videoId}");

/// The plugin, without settings.
#[derive(Default)]
pub struct Video;

#[plugin(name = "video")]
#[namespace("/")]
#[rooms(VIDEO)]
#[parts(watching, published)]
impl Video {}
