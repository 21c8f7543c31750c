//! `hubbub dev`: builds, serves, and reloads a plugin without closing its sockets when its source changes. If a build or staging
//! fails, the old release must stay live and the error is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use super::reload::reload;
use super::signals::Signals;
use super::start::{load, runtime, start_log};
use super::{Common, eprint_line};
use crate::app::{App, Ports};
use crate::config::{Config, Mode, Secrets, Server};
use crate::deploy::history::digest;
use crate::deploy::releases::Releases;
use crate::names::PluginName;
use crate::telemetry::LogFormat;
use crate::toolchain::{self, Options, Toolchain, Watcher};

/// Builds, and serves until a signal stops it.
pub(super) fn run(common: &Common, watch: bool, expose: bool) -> anyhow::Result<()> {
    let root = std::env::current_dir()?;
    let mode = if expose { Mode::Exposed } else { Mode::Dev };
    let mut config = load(mode, common)?;
    let (secrets, shown) = if expose {
        let secrets = Secrets::new().context("the operating system gives no randomness")?;
        let made = secrets.fill_in(&mut config);
        let shown = secrets.lines(made);
        (Some(Arc::new(secrets)), shown)
    } else {
        check_loopback(&config.server)?;
        (None, Vec::new())
    };
    config.pool.rotate = watch;
    start_log(&config, LogFormat::Text)?;
    let toolchain = Toolchain::from_env();
    let runtime = runtime()?;
    // A port in use is reported before a build that may take minutes. The ports are opened when all is staged.
    runtime.block_on(Ports::check(&config.server))?;
    let files = plugin_files(&config, &root)?;
    for name in config.plugins.keys().filter(|name| !files.contains_key(*name)) {
        tracing::warn!("[plugins.{name}] is configured, but there is no plugin of this name");
    }
    let served = runtime.block_on(async {
        let mut signals = Signals::of_a_terminal()?;
        let app = tokio::select! {
            app = build_app(config, mode, &files) => app?,
            () = signals.stopped(async || {}) => return Ok(()),
        };
        let ports = Ports::bind(&app.config.server).await?;
        let watcher = if watch && root.join("plugins").is_dir() { Some(Watcher::start(&root)?) } else { None };
        let reloading = watcher.map(|watcher| {
            let reloader = Reloader { root, toolchain, releases: app.releases.clone() };
            tokio::spawn(reloader.run(watcher))
        });
        let listen = &app.config.server.listen;
        let port = ports.public_address().map_or(listen.port, |at| at.port());
        shown.iter().for_each(|line| eprint_line(&format!("hubbub: made for this run: {line}")));
        eprint_line(&format!("hubbub: serving http://{}:{port}/", listen.shown_host()));
        let gateway = app.gateway.clone();
        let result = app.serve(ports, signals.stopped(async || reload(mode, common, secrets.as_ref(), &gateway).await)).await;
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        result
    });
    // A running build must not delay the exit.
    runtime.shutdown_background();
    served
}

/// Refuses addresses that other machines reach, because the secrets of `dev` are public.
fn check_loopback(server: &Server) -> anyhow::Result<()> {
    for (key, flag, listen) in [("server.listen", "--listen", &server.listen), ("server.admin", "--admin", &server.admin)] {
        if !listen.is_loopback() {
            bail!(
                "{key} ({flag}): other machines reach {listen}, and everyone knows the secrets of `hubbub dev`. Listen on 127.0.0.1, \
                 or add --expose, which makes secrets for this run"
            );
        }
    }
    Ok(())
}

async fn build_app(config: Config, mode: Mode, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<App> {
    let app = App::build(config, mode).await?;
    app.install(files).await?;
    Ok(app)
}

fn options(toolchain: Toolchain) -> Options<'static> {
    Options { out: None, toolchain, show: true, notify: &|line| eprint_line(line) }
}

/// The components of `plugins/`, freshly built, and those of the configuration, which take precedence.
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

/// Rebuilds plugins when their sources change.
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
            } else if !changed.plugins.is_empty() {
                self.rebuild_each(changed.plugins).await;
            } else {
                tracing::info!("saved without a change: nothing is rebuilt");
            }
        }
    }

    async fn rebuild_each(&self, folders: BTreeSet<String>) {
        for folder in folders {
            let dir = self.root.join("plugins").join(&folder);
            if dir.is_dir() {
                self.rebuild(dir).await;
            } else {
                tracing::warn!(plugin = folder, "its folder was removed: its last release stays live");
            }
        }
    }

    async fn rebuild_all(&self) {
        let (root, toolchain) = (self.root.clone(), self.toolchain);
        match tokio::task::spawn_blocking(move || toolchain::build_all(&root, &options(toolchain))).await {
            Ok(Ok(all)) => {
                for failure in all.failures {
                    tracing::error!("not reloaded, the old release stays live: {failure}");
                }
                for built in all.built {
                    self.swap(&built.name, &built.component).await;
                }
            }
            Ok(Err(error)) => tracing::error!("not reloaded, the old releases stay live: {error}"),
            Err(error) => tracing::error!("not reloaded, the build panicked: {error}"),
        }
    }

    async fn rebuild(&self, dir: PathBuf) {
        let toolchain = self.toolchain;
        match tokio::task::spawn_blocking(move || toolchain::build(&dir, &options(toolchain))).await {
            Ok(Ok(built)) => self.swap(&built.name, &built.component).await,
            Ok(Err(error)) => tracing::error!("not reloaded, the old release stays live: {error}"),
            Err(error) => tracing::error!("not reloaded, the build panicked: {error}"),
        }
    }

    async fn swap(&self, name: &str, component: &Path) {
        if let Err(error) = self.stage_and_install(name, component).await {
            tracing::error!(plugin = name, "not reloaded, the old release stays live: {error:#}");
        }
    }

    async fn stage_and_install(&self, name: &str, component: &Path) -> anyhow::Result<()> {
        let name = PluginName::parse(name)?;
        let bytes = tokio::fs::read(component).await?;
        let live = self.releases.registry.deployed(&name).and_then(|deployed| deployed.live());
        if live.is_some_and(|live| live.digest == digest(&bytes)) {
            tracing::info!(plugin = %name, "built without a difference: the release stays");
            return Ok(());
        }
        let release = self.releases.reload(&name, bytes, component).await?;
        tracing::info!(release = %format_args!("{name}@{}", release.manifest.version), "reloaded");
        Ok(())
    }
}
