//! The stored history of a plugin's releases: the active one, the previous one, and the state of the others. A restart reads it,
//! and makes the active release live.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::call::breaker::Quarantined;
use crate::call::canary::Trial;
use crate::call::manifest::Taken;
use crate::names::PluginName;
use crate::storage::{Storage, Unavailable};

/// The most releases in a history.
const HISTORY: usize = 20;

/// The most histories that are read.
pub const MAX_PLUGINS: usize = 1000;

/// The most components that a start checks: those of all plugins, and unneeded ones.
const MAX_COMPONENTS: usize = 10 * MAX_PLUGINS;

/// One plugin's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// The component of the configured file at the last start or reload: another one in the file is a deployment.
    pub seed: Option<String>,
    pub active: Option<String>,
    pub previous: Option<String>,
    pub disabled: bool,
    /// The plugin is stopped while its data is moved to another plugin.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub moving: bool,
    /// The data of other plugins that was moved to this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub took: Vec<Taken>,
    /// Releases that were active before a part of the data was moved to other plugins: they would not find it, and write it anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before_moves: Vec<String>,
    /// The release was removed when its set was rolled back. A start does not deploy its file again until the file changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// Sources of calls of the active release that are quarantined until an operator ends it, also after restarts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
    /// The newest last.
    pub releases: Vec<Entry>,
}

/// One release, by its component's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub digest: String,
    pub version: String,
    pub state: State,
    /// When it entered this state, RFC 3339.
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// A trial's share of the users.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub percent: Option<u8>,
}

/// The state of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Canary,
    Shadow,
    Active,
    Retired,
    Rejected,
    RolledBack,
    Quarantined,
}

impl Entry {
    /// The trial of an entry that is on trial.
    pub fn trial(&self) -> Trial {
        let percent = self.percent.unwrap_or(1);
        if self.state == State::Shadow { Trial::Shadow(percent) } else { Trial::Canary(percent) }
    }
}

impl History {
    /// The key of a plugin's stored history.
    pub fn blob(name: &PluginName) -> String {
        format!("{PLUGINS}{name}")
    }

    /// Records the state of a release. The oldest entries are removed.
    pub fn note(&mut self, digest: &str, version: &str, state: State, at: &str, why: Option<String>) {
        self.releases.retain(|entry| entry.digest != digest);
        let (digest, version, at) = (digest.to_owned(), version.to_owned(), at.to_owned());
        self.releases.push(Entry { digest, version, state, at, why, percent: None });
        let over = self.releases.len().saturating_sub(HISTORY);
        self.releases.drain(..over);
    }

    /// Puts a release on trial, in place of the current trial.
    pub fn start_trial(&mut self, digest: &str, version: &str, trial: Trial, at: &str) {
        let (state, percent) = match trial {
            Trial::Canary(percent) => (State::Canary, percent),
            Trial::Shadow(percent) => (State::Shadow, percent),
        };
        self.end_trial(at);
        self.note(digest, version, state, at, Some(format!("{percent} %")));
        if let Some(entry) = self.releases.last_mut() {
            entry.percent = Some(percent);
        }
    }

    fn end_trial(&mut self, at: &str) {
        for entry in self.releases.iter_mut().filter(|entry| matches!(entry.state, State::Canary | State::Shadow)) {
            (entry.state, entry.at) = (State::Retired, at.to_owned());
        }
    }

    /// Makes a release active, and the active one the previous, unless its calls from clients were quarantined. A trial ends,
    /// since it was compared with the replaced release.
    pub fn activate(&mut self, digest: &str, version: &str, at: &str) {
        self.end_trial(at);
        let was_bad = self.quarantined.iter().any(|one| one.source.is_clients());
        self.quarantined.clear();
        if let Some(old) = self.active.take().filter(|old| old != digest && !was_bad) {
            if let Some(entry) = self.releases.iter_mut().find(|entry| entry.digest == old && entry.state == State::Active) {
                (entry.state, entry.at) = (State::Retired, at.to_owned());
            }
            self.previous = Some(old);
        }
        self.active = Some(digest.to_owned());
        self.withdrawn = false;
        self.note(digest, version, State::Active, at, None);
    }

    /// Removes the active release without a replacement.
    pub fn withdraw(&mut self, version: &str, at: &str, why: &str) {
        self.end_trial(at);
        self.quarantined.clear();
        self.withdrawn = true;
        (self.took, self.previous) = (Vec::new(), None);
        if let Some(active) = self.active.take() {
            self.note(&active, version, State::RolledBack, at, Some(why.to_owned()));
        }
    }

    /// Quarantines a source of calls of the active release.
    pub fn quarantine(&mut self, version: &str, one: Quarantined) {
        let Some(digest) = self.active.clone() else { return };
        let why = Some(format!("{}: {}", one.source, one.cause));
        let at = one.at.clone();
        self.quarantined.retain(|other| other.source != one.source);
        self.quarantined.push(one);
        self.note(&digest, version, State::Quarantined, &at, why);
    }

    /// Ends a quarantine, on the operator's request.
    pub fn end_quarantine(&mut self, at: &str) {
        self.quarantined.clear();
        let active = self.active.as_ref();
        for entry in self.releases.iter_mut().filter(|entry| Some(&entry.digest) == active && entry.state == State::Quarantined) {
            (entry.state, entry.at, entry.why) = (State::Active, at.to_owned(), Some("enabled by the operator".to_owned()));
        }
    }

    /// The release on trial beside the active one.
    pub fn on_trial(&self) -> Option<&Entry> {
        self.releases.iter().find(|entry| matches!(entry.state, State::Canary | State::Shadow))
    }

    /// Whether a component is needed.
    pub fn needs(&self, digest: &str) -> bool {
        [&self.active, &self.previous].into_iter().flatten().any(|needed| needed == digest)
            || self.on_trial().is_some_and(|entry| entry.digest == digest)
    }
}

/// Removes components and signatures that no history needs: a deployment may end with its process after storing the component,
/// before the history is written. No deployment may run meanwhile.
pub async fn sweep(storage: &dyn Storage) -> Result<(), Unavailable> {
    let mut histories = Vec::new();
    for blob in storage.blobs(PLUGINS, MAX_PLUGINS).await? {
        let Some(json) = storage.blob(&blob).await? else { continue };
        // A history that cannot be parsed may need any component.
        let Ok(history) = serde_json::from_slice::<History>(&json) else { return Ok(()) };
        histories.push(history);
    }
    let stored = [storage.blobs(COMPONENTS, MAX_COMPONENTS).await?, storage.blobs(SIGNATURES, MAX_COMPONENTS).await?].concat();
    let digests: BTreeSet<_> = stored.iter().filter_map(|blob| Some(blob.split_once('/')?.1)).collect();
    for digest in digests {
        if !histories.iter().any(|history| history.needs(digest)) {
            tracing::info!(%digest, "no release needs this component: removed");
            remove_component(storage, digest).await?;
        }
    }
    Ok(())
}

/// Stores a component and its signature. Without `signature`, one that is stored already is kept.
pub async fn put_component(storage: &dyn Storage, component: Bytes, signature: Option<&str>) -> Result<(), Unavailable> {
    let digest = digest(&component);
    // The signature is stored first: a component without it would be refused if signatures are required.
    if let Some(signature) = signature {
        storage.put_blob(signature_blob(&digest), signature.trim().to_owned().into()).await?;
    }
    storage.put_blob(component_blob(&digest), component).await
}

/// A stored component and its signature.
pub async fn component(storage: &dyn Storage, digest: &str) -> Result<Option<(Bytes, Option<String>)>, Unavailable> {
    let Some(component) = storage.blob(&component_blob(digest)).await? else { return Ok(None) };
    let signature = storage.blob(&signature_blob(digest)).await?;
    Ok(Some((component, signature.map(|text| String::from_utf8_lossy(&text).into_owned()))))
}

/// Removes a component and its signature.
pub async fn remove_component(storage: &dyn Storage, digest: &str) -> Result<(), Unavailable> {
    storage.remove_blob(component_blob(digest)).await?;
    storage.remove_blob(signature_blob(digest)).await?;
    Ok(())
}

/// The prefix of histories.
pub const PLUGINS: &str = "plugin/";

/// The prefix of components.
const COMPONENTS: &str = "component/";

/// The prefix of signatures.
const SIGNATURES: &str = "signature/";

/// A component's identity: SHA-256, in hex.
pub fn digest(component: &[u8]) -> String {
    Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key of a stored component.
fn component_blob(digest: &str) -> String {
    format!("{COMPONENTS}{digest}")
}

/// The key of a component's signature, stored as base64.
fn signature_blob(digest: &str) -> String {
    format!("{SIGNATURES}{digest}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::call::breaker::Source;
    use crate::clock::Clock;
    use crate::storage::Embedded;

    #[test]
    fn an_activated_release_makes_the_old_one_previous() {
        let mut history = History::default();
        history.activate("a", "1.0.0", "t1");
        history.activate("b", "1.1.0", "t2");
        assert_eq!((history.active.as_deref(), history.previous.as_deref()), (Some("b"), Some("a")));
        let states: Vec<_> = history.releases.iter().map(|entry| (entry.digest.as_str(), entry.state)).collect();
        assert_eq!(states, [("a", State::Retired), ("b", State::Active)]);
        assert!(history.needs("a") && history.needs("b") && !history.needs("c"));
    }

    #[test]
    fn a_trial_ends_when_the_active_release_is_replaced() {
        let mut history = History::default();
        history.activate("a", "1.0.0", "t1");
        history.start_trial("b", "1.1.0", Trial::Canary(10), "t2");
        history.activate("c", "1.2.0", "t3");
        let states: Vec<_> = history.releases.iter().map(|entry| (entry.digest.as_str(), entry.state)).collect();
        assert_eq!(states, [("a", State::Retired), ("b", State::Retired), ("c", State::Active)]);
        assert!(history.on_trial().is_none() && !history.needs("b"));
    }

    #[test]
    fn a_release_deployed_again_is_not_its_own_previous() {
        let mut history = History::default();
        history.activate("a", "1.0.0", "t1");
        history.activate("a", "1.0.0", "t2");
        assert_eq!((history.active.as_deref(), history.previous.as_deref()), (Some("a"), None));
    }

    #[test]
    fn a_release_quarantined_for_clients_does_not_become_previous() {
        let one = |source| Quarantined { source, cause: "it trapped".into(), at: "t3".into() };
        for (source, previous) in [(Source::Events, "a"), (Source::Messages, "b")] {
            let mut history = History::default();
            history.activate("a", "1.0.0", "t1");
            history.activate("b", "1.1.0", "t2");
            history.quarantine("1.1.0", one(source));
            assert_eq!(history.releases.last().map(|entry| entry.state), Some(State::Quarantined));
            history.activate("c", "1.2.0", "t4");
            assert_eq!((history.previous.as_deref(), history.quarantined.len()), (Some(previous), 0), "{source}");
        }
    }

    #[test]
    fn the_operator_ends_a_quarantine() {
        let mut history = History::default();
        history.activate("a", "1.0.0", "t1");
        for source in [Source::Messages, Source::Messages, Source::Timers] {
            history.quarantine("1.0.0", Quarantined { source, cause: "it trapped".into(), at: "t2".into() });
        }
        assert_eq!((history.quarantined.len(), history.active.as_deref(), history.releases.len()), (2, Some("a"), 1));
        let stored: History = serde_json::from_slice(&serde_json::to_vec(&history).unwrap()).unwrap();
        assert_eq!(stored, history);
        history.end_quarantine("t3");
        assert_eq!((history.quarantined.len(), history.releases[0].state), (0, State::Active));
    }

    #[tokio::test]
    async fn an_unneeded_component_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Embedded::open(dir.path(), &Default::default(), Clock::manual(0)).unwrap();
        let mut history = History::default();
        history.activate("a", "1.0.0", "t1");
        history.activate("b", "1.1.0", "t2");
        history.start_trial("c", "1.2.0", Trial::Canary(10), "t3");
        let name = PluginName::parse("p").unwrap();
        storage.put_blob(History::blob(&name), serde_json::to_vec(&history).unwrap().into()).await.unwrap();
        for digest in ["a", "b", "c", "left-behind"] {
            storage.put_blob(component_blob(digest), "wasm".into()).await.unwrap();
            storage.put_blob(signature_blob(digest), "signature".into()).await.unwrap();
        }
        sweep(&storage).await.unwrap();
        assert_eq!(storage.blobs(COMPONENTS, 10).await.unwrap(), ["a", "b", "c"].map(component_blob));
        assert_eq!(storage.blobs(SIGNATURES, 10).await.unwrap(), ["a", "b", "c"].map(signature_blob));
        storage.put_blob(History::blob(&name), "of a newer server".into()).await.unwrap();
        sweep(&storage).await.unwrap();
        assert_eq!(storage.blobs(COMPONENTS, 10).await.unwrap().len(), 3, "with an unreadable history nothing is removed");
    }

    #[tokio::test]
    async fn a_component_is_stored_and_removed_with_its_signature() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Embedded::open(dir.path(), &Default::default(), Clock::manual(0)).unwrap();
        let (bytes, name) = (Bytes::from("wasm"), digest(b"wasm"));
        put_component(&storage, bytes.clone(), None).await.unwrap();
        assert_eq!(component(&storage, &name).await.unwrap(), Some((bytes.clone(), None)));
        put_component(&storage, bytes.clone(), Some("signature\n")).await.unwrap();
        put_component(&storage, bytes.clone(), None).await.unwrap();
        assert_eq!(component(&storage, &name).await.unwrap(), Some((bytes, Some("signature".into()))));
        remove_component(&storage, &name).await.unwrap();
        assert_eq!(component(&storage, &name).await.unwrap(), None);
        assert!(storage.blobs(SIGNATURES, 10).await.unwrap().is_empty());
    }

    #[test]
    fn a_history_has_at_most_twenty_releases() {
        let mut history = History::default();
        for n in 0..50 {
            history.note(&n.to_string(), "1.0.0", State::Rejected, "t", None);
        }
        assert_eq!((history.releases.len(), history.releases[0].digest.as_str()), (20, "30"));
    }
}
