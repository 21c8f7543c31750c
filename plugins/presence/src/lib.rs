//! Presence: the support desk's attendants in `/hub` and its customers in `/portal`, a company's users in `/conversations` and a
//! tenant's in `/`. Tenancy is optional: groups and rooms are the tenant's where a user has one. This page is the list of what clients may say and what happens then; it must never hold a rule of its own.

mod attendants;
mod company;
mod customers;
mod tenant;

use hubbub_sdk::{Caller, Json, Message, Result, plugin, presence::Changed};

/// The plugin, without settings: how long one may be silent, or gone, before it shows is the host's configuration.
#[derive(Default)]
pub struct Presence;

#[plugin(name = "presence", tenancy = "optional")]
#[namespace("/hub")]
#[namespace("/portal")]
#[namespace("/conversations")]
#[namespace("/")]
#[room("/hub", "presence:attendants")]
#[emits(attendants::ONLINE, attendants::AWAY, attendants::OFFLINE)]
#[emits(company::ONLINE, company::OFFLINE)]
#[emits(tenant::ONLINE, tenant::OFFLINE)]
impl Presence {
    #[on_connect("/hub")]
    fn enter_hub(caller: &Caller) -> Result<()> {
        attendants::enter(caller.user()?)
    }

    #[on("presence:online", namespace = "/hub")]
    fn online(caller: &Caller) -> Result<()> {
        attendants::online(caller.user()?)
    }

    #[on("presence:away", namespace = "/hub")]
    fn away(caller: &Caller) -> Result<()> {
        attendants::away(caller.user()?)
    }

    #[on("heartbeat", namespace = "/hub")]
    fn heartbeat() -> Result<()> {
        attendants::heartbeat()
    }

    #[on("presence:list", namespace = "/hub", reply)]
    fn list() -> Result<attendants::Attendants> {
        attendants::list()
    }

    #[on_connect("/portal")]
    fn enter_portal(caller: &Caller) -> Result<()> {
        customers::enter(caller.user()?)
    }

    #[on("heartbeat", namespace = "/portal")]
    fn customer_heartbeat() -> Result<()> {
        customers::heartbeat()
    }

    #[on_connect("/conversations")]
    fn enter_conversations(caller: &Caller) -> Result<()> {
        company::enter(caller.user()?)
    }

    #[on_connect("/")]
    fn enter(caller: &Caller) -> Result<()> {
        tenant::enter(caller)
    }

    #[on_message("presence.changed")]
    fn changed(message: &Message, changed: Changed<Json<attendants::Meta>>) -> Result<()> {
        attendants::changed(message.at, &changed)?;
        company::changed(message, &changed)?;
        tenant::changed(message, &changed)
    }
}
