//! One message on its way to a plugin, in the form that the plugin receives. Does not decide when and how often it is delivered.

use crate::call::job::Job;
use crate::call::release::Release;
use crate::names;
use crate::sandbox::exports::Message;
use crate::storage::OutboxMessage;
use crate::telemetry::traces::TraceParent;
use crate::transaction::profile::{Profile, TENANT_PATH};

pub(crate) struct Work {
    pub(crate) message: OutboxMessage,
    /// The row to mark as handled; none for a notice of the host.
    pub(crate) seq: Option<u64>,
}

/// One attempt to handle a message.
#[derive(Clone, Copy, Default)]
pub(crate) struct Try {
    pub(crate) again: bool,
    /// No canary may handle it.
    pub(crate) active: bool,
}

impl Work {
    /// Messages of one key are handled in order.
    pub(crate) fn key(&self) -> &str {
        self.message.key.as_deref().unwrap_or(&self.message.topic)
    }

    /// Whether a release wants it. A notice of the host is always for the live release.
    pub(crate) fn is_for(&self, release: &Release) -> bool {
        self.seq.is_none() || release.manifest.topics.contains(&self.message.topic)
    }

    pub(crate) fn job<'a>(&'a self, message: &'a Message, this: Try) -> Job<'a> {
        let Try { again, active } = this;
        Job::Message { message, key: self.key(), hops: self.message.hops, handled: self.seq.is_some(), again, active }
    }
}

/// The trace of the publisher.
pub(crate) fn traced_by(work: &Work) -> Option<TraceParent> {
    work.message.trace.as_deref()?.parse().ok()
}

/// The message in the form that a release's plugin receives.
pub(crate) fn message_of(work: &Work, profile: &Profile) -> Message {
    let sent = &work.message;
    let tenant = sent.tenant.clone().or_else(|| tenant_in(&sent.data, &profile.config));
    let tenant = tenant.or_else(|| profile.default_tenant.as_deref().map(str::to_owned));
    Message { id: sent.id.clone(), topic: sent.topic.clone(), tenant, data: sent.data.clone(), at: sent.at_ms }
}

/// Paths in a message's data that may name its tenant; the first that does is used.
const TENANT_PATHS: [&str; 2] = ["tenant", "companyId"];

/// The tenant that a message's data names: at `tenant_path` of the plugin's settings, if the operator has set it.
fn tenant_in(data: &str, config: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let configured = config.get(TENANT_PATH).and_then(|path| path.as_str());
    // Most messages name no tenant: a text search saves parsing them. A key with escapes is not recognized.
    if configured.is_none() && !data.contains("\"tenant\"") && !data.contains("\"companyId\"") {
        return None;
    }
    let data: serde_json::Value = serde_json::from_str(data).ok()?;
    match configured {
        Some(path) => tenant_at(&data, path),
        None => TENANT_PATHS.iter().find_map(|path| tenant_at(&data, path)),
    }
}

fn tenant_at(data: &serde_json::Value, path: &str) -> Option<String> {
    let tenant = match path.split('.').try_fold(data, |value, key| value.get(key))? {
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
        for without in ["{}", r#"{"companyId":""}"#, "{\"companyId\":\"a\\u001fb\"}", r#"{"companyId":null}"#] {
            assert_eq!(tenant_in(without, &config), None, "{without}");
        }
        assert_eq!(tenant_in(r#"{"tenant":"acme","companyId":"bolt"}"#, &config).as_deref(), Some("acme"));
        assert_eq!(tenant_in(r#"{"tenant":"","companyId":"bolt"}"#, &config).as_deref(), Some("bolt"));
        let config = serde_json::Map::from_iter([("tenant_path".to_owned(), "org.id".into())]);
        assert_eq!(tenant_in(r#"{"tenant":"acme","org":{"id":"bolt"}}"#, &config).as_deref(), Some("bolt"));
        assert_eq!(tenant_in(r#"{"tenant":"acme"}"#, &config), None);
    }
}
