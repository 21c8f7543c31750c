//! Analytics: a company's numbers in `/analytics`, counted from the platform's messages, and the server's metrics in `/admin`.

mod admin;
mod counts;
mod dashboard;

use hubbub_sdk::plugin;

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
#[parts(dashboard, counts, admin)]
impl Analytics {}
