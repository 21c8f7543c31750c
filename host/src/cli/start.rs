//! The steps that commands share before they start a server: the configuration, the log, the plugins' files and the runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Common;
use crate::config::{self, Config, Mode};
use crate::names::PluginName;
use crate::telemetry::{self, LogFormat};

/// The components that the configuration names.
pub(super) fn plugin_files(config: &Config) -> anyhow::Result<BTreeMap<PluginName, PathBuf>> {
    let mut files = BTreeMap::new();
    if let Some(folder) = &config.server.plugins {
        let entries = std::fs::read_dir(folder).with_context(|| format!("server.plugins: {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let name = PluginName::parse(&name).with_context(|| path.display().to_string())?;
                files.insert(name, path);
            }
        }
    }
    for (name, plugin) in &config.plugins {
        if let Some(file) = &plugin.file {
            files.insert(name.clone(), file.clone());
        }
    }
    if let Some(name) = config.plugins.keys().find(|name| !files.contains_key(*name)) {
        bail!("[plugins.{name}] is configured, but there is no component for it");
    }
    Ok(files)
}

/// The configuration with the flags of the command line.
pub(super) fn load(mode: Mode, common: &Common) -> anyhow::Result<Config> {
    let default = Path::new("hubbub.toml");
    let file = common.config.as_deref().or_else(|| default.exists().then_some(default));
    let mut config = config::load(mode, file, &config::environment()?)?;
    let server = &mut config.server;
    if let Some(listen) = &common.listen {
        server.listen.clone_from(listen);
    }
    if let Some(admin) = &common.admin {
        server.admin.clone_from(admin);
    }
    if let Some(data) = &common.data {
        server.data.clone_from(data);
    }
    Ok(config)
}

pub(super) fn start_log(config: &Config, default: LogFormat) -> anyhow::Result<()> {
    let format = config.log.format.unwrap_or(default);
    telemetry::start_log(format, &log_filter(config), config.log.buffer).map_err(|why| anyhow::anyhow!("log.filter: {why}"))?;
    config.notes.iter().for_each(|note| tracing::warn!("{note}"));
    Ok(())
}

/// The log filter: `RUST_LOG`, unless it is empty, else the configuration's.
pub(super) fn log_filter(config: &Config) -> String {
    let variable = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    variable.unwrap_or_else(|| config.log.filter.clone())
}

/// Tasks that a busy thread runs between two polls for socket events. With Tokio's default of 61, tasks that each serve a part of a
/// large room delay all other sockets by tens of milliseconds.
const EVENT_INTERVAL: u32 = 16;

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .context("the runtime cannot start")
}
