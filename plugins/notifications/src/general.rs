//! A user in `/`: an inbox of one's own, and the channels one follows, in one list. Two products' frontends listen here, each to
//! its own event. Must never keep anything for a visitor.

use hubbub_sdk::{Caller, Message, Result, User, clock, emitter::Emits, payload::Id, rooms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    channels,
    company::{self, New},
    log::{Content, Log, Stored},
    marks::Marks,
    page::{self, Asked, Found, Source},
};

pub(crate) const NAMESPACE: &str = "/";

pub(crate) const NEW: Emits<New> = Emits::new(NAMESPACE, "notification:new");
pub(crate) const NOTIFICATION: Emits<Notification> = Emits::new(NAMESPACE, "notification");

/// `notification`: a channel's, or the user's own.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Notification {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    message: String,
    /// Milliseconds since 1970.
    timestamp: u64,
}

/// `{notificationId}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationId {
    notification_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    /// The user's own and those of the channels followed, newest first.
    notifications: Vec<Item>,
    /// Of the newest 1000 of one's own, and of the newest 100 of every channel since the subscription.
    unread_count: i64,
}

/// A notification as `notification` and `notification:new` show it, and whether it was read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(flatten)]
    notification: Notification,
    created_at: String,
    /// Absent where the backend gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    read: bool,
}

impl From<Stored> for Notification {
    fn from(stored: Stored) -> Self {
        let Stored { id, kind, title, message, at, .. } = stored;
        Self { id, kind, title, message, timestamp: at }
    }
}

impl From<Found> for Item {
    fn from(Found { mut notification, read_at }: Found) -> Self {
        let (link, created_at) = (notification.link.take(), clock::rfc3339(notification.at));
        Self { notification: notification.into(), created_at, link, read: read_at.is_some() }
    }
}

/// The user, or the refusal with the sentence of the door, which another plugin owns.
pub(crate) fn user(caller: &Caller) -> Result<&User> {
    caller.user_or("Authentication error")
}

/// Whatever the user follows, this device follows too.
pub(crate) fn connect(caller: &Caller) -> Result<()> {
    let Some(user) = &caller.user else { return Ok(()) };
    for channel in channels::of(user)?.keys() {
        rooms::join(&channels::room(channel))?;
    }
    Ok(())
}

/// The user's inbox has it once, whichever namespaces the user's devices are in.
pub(crate) fn notify(user: &str, message: &Message, content: Content) -> Result<()> {
    let inbox = Log::of_user(message.tenant.as_deref(), user);
    let Some(stored) = inbox.append(&message.id, message.at, content)? else { return Ok(()) };
    let new = New::from(stored.clone());
    NEW.to_user(user, &new)?;
    if message.tenant.is_some() {
        company::NEW.to_user(user, &new)?;
    }
    Ok(NOTIFICATION.to_user(user, &stored.into())?)
}

/// A channel's notification of this user alone. It is in the user's own inbox, whether or not the user follows a channel.
pub(crate) fn notify_by_channel(user: &str, message: &Message, at: u64, content: Content) -> Result<()> {
    match Log::of_user(message.tenant.as_deref(), user).append(&message.id, at, content)? {
        Some(stored) => Ok(NOTIFICATION.to_user(user, &stored.into())?),
        None => Ok(()),
    }
}

/// Reading twice is no mistake, and keeps the first time.
pub(crate) fn read(user: &User, NotificationId { notification_id }: &NotificationId) -> Result<()> {
    let inbox = Log::of_user(user.tenant.as_deref(), &user.id);
    if let Some(number) = inbox.number(notification_id)? {
        let mut marks = Marks::of(&inbox)?;
        return if marks.read(number) { marks.save(&inbox) } else { Ok(()) };
    }
    let mut subscriptions = channels::of(user)?;
    for (channel, marks) in &mut subscriptions {
        let log = Log::of_channel(channel);
        let Some(number) = log.number(notification_id)?.filter(|number| marks.is_theirs(*number)) else { continue };
        if marks.read(number) {
            marks.trim(&log)?;
            channels::save(user, &subscriptions)?;
        }
        return Ok(());
    }
    Err(page::not_found())
}

pub(crate) fn list(user: &User, asked: Asked) -> Result<Page> {
    let inbox = Log::of_user(user.tenant.as_deref(), &user.id);
    let mut sources = vec![Source { marks: Marks::of(&inbox)?, log: inbox }];
    let subscriptions = channels::of(user)?.into_iter();
    sources.extend(subscriptions.map(|(channel, marks)| Source { log: Log::of_channel(&channel), marks }));
    let notifications = page::read(&sources, &asked)?.into_iter().map(Item::from).collect();
    Ok(Page { notifications, unread_count: page::unread(&sources)? })
}

#[cfg(test)]
mod tests;
