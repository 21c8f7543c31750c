//! The queries and bodies of operators' requests, parsed strictly. Must never need a running server: the fuzzer calls it.

use std::time::Duration;

use serde::Deserialize;

use crate::call::canary::Trial;

/// The most letters that one request names.
pub(crate) const MAX_IDS: usize = 1000;

/// `canary=10`: percent of the users. `shadow=10`: percent of the calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HowToDeploy {
    canary: Option<String>,
    shadow: Option<String>,
}

impl HowToDeploy {
    pub(crate) fn trial(&self) -> Result<Option<Trial>, String> {
        match (&self.canary, &self.shadow) {
            (Some(_), Some(_)) => Err("a release on trial is a canary or a shadow, not both".into()),
            (Some(text), None) => percent("canary", text).map(|percent| Some(Trial::Canary(percent))),
            (None, Some(text)) => percent("shadow", text).map(|percent| Some(Trial::Shadow(percent))),
            (None, None) => Ok(None),
        }
    }
}

/// A share, with or without its sign.
fn percent(what: &str, text: &str) -> Result<u8, String> {
    let percent = text.trim_end_matches('%').parse::<u8>().ok().filter(|percent| (1..=100).contains(percent));
    percent.ok_or_else(|| format!("{what} is {text:.20}; it must be 1 to 100, a percentage"))
}

/// `for=60s`, `sample=10`: percent of the calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhatToRecord {
    #[serde(rename = "for", deserialize_with = "crate::duration::deserialize")]
    pub(crate) time: Duration,
    sample: Option<String>,
    /// Texts as they are.
    #[serde(default)]
    pub(crate) clear: bool,
}

impl WhatToRecord {
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
    /// The number of the last letter of the page before.
    pub(crate) after: Option<u64>,
    #[serde(default)]
    pub(crate) payload: bool,
}

/// Which letters: those with these numbers, or all of a plugin, or of a topic, or of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    #[serde(default)]
    pub(crate) ids: Vec<u64>,
    pub(crate) plugin: Option<String>,
    pub(crate) topic: Option<String>,
}

/// Why a choice of letters is none: a title and the details.
pub(crate) type NoChoice = (&'static str, String);

impl Which {
    /// Reads a body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, NoChoice> {
        let which: Self = serde_json::from_slice(body).map_err(|error| ("Not a choice of letters", error.to_string()))?;
        if which.ids.is_empty() && which.plugin.is_none() && which.topic.is_none() {
            return Err(("Which letters?", "name `ids`, or a `plugin`, or a `topic`".into()));
        }
        if which.ids.len() > MAX_IDS {
            return Err(("Too many letters", format!("{} letters are named; at most {MAX_IDS}", which.ids.len())));
        }
        Ok(which)
    }
}
