//! Notifications: a stored inbox for every user, shown in `/` and to a company's members in `/notifications`, and the channels that
//! users of `/` subscribe to. This page is the list of what clients may say and what happens then; it must never hold a rule of
//! its own.

mod channels;
mod company;
mod created;
mod general;
mod log;
mod marks;
mod page;

use hubbub_sdk::{Caller, Message, Result, plugin};

/// The plugin: it takes no settings, and nothing in it changes.
#[derive(Default)]
pub struct Notifications;

#[plugin(name = "notifications")]
#[tenant_keys("subscriptions/")]
#[tenant_keys("count/user/", with = "count/member/{tenant}/")]
#[tenant_keys("items/user/", with = "items/member/{tenant}/")]
#[tenant_keys("places/user/", with = "places/member/{tenant}/")]
#[tenant_keys("marks/user/", with = "marks/member/{tenant}/")]
#[door(
    "/notifications",
    token = "required",
    claims = ["userId", "companyId"],
    missing = "Authentication required",
    invalid = "Invalid or expired token"
)]
#[namespace("/")]
#[room("/notifications", "company:{id}")]
#[room("/", "channel:{channelId}")]
#[emits(company::NEW, company::READ, company::ALL_READ)]
#[emits(general::NEW, general::NOTIFICATION)]
impl Notifications {
    #[on_connect("/notifications")]
    fn connect_member(caller: &Caller) -> Result<()> {
        company::connect(caller)
    }

    #[on(
        "notification:read",
        namespace = "/notifications",
        invalid = "Invalid notification id",
        on_failure = "Failed to mark as read"
    )]
    fn read(caller: &Caller, ids: company::Ids) -> Result<()> {
        company::read(caller, ids)
    }

    #[on("notification:all_read", namespace = "/notifications", on_failure = "Failed")]
    fn all_read(caller: &Caller) -> Result<()> {
        company::all_read(caller)
    }

    #[on("notification:list", namespace = "/notifications", reply)]
    fn list(caller: &Caller, asked: Option<page::Asked>) -> Result<company::Page> {
        company::list(caller, asked.unwrap_or_default())
    }

    #[on_connect("/")]
    fn connect_user(caller: &Caller) -> Result<()> {
        general::connect(caller)
    }

    #[on("notifications:subscribe", namespace = "/")]
    fn subscribe(caller: &Caller, channel: channels::ChannelId) -> Result<()> {
        channels::subscribe(general::user(caller)?, channel)
    }

    #[on("notifications:unsubscribe", namespace = "/")]
    fn unsubscribe(caller: &Caller, channel: channels::ChannelId) -> Result<()> {
        channels::unsubscribe(general::user(caller)?, &channel)
    }

    #[on("notifications:read", namespace = "/")]
    fn read_one(caller: &Caller, notification: general::NotificationId) -> Result<()> {
        general::read(general::user(caller)?, &notification)
    }

    #[on("notifications:list", namespace = "/", reply)]
    fn list_all(caller: &Caller, asked: Option<page::Asked>) -> Result<general::Page> {
        general::list(general::user(caller)?, asked.unwrap_or_default())
    }

    #[on_message("notification.created")]
    fn created(message: &Message, created: created::Created) -> Result<()> {
        created::created(message, created)
    }

    #[on_message("notification.confirmed")]
    fn confirmed(confirmed: company::Confirmed) -> Result<()> {
        company::confirmed(&confirmed)
    }

    #[on_message("channel.notification")]
    fn posted(message: &Message, posted: channels::Posted) -> Result<()> {
        channels::posted(message, posted)
    }
}
