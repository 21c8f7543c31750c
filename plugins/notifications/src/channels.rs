//! Channels that users of `/` subscribe to. A channel's notification is stored once, whoever follows it; a subscription is what
//! one user has read of it, and must never show what was posted before it began.

use std::collections::BTreeMap;

use hubbub_sdk::{
    Message, Refusal, Result, User,
    payload::{Id, published_id},
    rooms,
    store::{self, tenant_key},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    general::{self, NAMESPACE},
    log::{Content, Log},
    marks::Marks,
};

/// The most channels that a user follows: half of the rooms that a socket may be in. One more is refused as `too_large`.
const MAX_SUBSCRIPTIONS: usize = 32;

/// `{channelId}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChannelId {
    channel_id: Id,
}

/// `channel.notification`: to a channel's subscribers, or to one user alone. Texts that are left out are empty; further keys are
/// ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Posted {
    #[serde(default, deserialize_with = "published_id")]
    channel_id: Option<Id>,
    /// Goes before the channel: fewer see it.
    #[serde(default, deserialize_with = "published_id")]
    user_id: Option<Id>,
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    message: Option<String>,
    /// Milliseconds since 1970; anything else means the time at which it was published.
    timestamp: Option<serde_json::Value>,
}

/// A user's subscriptions, by channel. One key, because every connection wants all of them.
pub(crate) type Subscriptions = BTreeMap<String, Marks>;

pub(crate) fn room(channel: &str) -> String {
    format!("channel:{channel}")
}

pub(crate) fn of(user: &User) -> Result<Subscriptions> {
    Ok(store::get(&subscriptions_key(user))?.unwrap_or_default())
}

pub(crate) fn save(user: &User, subscriptions: &Subscriptions) -> Result<()> {
    Ok(store::put(&subscriptions_key(user), subscriptions)?)
}

/// The user follows the channel from here on, on every device. A second time changes nothing.
pub(crate) fn subscribe(user: &User, ChannelId { channel_id }: ChannelId) -> Result<()> {
    let room = room(&channel_id);
    let mut subscriptions = of(user)?;
    if !subscriptions.contains_key(&*channel_id) {
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(Refusal::too_large("Too many subscriptions"));
        }
        let marks = Marks::from_now(&Log::of_channel(&channel_id))?;
        subscriptions.insert(channel_id.into_string(), marks);
        save(user, &subscriptions)?;
    }
    // The caller's own join is checked at commit, and refused where its socket is in too many rooms already.
    rooms::join(&room)?;
    Ok(rooms::join_user(NAMESPACE, &user.id, &room)?)
}

pub(crate) fn unsubscribe(user: &User, ChannelId { channel_id }: &ChannelId) -> Result<()> {
    let mut subscriptions = of(user)?;
    if subscriptions.remove(&**channel_id).is_some() {
        save(user, &subscriptions)?;
    }
    Ok(rooms::leave_user(NAMESPACE, &user.id, &room(channel_id))?)
}

pub(crate) fn posted(message: &Message, posted: Posted) -> Result<()> {
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

fn to_subscribers(channel: &Id, id: &str, at: u64, content: Content) -> Result<()> {
    match Log::of_channel(channel).append(id, at, content)? {
        Some(stored) => Ok(general::NOTIFICATION.to_room(&room(channel), &stored.into())?),
        None => Ok(()),
    }
}

fn subscriptions_key(user: &User) -> String {
    tenant_key(user.tenant.as_deref(), ["subscriptions", &user.id])
}

#[cfg(test)]
mod tests;
