//! SIGHUP: reloads the keys of `[auth]` and the log filter. Everything is checked before anything changes; an error must change
//! nothing.

use std::sync::Arc;

use anyhow::Context as _;

use super::Common;
use super::start::{load, log_filter};
use crate::auth::keyring::Keyring;
use crate::config::{Mode, Secrets};
use crate::socket::Gateway;
use crate::telemetry;

/// Reloads, and logs the outcome.
pub(super) async fn reload(mode: Mode, common: &Common, secrets: Option<&Arc<Secrets>>, gateway: &Arc<Gateway>) {
    let (common, secrets, gateway) = (common.clone(), secrets.cloned(), gateway.clone());
    // Reading files and creating the HTTP client for key sets takes tens of milliseconds.
    let default_tenant = gateway.services.default_tenant.clone();
    let read = move || read(mode, &common, secrets.as_deref(), default_tenant.as_deref());
    let read = tokio::task::spawn_blocking(read).await;
    match read.map_err(anyhow::Error::from).and_then(|read| read) {
        Ok((keyring, filter)) => {
            gateway.keyring.replace(keyring);
            match telemetry::reload_filter(&filter) {
                Ok(()) => tracing::info!(filter, "reloaded the keys and the log filter; other settings need a restart"),
                Err(why) => tracing::error!("reloaded the keys; the log filter is unchanged: {why}"),
            }
        }
        Err(error) => tracing::error!("not reloaded, nothing has changed: {error:#}"),
    }
}

fn read(
    mode: Mode,
    common: &Common,
    secrets: Option<&Secrets>,
    default_tenant: Option<&str>,
) -> anyhow::Result<(Keyring, String)> {
    let mut config = load(mode, common)?;
    if let Some(secrets) = secrets {
        secrets.fill_in(&mut config);
    }
    if config.auth.default_tenant.as_deref() != default_tenant {
        anyhow::bail!("auth.default_tenant: a change needs a restart");
    }
    let filter = log_filter(&config);
    telemetry::check_filter(&filter).map_err(|why| anyhow::anyhow!("log.filter: {why}"))?;
    Ok((Keyring::load(&config.auth, mode == Mode::Dev).context("auth")?, filter))
}
