//! Channels to which users of `/` subscribe. A channel's notification is stored once. A subscription holds a user's read marks, and never
//! shows a notification from before it began.

use std::collections::BTreeMap;

use hubbub_sdk::{
    Message, Refusal, Result, User,
    payload::{Id, published_id},
    plugin,
    rooms::Room,
    store::{self, tenant_key},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    Notifications,
    general::{self, NOTIFICATION},
    log::{Content, Log},
    marks::Marks,
};

/// The most subscriptions of a user: half of the rooms of a socket. One more is refused as `too_large`.
const MAX_SUBSCRIPTIONS: usize = 32;

pub(crate) const CHANNEL: Room = Room::new("/", "channel:{channelId}");

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChannelId {
    channel_id: Id,
}

/// `channel.notification`: to a channel's subscribers, or to one user. A missing text is empty, and further fields are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    #[serde(default, deserialize_with = "published_id")]
    channel_id: Option<Id>,
    /// If it is set, the channel is ignored.
    #[serde(default, deserialize_with = "published_id")]
    user_id: Option<Id>,
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    message: Option<String>,
    /// Milliseconds since 1970. Any other value means the time of the message.
    timestamp: Option<serde_json::Value>,
}

/// A user's subscriptions, by channel. Stored under one key, because every connection reads all of them.
pub(crate) type Subscriptions = BTreeMap<String, Marks>;

#[plugin(part, namespace = "/")]
#[rooms(CHANNEL)]
#[tenant_keys("subscriptions/")]
impl Notifications {
    /// Subscribes the user on every device, from now on. Idempotent.
    #[on("notifications:subscribe")]
    fn subscribe(user: &User, ChannelId { channel_id }: ChannelId) -> Result<()> {
        let room = CHANNEL.of(&channel_id);
        let mut subscriptions = of(user)?;
        if !subscriptions.contains_key(&*channel_id) {
            if subscriptions.len() >= MAX_SUBSCRIPTIONS {
                return Err(Refusal::too_large("Too many subscriptions"));
            }
            let marks = Marks::from_now(&Log::of_channel(&channel_id))?;
            subscriptions.insert(channel_id.into_string(), marks);
            save(user, &subscriptions)?;
        }
        // Unlike `join_user`, the caller's own join is refused if its socket is in too many rooms.
        room.join()?;
        room.join_user(&user.id)
    }

    #[on("notifications:unsubscribe")]
    fn unsubscribe(user: &User, ChannelId { channel_id }: ChannelId) -> Result<()> {
        let mut subscriptions = of(user)?;
        if subscriptions.remove(&*channel_id).is_some() {
            save(user, &subscriptions)?;
        }
        CHANNEL.of(&channel_id).leave_user(&user.id)
    }

    #[on_message("channel.notification")]
    fn posted(message: &Message, posted: Posted) -> Result<()> {
        let Posted { channel_id, user_id, kind, title, message: text, timestamp } = posted;
        let at = timestamp.and_then(|timestamp| timestamp.as_u64()).unwrap_or(message.at);
        let content = Content {
            kind: kind.unwrap_or_default(),
            title: title.unwrap_or_default(),
            message: text.unwrap_or_default(),
            link: None,
        };
        match (user_id, channel_id) {
            (Some(user), _) => general::notify_by_channel(&user, message, at, content),
            (None, Some(channel)) => to_subscribers(&channel, &message.id, at, content),
            (None, None) => Err(Refusal::invalid("channelId: missing")),
        }
    }
}

fn to_subscribers(channel: &Id, id: &str, at: u64, content: Content) -> Result<()> {
    match Log::of_channel(channel).append(id, at, content)? {
        Some(stored) => NOTIFICATION.to_room(&CHANNEL.of(channel), &stored.into()),
        None => Ok(()),
    }
}

pub(crate) fn of(user: &User) -> Result<Subscriptions> {
    Ok(store::get(&subscriptions_key(user))?.unwrap_or_default())
}

pub(crate) fn save(user: &User, subscriptions: &Subscriptions) -> Result<()> {
    store::put(&subscriptions_key(user), subscriptions)
}

fn subscriptions_key(user: &User) -> String {
    tenant_key(user.tenant.as_deref(), ["subscriptions", &user.id])
}

#[cfg(test)]
mod tests;
