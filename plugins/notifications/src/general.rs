//! A user's notifications in `/`: the inbox and the subscribed channels, in one list. The frontends of two products connect here, each with
//! its own event. Nothing is stored for visitors.

use hubbub_sdk::{Message, Result, User, clock, emitter::Emits, payload::Id, plugin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Notifications,
    channels::{self, CHANNEL},
    company::New,
    log::{Content, Log, Stored},
    marks::Marks,
    page::{self, Found, PageRequest, Source},
};

const NEW: Emits<New> = Emits::in_each(&["/", "/notifications"], "notification:new");
pub(crate) const NOTIFICATION: Emits<Notification> = Emits::new("/", "notification");

/// `notification`: of a channel, or of the user's inbox.
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

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NotificationId {
    notification_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Page {
    /// Those of the inbox and of subscribed channels, newest first.
    notifications: Vec<Item>,
    /// Unread ones among the newest 1000 of the inbox, and the newest 100 of every channel since the subscription.
    unread_count: i64,
}

/// A notification as in `notification` and `notification:new`, and whether it was read.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(flatten)]
    notification: Notification,
    created_at: String,
    /// Absent if the backend gave none.
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

#[plugin(part, namespace = "/")]
#[emits(NEW, NOTIFICATION)]
impl Notifications {
    /// The new device joins the rooms of the user's subscriptions.
    #[on_connect]
    fn connect_user(user: Option<&User>) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        channels::of(user)?.keys().try_for_each(|channel| CHANNEL.of(channel).join())
    }

    /// Idempotent: the first time of reading stays.
    #[on("notifications:read")]
    fn read_one(user: &User, NotificationId { notification_id }: NotificationId) -> Result<()> {
        let inbox = Log::of_user(user.tenant.as_deref(), &user.id);
        if let Some(number) = inbox.number(&notification_id)? {
            let mut marks = Marks::of(&inbox)?;
            return if marks.read(number) { marks.save(&inbox) } else { Ok(()) };
        }
        let mut subscriptions = channels::of(user)?;
        for (channel, marks) in &mut subscriptions {
            let log = Log::of_channel(channel);
            let Some(number) = log.number(&notification_id)?.filter(|number| marks.is_theirs(*number)) else { continue };
            if marks.read(number) {
                marks.trim(&log)?;
                channels::save(user, &subscriptions)?;
            }
            return Ok(());
        }
        Err(page::not_found())
    }

    #[on("notifications:list", reply)]
    fn list_all(user: &User, request: Option<PageRequest>) -> Result<Page> {
        let inbox = Log::of_user(user.tenant.as_deref(), &user.id);
        let mut sources = vec![Source { marks: Marks::of(&inbox)?, log: inbox }];
        let subscriptions = channels::of(user)?.into_iter();
        sources.extend(subscriptions.map(|(channel, marks)| Source { log: Log::of_channel(&channel), marks }));
        let notifications = page::read(&sources, &request.unwrap_or_default())?.into_iter().map(Item::from).collect();
        Ok(Page { notifications, unread_count: page::unread(&sources)? })
    }
}

/// Stores a notification in the user's inbox, and sends it in every namespace that shows the inbox.
pub(crate) fn notify(user: &str, message: &Message, content: Content) -> Result<()> {
    let inbox = Log::of_user(message.tenant.as_deref(), user);
    let Some(stored) = inbox.append(&message.id, message.at, content)? else { return Ok(()) };
    let new = New::from(stored.clone());
    match message.tenant {
        Some(_) => NEW.to_user(user, &new)?,
        None => NEW.within("/").to_user(user, &new)?,
    }
    NOTIFICATION.to_user(user, &stored.into())
}

/// Stores a channel's notification for one user in the user's inbox. The user need not subscribe to the channel.
pub(crate) fn notify_by_channel(user: &str, message: &Message, at: u64, content: Content) -> Result<()> {
    match Log::of_user(message.tenant.as_deref(), user).append(&message.id, at, content)? {
        Some(stored) => NOTIFICATION.to_user(user, &stored.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
