//! Notifications: a stored inbox for every user, in `/` and for a company's members in `/notifications`, and channels to which users of
//! `/` subscribe.

mod channels;
mod company;
mod created;
mod general;
mod log;
mod marks;
mod page;

use hubbub_sdk::plugin;

/// The plugin, without settings.
#[derive(Default)]
pub struct Notifications;

#[plugin(name = "notifications")]
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
#[namespace("/", missing = "Authentication error")]
#[parts(company, general, channels, created)]
impl Notifications {}
