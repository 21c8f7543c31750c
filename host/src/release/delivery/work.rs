//! One message on its way to a plugin, as the plugin is given it. Decides nothing of when and how often.

use crate::capability::profile::Profile;
use crate::names;
use crate::release::job::Job;
use crate::sandbox::exports::Message;
use crate::storage::OutboxMessage;
use crate::telemetry::traces::TraceParent;

pub(super) struct Work {
    pub(super) message: OutboxMessage,
    /// The row to be done with; none for what the host notices.
    pub(super) seq: Option<u64>,
}

/// One try of a message.
#[derive(Clone, Copy, Default)]
pub(super) struct Try {
    pub(super) again: bool,
    /// No canary may handle it.
    pub(super) active: bool,
}

impl Work {
    /// Messages of one key are handled in order.
    pub(super) fn key(&self) -> &str {
        self.message.key.as_deref().unwrap_or(&self.message.topic)
    }

    pub(super) fn job<'a>(&'a self, message: &'a Message, this: Try) -> Job<'a> {
        let Try { again, active } = this;
        Job::Message { message, key: self.key(), hops: self.message.hops, handled: self.seq.is_some(), again, active }
    }
}

/// The trace that a message was published in.
pub(super) fn traced_by(work: &Work) -> Option<TraceParent> {
    work.message.trace.as_deref()?.parse().ok()
}

/// A message as a release's plugin is given it.
pub(super) fn message_of(work: &Work, profile: &Profile) -> Message {
    let sent = &work.message;
    let tenant = sent.tenant.clone().or_else(|| tenant_in(&sent.data, &profile.config));
    let tenant = tenant.or_else(|| profile.default_tenant.as_deref().map(str::to_owned));
    Message { id: sent.id.clone(), topic: sent.topic.clone(), tenant, data: sent.data.clone(), at: sent.at_ms }
}

/// The tenant that a message's data names: at the operator's `tenant_path` (such as `account.id`), else as `tenant` or `companyId`.
fn tenant_in(data: &str, config: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let configured = config.get("tenant_path").and_then(|path| path.as_str());
    // Most messages name none: a look at the text spares them the parse.
    if configured.is_none() && !data.contains("\"tenant\"") && !data.contains("\"companyId\"") {
        return None;
    }
    let data: serde_json::Value = serde_json::from_str(data).ok()?;
    let paths = configured.map_or(vec!["tenant", "companyId"], |path| vec![path]);
    let found = paths.into_iter().find_map(|path| path.split('.').try_fold(&data, |value, key| value.get(key)))?;
    let tenant = match found {
        serde_json::Value::String(tenant) => tenant.clone(),
        serde_json::Value::Number(tenant) => tenant.to_string(),
        _ => return None,
    };
    names::check("tenant", &tenant).is_ok().then_some(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_found_in_the_data() {
        let config = serde_json::Map::new();
        assert_eq!(tenant_in(r#"{"companyId":"acme"}"#, &config).as_deref(), Some("acme"));
        assert_eq!(tenant_in(r#"{"companyId":7}"#, &config).as_deref(), Some("7"));
        assert_eq!(tenant_in(r#"{"companyId":7,"tenant":"acme"}"#, &config).as_deref(), Some("acme"));
        for without in ["{}", r#"{"companyId":""}"#, "{\"companyId\":\"a\\u001fb\"}", r#"{"companyId":null}"#] {
            assert_eq!(tenant_in(without, &config), None, "{without}");
        }
    }
}
