//! `hubbub serve` and `hubbub check`. Both take the same steps, but `check` must never open a port.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;

use super::reload::reload;
use super::signals::Signals;
use super::start::{load, plugin_files, runtime, start_log};
use super::{Common, print};
use crate::app::{App, Ports};
use crate::config::{Config, Mode};
use crate::names::PluginName;
use crate::telemetry::LogFormat;

/// Serves until a signal stops it.
pub(super) fn run(common: &Common) -> anyhow::Result<()> {
    let config = load(Mode::Serve, common)?;
    start_log(&config, LogFormat::Json)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // First, because the build takes long.
        let mut signals = Signals::of_a_service()?;
        let app = tokio::select! {
            app = build(config) => app?,
            // A reload before the start is done has no effect.
            () = signals.stopped(async || {}) => {
                tracing::info!("stopping before the start was done");
                return Ok(());
            }
        };
        // Before the log reports that the server is ready.
        let ports = Ports::bind(&app.config.server).await?;
        let gateway = app.gateway.clone();
        app.serve(ports, signals.stopped(async || reload(Mode::Serve, common, None, &gateway).await)).await
    });
    // A running compiler must not delay the exit.
    runtime.shutdown_background();
    served
}

/// The steps of [`run`] without serving.
pub(super) fn check(common: &Common) -> anyhow::Result<()> {
    let config = load(Mode::Serve, common)?;
    start_log(&config, LogFormat::Text)?;
    runtime()?.block_on(async {
        let (app, files) = prepared(config).await?;
        app.check(&files).await
    })?;
    Ok(print("ok")?)
}

async fn build(config: Config) -> anyhow::Result<App> {
    let (app, files) = prepared(config).await?;
    app.install(&files).await?;
    Ok(app)
}

/// The server without its plugins, and their files.
async fn prepared(config: Config) -> anyhow::Result<(App, BTreeMap<PluginName, PathBuf>)> {
    let files = plugin_files(&config)?;
    if files.is_empty() {
        bail!("no plugins: give [plugins.NAME] a file, or set server.plugins to a folder of components");
    }
    Ok((App::build(config, Mode::Serve).await?, files))
}
