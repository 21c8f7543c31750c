//! Presence of a support desk's attendants in `/hub` and customers in `/portal`, of a company's users in `/conversations`, and of a
//! tenant's users in `/`. Tenancy is optional: groups and rooms belong to the user's tenant, if there is one.

mod attendants;
mod company;
mod customers;
mod tenant;

use hubbub_sdk::plugin;

/// The plugin, without settings. The times for away and offline are the host's configuration.
#[derive(Default)]
pub struct Presence;

#[plugin(name = "presence", tenancy = "optional")]
#[namespace("/hub")]
#[namespace("/portal")]
#[namespace("/conversations")]
#[namespace("/")]
#[parts(attendants, customers, company, tenant)]
impl Presence {}
