//! Loads stored components. They are checked like uploads: write access to the storage must not be enough to run code.

use std::sync::Arc;

use super::history::{component, digest};
use super::releases::{DeployError, Releases};
use crate::call::release::Release;
use crate::names::PluginName;
use crate::replay::redact::Vocabulary;

impl Releases {
    /// A release from its stored component, if its digest is `known` and one of the current keys has signed it.
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

    /// The words in a stored component's code. If it cannot be read there are none, so that more is hidden.
    pub async fn vocabulary(&self, digest: &str) -> Vocabulary {
        let Ok(Some((component, _))) = component(&*self.storage, digest).await else { return Vocabulary::default() };
        // This takes tens of milliseconds.
        tokio::task::spawn_blocking(move || Vocabulary::of(&component)).await.unwrap_or_default()
    }
}
