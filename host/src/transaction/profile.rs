//! The properties of one release for its calls: names, permissions and metrics. Never changed after staging.

use std::sync::Arc;

use crate::budgets::quota::Usage;
use crate::names::PluginName;
use crate::telemetry::PluginMetrics;

/// One release, for its calls.
pub struct Profile {
    pub name: PluginName,
    pub version: String,
    pub tenancy: Tenancy,
    /// `auth.default_tenant`: the tenant of clients, messages and calls without one.
    pub default_tenant: Option<Arc<str>>,
    /// The namespaces it takes part in.
    pub namespaces: Vec<Pattern>,
    /// The rooms it may join sockets to.
    pub rooms: Vec<(Pattern, Pattern)>,
    /// `[plugins.NAME.config]`
    pub config: Arc<serde_json::Map<String, serde_json::Value>>,
    pub metrics: Arc<PluginMetrics>,
    /// The plugin's quota and use, over all its releases.
    pub usage: Arc<Usage>,
}

/// The setting of a plugin with the path of the tenant in a message's data, such as `org.id`. It is for the host: the plugin's
/// `init` does not receive it.
pub const TENANT_PATH: &str = "tenant_path";

/// Whether a tenant is part of the names of rooms. See `plugin.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    None,
    Required,
    /// Only if the caller or the message has one.
    Optional,
}

/// A name with at most one parameter, at its end: `/course/{id}`, `chat:{id}`, `/chat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The text in the plugin's description.
    pub text: Arc<str>,
    /// The start of the parameter, or the text's length if there is none.
    fixed: usize,
}

/// An invalid pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: one parameter like {{id}} may stand at the end of a pattern, and nowhere else")]
pub struct InvalidPattern(String);

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.to_owned());
        let fixed = match text.find('{') {
            None if text.contains('}') => return Err(invalid()),
            None => text.len(),
            Some(at) => {
                let inside = text[at + 1..].strip_suffix('}').ok_or_else(invalid)?;
                if inside.is_empty() || inside.contains(['{', '}']) || at == 0 {
                    return Err(invalid());
                }
                at
            }
        };
        Ok(Self { text: text.into(), fixed })
    }

    pub fn is_literal(&self) -> bool {
        self.fixed == self.text.len()
    }

    /// The text before the parameter.
    pub fn prefix(&self) -> &str {
        &self.text[..self.fixed]
    }

    pub fn matches(&self, name: &str) -> bool {
        if self.is_literal() { &*self.text == name } else { name.len() > self.fixed && name.starts_with(self.prefix()) }
    }

    /// Whether one name could match both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.is_literal(), other.is_literal()) {
            (true, _) => other.matches(&self.text),
            (_, true) => self.matches(&other.text),
            _ => self.prefix().starts_with(other.prefix()) || other.prefix().starts_with(self.prefix()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pattern_has_one_parameter_at_its_end() {
        let course = Pattern::parse("/course/{id}").unwrap();
        assert!(course.matches("/course/1") && !course.matches("/course/") && !course.matches("/courses"));
        assert!(Pattern::parse("/chat").unwrap().matches("/chat"));
        for wrong in ["{id}", "/a/{id}/b", "/a/{}", "/a/{id", "a}b"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_overlap_if_one_name_matches_both() {
        let overlap = |a, b| Pattern::parse(a).unwrap().overlaps(&Pattern::parse(b).unwrap());
        assert!(overlap("chat:{id}", "chat:{x}"));
        assert!(overlap("chat:{id}", "chat:lobby"));
        assert!(overlap("c{id}", "chat:{id}"));
        assert!(!overlap("chat:{id}", "video:{id}"));
        assert!(!overlap("chat", "chat:{id}"));
    }
}
