//! The least version of a plugin that the operator allows. An older release is never staged, from any source.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Deserializer};

use crate::names::PluginName;

/// `[plugins.NAME] min_version`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeastVersion(Version);

impl<'de> Deserialize<'de> for LeastVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let parsed = Version::parse(text.trim()).map_err(|_| serde::de::Error::custom("must be a version, such as 1.2.0"));
        parsed.map(Self)
    }
}

/// A release older than the least version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{version} is older than plugins.{plugin}.min_version, which is {least}")]
pub struct TooOld {
    plugin: PluginName,
    version: String,
    least: Version,
}

/// The least version of each plugin that has one.
#[derive(Debug, Clone, Default)]
pub struct LeastVersions(BTreeMap<PluginName, LeastVersion>);

impl LeastVersions {
    pub fn new(of: BTreeMap<PluginName, LeastVersion>) -> Self {
        Self(of)
    }

    /// Compares as semantic versions do: `1.2.0-rc.1` is older than `1.2.0`.
    pub fn check(&self, plugin: &PluginName, version: &str) -> Result<(), TooOld> {
        let Some(LeastVersion(least)) = self.0.get(plugin) else { return Ok(()) };
        // A text that is not a semantic version cannot be compared, so it may be older.
        let is_enough = Version::parse(version).is_ok_and(|version| version.cmp_precedence(least).is_ge());
        let too_old = || TooOld { plugin: plugin.clone(), version: version.to_owned(), least: least.clone() };
        is_enough.then_some(()).ok_or_else(too_old)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_older_version_is_refused_and_the_least_is_not() {
        let plugin = PluginName::parse("chat").unwrap();
        let least: LeastVersion = serde_json::from_str("\"1.2.0\"").unwrap();
        let versions = LeastVersions::new([(plugin.clone(), least)].into());
        for fine in ["1.2.0", "1.2.0+build.7", "1.10.0", "2.0.0-rc.1"] {
            assert_eq!(versions.check(&plugin, fine), Ok(()), "{fine}");
        }
        for old in ["1.1.99", "1.2.0-rc.1", "0.9.0", "01.3.0", "1.2"] {
            let error = versions.check(&plugin, old).unwrap_err().to_string();
            assert!(error.contains(old) && error.contains("plugins.chat.min_version, which is 1.2.0"), "{error}");
        }
        assert_eq!(versions.check(&PluginName::parse("other").unwrap(), "0.0.1"), Ok(()));
    }

    #[test]
    fn an_invalid_least_version_is_refused() {
        let error = serde_json::from_str::<LeastVersion>("\"newest\"").unwrap_err().to_string();
        assert!(error.contains("must be a version"), "{error}");
    }
}
