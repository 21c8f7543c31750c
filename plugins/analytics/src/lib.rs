//! Analytics: a company's numbers in `/analytics`, counted from what passes through the platform, and the server's own in
//! `/admin`. This page is the list of what clients may say and what happens then; it must never hold a rule of its own.

mod admin;
mod counts;
mod dashboard;

use hubbub_sdk::{Caller, Message, Result, Timer, plugin};

/// The plugin, without settings.
#[derive(Default)]
pub struct Analytics;

#[plugin(name = "analytics")]
#[door(
    "/analytics",
    token = "required",
    claims = ["userId", "companyId"],
    missing = "Authentication required",
    invalid = "Invalid or expired token"
)]
#[door(
    "/admin",
    token = "required",
    roles = ["ADMIN"],
    missing = "Authentication error",
    invalid = "Invalid token",
    forbidden = "Admins only"
)]
#[room("/analytics", "analytics:{id}")]
#[room("/admin", "admin:dashboard")]
#[emits(dashboard::UPDATE, admin::METRICS)]
impl Analytics {
    #[on_connect("/analytics")]
    fn enter(caller: &Caller) -> Result<()> {
        dashboard::enter(caller.user()?)
    }

    #[on(
        "analytics:request",
        namespace = "/analytics",
        reply = "analytics:update",
        invalid = "Failed to get metrics",
        on_failure = "Failed to get metrics"
    )]
    fn request(caller: &Caller, period: dashboard::Period) -> Result<dashboard::Metrics> {
        dashboard::request(caller.user()?, period)
    }

    #[on_timer("update:{company}")]
    fn update(timer: &Timer) -> Result<()> {
        dashboard::update(timer.param())
    }

    #[on_message("message.received")]
    fn received(message: &Message, about: counts::About) -> Result<()> {
        counts::received(message, &about)
    }

    #[on_message("message.sent")]
    fn sent(message: &Message, about: counts::About) -> Result<()> {
        counts::sent(message, &about)
    }

    #[on_message("conversation.upserted")]
    fn upserted(message: &Message, about: counts::About) -> Result<()> {
        counts::upserted(message, &about)
    }

    #[on_message("conversation.converted")]
    fn converted(message: &Message, about: counts::About) -> Result<()> {
        counts::converted(message, &about)
    }

    #[on_connect("/admin")]
    fn enter_admin() -> Result<()> {
        admin::enter()
    }

    #[on_message("host.figures")]
    fn figures(figures: admin::Figures) -> Result<()> {
        admin::figures(&figures)
    }
}
