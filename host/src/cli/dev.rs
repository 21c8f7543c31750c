//! `hubbub dev`: builds, serves, and swaps a plugin under its live sockets when its source changes. A build or staging that fails
//! keeps the old release, and says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::reload::reload;
use super::serve::{load, runtime, start_log};
use super::signals::Signals;
use super::{Common, say};
use crate::app::App;
use crate::config::{Config, Mode};
use crate::names::PluginName;
use crate::release::record::digest;
use crate::release::releases::Releases;
use crate::telemetry::LogFormat;
use crate::toolchain::{self, Options, Toolchain, Watcher};

/// Builds, and serves until a signal stops it.
pub(super) fn run(common: &Common, watch: bool) -> anyhow::Result<()> {
    let root = std::env::current_dir()?;
    let mut config = load(Mode::Dev, common)?;
    config.pool.rotate = watch;
    start_log(&config, LogFormat::Text)?;
    let toolchain = Toolchain::from_env();
    let files = plugin_files(&config, &root)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let listen = config.server.listen;
        let mut signals = Signals::of_a_terminal()?;
        let app = tokio::select! {
            app = build_app(config, &files) => app?,
            () = signals.stopped(async || {}) => return Ok(()),
        };
        let watcher = if watch && root.join("plugins").is_dir() { Some(Watcher::start(&root)?) } else { None };
        let reloading = watcher.map(|watcher| {
            let reloader = Reloader { root, toolchain, releases: app.releases.clone() };
            tokio::spawn(reloader.run(watcher))
        });
        say(&format!("hubbub: serving http://{listen}/"));
        let gateway = app.gateway.clone();
        let result = app.serve(signals.stopped(async || reload(Mode::Dev, common, &gateway).await)).await;
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        result
    });
    // A build that still runs must not delay the end.
    runtime.shutdown_background();
    served
}

async fn build_app(config: Config, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<App> {
    let app = App::build(config, Mode::Dev).await?;
    app.install(files).await?;
    Ok(app)
}

fn options(toolchain: Toolchain) -> Options<'static> {
    Options { out: None, toolchain, show: true, say: &|line| say(line) }
}

/// The components of what is under `plugins/`, freshly built, and those that the configuration names, which go first.
pub(super) fn plugin_files(config: &Config, root: &Path) -> anyhow::Result<BTreeMap<PluginName, PathBuf>> {
    let mut files = build(root, Toolchain::from_env())?;
    for (name, plugin) in &config.plugins {
        if let Some(file) = &plugin.file {
            files.insert(name.clone(), file.clone());
        }
    }
    Ok(files)
}

/// Builds every plugin under `plugins/`.
fn build(root: &Path, toolchain: Toolchain) -> anyhow::Result<BTreeMap<PluginName, PathBuf>> {
    if !root.join("plugins").is_dir() {
        return Ok(BTreeMap::new());
    }
    let built = toolchain::build_all(root, &options(toolchain))?;
    if let Some(failure) = built.failures.into_iter().next() {
        return Err(failure).context("a plugin does not build");
    }
    built.built.into_iter().map(|built| Ok((PluginName::parse(&built.name)?, built.component))).collect()
}

/// Follows the sources.
struct Reloader {
    root: PathBuf,
    toolchain: Toolchain,
    releases: Arc<Releases>,
}

impl Reloader {
    async fn run(self, mut watcher: Watcher) {
        loop {
            let changed = watcher.changed().await;
            if changed.all {
                self.rebuild_all().await;
                continue;
            }
            for folder in changed.plugins {
                let dir = self.root.join("plugins").join(&folder);
                if dir.is_dir() {
                    self.rebuild(dir).await;
                }
            }
        }
    }

    async fn rebuild_all(&self) {
        let (root, toolchain) = (self.root.clone(), self.toolchain);
        match tokio::task::spawn_blocking(move || toolchain::build_all(&root, &options(toolchain))).await {
            Ok(Ok(all)) => {
                for failure in all.failures {
                    tracing::error!("not reloaded, the old release serves on: {failure}");
                }
                for built in all.built {
                    self.swap(&built.name, &built.component).await;
                }
            }
            Ok(Err(error)) => tracing::error!("not reloaded, the old releases serve on: {error}"),
            Err(error) => tracing::error!("not reloaded, the build panicked: {error}"),
        }
    }

    async fn rebuild(&self, dir: PathBuf) {
        let toolchain = self.toolchain;
        match tokio::task::spawn_blocking(move || toolchain::build(&dir, &options(toolchain))).await {
            Ok(Ok(built)) => self.swap(&built.name, &built.component).await,
            Ok(Err(error)) => tracing::error!("not reloaded, the old release serves on: {error}"),
            Err(error) => tracing::error!("not reloaded, the build panicked: {error}"),
        }
    }

    async fn swap(&self, name: &str, component: &Path) {
        if let Err(error) = self.stage_and_install(name, component).await {
            tracing::error!(plugin = name, "not reloaded, the old release serves on: {error:#}");
        }
    }

    async fn stage_and_install(&self, name: &str, component: &Path) -> anyhow::Result<()> {
        let name = PluginName::parse(name)?;
        let bytes = tokio::fs::read(component).await?;
        let live = self.releases.registry.slot(&name).and_then(|slot| slot.live());
        if live.is_some_and(|live| live.digest == digest(&bytes)) {
            return Ok(());
        }
        let release = self.releases.reload(&name, bytes, component).await?;
        tracing::info!(release = %format_args!("{name}@{}", release.manifest.version), "reloaded");
        Ok(())
    }
}
