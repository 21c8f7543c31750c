//! The queries and bodies of operators' requests, parsed strictly. Must never need a running server: the fuzzer calls it.

use std::time::Duration;

use serde::Deserialize;

use crate::call::canary::Trial;

/// The most dead letters that one request may name.
pub(crate) const MAX_IDS: usize = 1000;

/// `canary=10`: percent of the users. `shadow=10`: percent of the calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployQuery {
    canary: Option<String>,
    shadow: Option<String>,
}

impl DeployQuery {
    pub(crate) fn trial(&self) -> Result<Option<Trial>, String> {
        match (&self.canary, &self.shadow) {
            (Some(_), Some(_)) => Err("a release on trial is a canary or a shadow, not both".into()),
            (Some(text), None) => percent("canary", text).map(|percent| Some(Trial::Canary(percent))),
            (None, Some(text)) => percent("shadow", text).map(|percent| Some(Trial::Shadow(percent))),
            (None, None) => Ok(None),
        }
    }
}

/// A percentage, with or without `%`.
fn percent(what: &str, text: &str) -> Result<u8, String> {
    let percent = text.trim_end_matches('%').parse::<u8>().ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| format!("{what} is {text:.20}; it must be 1 to 100, a percentage"))
}

/// `for=60s`, `sample=10`: percent of the calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordQuery {
    #[serde(rename = "for", deserialize_with = "crate::duration::deserialize")]
    pub(crate) time: Duration,
    sample: Option<String>,
    /// Whether texts are recorded without redaction.
    #[serde(default)]
    pub(crate) clear: bool,
}

impl RecordQuery {
    /// Percent of the calls.
    pub(crate) fn share(&self) -> Result<u8, String> {
        self.sample.as_deref().map_or(Ok(100), |text| percent("sample", text))
    }
}

/// A page of dead letters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    pub(crate) plugin: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) limit: Option<usize>,
    /// The number of the last letter of the previous page.
    pub(crate) after: Option<u64>,
    #[serde(default)]
    pub(crate) payload: bool,
}

/// Selects dead letters by number, by plugin, by topic, or by plugin and topic.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LetterSelection {
    #[serde(default)]
    pub(crate) ids: Vec<u64>,
    pub(crate) plugin: Option<String>,
    pub(crate) topic: Option<String>,
}

/// Why a selection is invalid: a title and the details.
pub(crate) type InvalidSelection = (&'static str, String);

impl LetterSelection {
    pub(crate) fn read(body: &[u8]) -> Result<Self, InvalidSelection> {
        let which: Self = serde_json::from_slice(body).map_err(|error| ("Not a selection of letters", error.to_string()))?;
        if which.ids.is_empty() && which.plugin.is_none() && which.topic.is_none() {
            return Err(("No letters selected", "name `ids`, or a `plugin`, or a `topic`".into()));
        }
        if which.ids.len() > MAX_IDS {
            return Err(("Too many letters", format!("{} letters are named; at most {MAX_IDS}", which.ids.len())));
        }
        Ok(which)
    }
}
