//! Stored components, as they are read again: checked as an upload is, since whoever can write to the storage decides on nothing.

use std::sync::Arc;

use super::history::{component, digest};
use super::releases::{DeployError, Releases};
use crate::call::release::Release;
use crate::names::PluginName;
use crate::replay::redact::Vocabulary;

impl Releases {
    /// A release from its stored component, if that is what was deployed and is signed by one of the keys of today. Whoever can write
    /// to the storage decides on neither.
    pub(crate) async fn stored(&self, name: &PluginName, known: &str) -> Result<Arc<Release>, DeployError> {
        let (named, known) = (|| name.clone(), known.to_owned());
        let Some((component, signature)) = component(&*self.storage, &known).await? else {
            return Err(DeployError::Gone(named(), known));
        };
        if digest(&component) != known {
            return Err(DeployError::Changed(named(), known));
        }
        self.signers.check(&component, signature.as_deref()).map_err(|why| DeployError::Unsigned(named(), known, why))?;
        Ok(self.stage_as(name, component.to_vec()).await?)
    }

    /// The words that a stored component's code may know. Where it cannot be read there are none, and more is hidden.
    pub async fn vocabulary(&self, digest: &str) -> Vocabulary {
        let Ok(Some((component, _))) = component(&*self.storage, digest).await else { return Vocabulary::default() };
        // It takes tens of milliseconds.
        tokio::task::spawn_blocking(move || Vocabulary::of(&component)).await.unwrap_or_default()
    }
}
