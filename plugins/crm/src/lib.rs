//! Conversations of a CRM in `/conversations`. Each belongs to one company, which is the tenant: the host keeps the rooms and users of
//! companies apart, and every stored key names its company.

mod conversations;
mod history;
mod messages;

use hubbub_sdk::plugin;

const NAMESPACE: &str = "/conversations";

/// The plugin, without settings.
#[derive(Default)]
pub struct Crm;

#[plugin(name = "crm", tenancy = "required")]
#[takes("chat", prefix = "crm/")]
#[door("/conversations", token = "required", claims = ["userId", "companyId"], missing = "Authentication required",
    invalid = "Invalid or expired token")]
#[parts(conversations, messages, history)]
impl Crm {}

#[cfg(test)]
mod tests;
