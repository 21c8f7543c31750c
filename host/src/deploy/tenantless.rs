//! Stored keys without a tenant: counted at the first start, or moved to `auth.default_tenant` if it is set. Runs in bounded
//! batches, each atomic and idempotent, so that an interrupted start can continue.

use std::sync::Arc;

use bytes::Bytes;

use super::releases::Releases;
use crate::call::manifest::TenantKeys;
use crate::call::release::Release;
use crate::names::PluginName;
use crate::storage::{CommitError, Fingerprint, Storage, Unavailable, Write, WriteSet};

/// Keys that are read and moved in one batch: each is two writes of a write set.
const BATCH: usize = 100;

/// Bytes of values that are moved in one batch; one value alone may have 256 KiB.
const BATCH_BYTES: usize = 512 << 10;

/// The key that stores for which default tenant a plugin's keys were handled last.
fn note(plugin: &PluginName) -> String {
    format!("tenantless/{plugin}")
}

impl Releases {
    /// Moves keys without a tenant to the default tenant, or counts them. Once for each default tenant: later starts read one
    /// value for each plugin.
    pub(crate) async fn settle_tenants(&self, staged: &[Arc<Release>]) -> Result<(), Unavailable> {
        let tenant = self.stage.services.default_tenant.as_deref();
        for release in staged.iter().filter(|release| !release.manifest.tenant_keys.is_empty()) {
            let name = &release.manifest.name;
            let done = Bytes::from(tenant.unwrap_or_default().to_owned());
            if self.storage.blob(&note(name)).await?.is_some_and(|noted| noted == done) {
                continue;
            }
            let (mut moved, mut stay) = (0, 0);
            for keys in &release.manifest.tenant_keys {
                let counted = settle(&*self.storage, name, keys, tenant).await?;
                (moved, stay) = (moved + counted.0, stay + counted.1);
            }
            match tenant {
                Some(tenant) => {
                    tracing::info!(plugin = %name, tenant, moved, stay, "stored keys without a tenant are the default tenant's now")
                }
                None if stay > 0 => tracing::info!(
                    plugin = %name,
                    stay,
                    "stored keys belong to users without a tenant; `auth.default_tenant` would give them to a tenant"
                ),
                None => {}
            }
            self.storage.put_blob(note(name), done).await?;
        }
        Ok(())
    }
}

/// The numbers of keys that were moved and that stay: all without a default tenant, else those with an existing new key.
async fn settle(
    storage: &dyn Storage,
    plugin: &PluginName,
    keys: &TenantKeys,
    tenant: Option<&str>,
) -> Result<(usize, usize), Unavailable> {
    let (mut moved, mut stay, mut after) = (0, 0, String::new());
    loop {
        let page = storage.keys(plugin, &keys.without, &after, BATCH).await?;
        let Some(last) = page.last() else { return Ok((moved, stay)) };
        after.clone_from(last);
        match tenant {
            None => stay += page.len(),
            Some(tenant) => {
                let pairs: Vec<_> = page.into_iter().map(|key| (keys.of_tenant(&key, tenant), key)).collect();
                let counted = rename(storage, plugin, pairs).await?;
                (moved, stay) = (moved + counted.0, stay + counted.1);
            }
        }
    }
}

/// Renames keys, unless the new key exists.
async fn rename(storage: &dyn Storage, plugin: &PluginName, pairs: Vec<(String, String)>) -> Result<(usize, usize), Unavailable> {
    let (mut set, mut bytes, mut moved, mut stay) = (WriteSet::new(plugin.clone()), 0, 0, 0);
    for (new, old) in pairs {
        let Some(value) = storage.get(plugin, &old).await? else { continue };
        if storage.get(plugin, &new).await?.is_some() {
            stay += 1;
            continue;
        }
        if bytes + value.len() > BATCH_BYTES {
            commit(storage, std::mem::replace(&mut set, WriteSet::new(plugin.clone()))).await?;
            bytes = 0;
        }
        bytes += value.len();
        moved += 1;
        set.reads.extend([(old.clone(), Some(Fingerprint::of(&value))), (new.clone(), None)]);
        set.writes.extend([Write::Put { key: new, value }, Write::Delete { key: old }]);
    }
    commit(storage, set).await?;
    Ok((moved, stay))
}

async fn commit(storage: &dyn Storage, set: WriteSet) -> Result<(), Unavailable> {
    if set.writes.is_empty() {
        return Ok(());
    }
    match storage.commit(set, Box::pin(async {})).await {
        Ok(()) => Ok(()),
        Err(CommitError::Unavailable(error)) => Err(error),
        // An older node of the cluster has just changed one of them: the next start continues with the rest.
        Err(error) => Err(Unavailable::new(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::Clock;
    use crate::storage::Embedded;

    #[tokio::test]
    async fn keys_are_moved_in_batches_without_overwriting() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Embedded::open(dir.path(), &Default::default(), Clock::manual(0)).unwrap();
        let plugin = PluginName::parse("p").unwrap();
        let keys = TenantKeys { without: "inbox/user/".into(), with: "inbox/of/{tenant}/".into() };
        let count = BATCH * 2 + 7;
        for n in 0..count {
            let writes = vec![Write::Put { key: format!("inbox/user/u{n:04}"), value: vec![b'x'; 9000].into() }];
            storage.commit(WriteSet { writes, ..WriteSet::new(plugin.clone()) }, Box::pin(async {})).await.unwrap();
        }
        let others = [("inbox/of/a%2Fb/u0003", "taken"), ("inbox/users", "another prefix")];
        let writes = others.map(|(key, value)| Write::Put { key: key.into(), value: value.into() }).into();
        storage.commit(WriteSet { writes, ..WriteSet::new(plugin.clone()) }, Box::pin(async {})).await.unwrap();

        assert_eq!(settle(&storage, &plugin, &keys, None).await.unwrap(), (0, count));
        assert_eq!(settle(&storage, &plugin, &keys, Some("a/b")).await.unwrap(), (count - 1, 1));
        assert_eq!(settle(&storage, &plugin, &keys, Some("a/b")).await.unwrap(), (0, 1), "again");
        let get = async |key: &str| storage.get(&plugin, key).await.unwrap();
        assert_eq!(get("inbox/of/a%2Fb/u0206").await.unwrap().len(), 9000);
        assert_eq!((get("inbox/user/u0206").await, get("inbox/of/a%2Fb/u0003").await.unwrap()), (None, Bytes::from("taken")));
        assert!(get("inbox/users").await.is_some());
    }
}
