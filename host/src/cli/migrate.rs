//! `hubbub migrate`: copies the embedded database to PostgreSQL while no server runs. It must never change the embedded database.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::{print, start};
use crate::config::{self, Mode};
use crate::storage::postgres;

#[derive(Args)]
pub(super) struct Migrate {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the embedded database [default: .hubbub].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Migrate {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let default = Path::new("hubbub.toml");
        let file = self.config.as_deref().or_else(|| default.exists().then_some(default));
        // Development mode, because keys and plugins are not needed.
        let config = config::load(Mode::Dev, file, &config::environment()?)?;
        let Some(url) = &config.storage.url else {
            bail!("no target: set DATABASE_URL to the postgres:// url of an empty database");
        };
        let data = self.data.as_ref().unwrap_or(&config.server.data);
        let moved = start::runtime()?.block_on(postgres::import(data, url, &config.storage)).context("nothing was moved")?;
        print(&format!("moved {moved}"))?;
        print(&format!("{} is unchanged: keep it until the new database has proved itself", data.display()))?;
        Ok(())
    }
}
