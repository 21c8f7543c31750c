//! Conversations of teams in `/`, as a product's backend publishes them: within a tenant, or among the users without one.

mod conversations;
mod members;
mod messages;
mod news;
mod place;
mod unread;

use hubbub_sdk::plugin;

const NAMESPACE: &str = "/";

/// The plugin, without settings.
#[derive(Default)]
pub struct Conversations;

#[plugin(name = "conversations", tenancy = "optional")]
#[tenant_keys("teams//", with = "teams/{tenant}/")]
#[takes("chat", prefix = "teams/")]
#[namespace("/", missing = "Authentication error")]
#[rooms(place::MEMBERS, place::OPEN, place::EVERYONE)]
#[parts(conversations, news, messages, unread, members)]
impl Conversations {}

#[cfg(test)]
mod tests;
