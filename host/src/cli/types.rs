//! `hubbub types`: reads plugins' descriptions, and prints the contract as TypeScript. It must open no port and no storage, and
//! writes no file except those of a plugin's build.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Common, dev, print, start};
use crate::app;
use crate::call::manifest::Manifest;
use crate::config::{Config, Mode};
use crate::contract::{Contract, typescript};
use crate::deploy::stage::Stage;
use crate::names::PluginName;

#[derive(Args)]
pub(super) struct Types {
    /// Components [default: the plugins under `plugins/`, built as `dev` does, and those of the configuration].
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The configuration file. Its plugins are used instead of those under `plugins/`.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
}

impl Types {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let common = Common { config: self.config.clone(), listen: None, admin: None, data: None };
        // Development mode, because descriptions need no key.
        let config = start::load(Mode::Dev, &common)?;
        let files = self.components(&config)?;
        let manifests = start::runtime()?.block_on(async {
            let stage = app::offline_stage(&config)?;
            let mut manifests: Vec<Manifest> = Vec::new();
            for (name, file) in &files {
                manifests.push(describe(&stage, name.as_ref(), file).await?);
            }
            anyhow::Ok(manifests)
        })?;
        print(typescript::render(&Contract::of(&manifests)).trim_end())?;
        Ok(())
    }

    /// The components, each with the name that it must have, if the configuration or its folder gives one.
    fn components(&self, config: &Config) -> anyhow::Result<Vec<(Option<PluginName>, PathBuf)>> {
        if !self.files.is_empty() {
            return Ok(self.files.iter().map(|file| (None, file.clone())).collect());
        }
        let files = match &self.config {
            Some(_) => start::plugin_files(config)?,
            None => dev::plugin_files(config, &std::env::current_dir()?)?,
        };
        if files.is_empty() {
            anyhow::bail!("no plugins: name components, or a configuration, or run it beside a folder `plugins`");
        }
        Ok(files.into_iter().map(|(name, file)| (Some(name), file)).collect())
    }
}

async fn describe(stage: &Stage, name: Option<&PluginName>, file: &Path) -> anyhow::Result<Manifest> {
    let component = std::fs::read(file).with_context(|| file.display().to_string())?;
    stage.describe(name, component).await.with_context(|| file.display().to_string())
}
