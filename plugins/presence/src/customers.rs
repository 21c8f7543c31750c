//! The support desk's customers in `/portal`. Their presence is tracked, and sent to no client.

use hubbub_sdk::{
    Result, User, plugin,
    presence::{self, Status},
};

use crate::Presence;

const GROUP: &str = "customers";

#[plugin(part, namespace = "/portal")]
impl Presence {
    #[on_connect]
    fn enter_portal(user: &User) -> Result<()> {
        presence::track(GROUP, &user.id, Status::Online, &())
    }

    /// Sent by every client each 30 s, so it must stay cheap: no store, no bus, no emit.
    #[on("heartbeat")]
    fn customer_heartbeat() -> Result<()> {
        presence::heartbeat()
    }
}

#[cfg(test)]
mod tests;
