//! `hubbub config`: prints the configuration's keys and the pages that are generated from the code's comments.

mod metrics;

use clap::Subcommand;

use super::print_raw;
use crate::config::doc;

#[derive(Subcommand)]
pub(super) enum Config {
    /// Prints the page of all keys, `host/docs/configuration.md`.
    Doc,
    /// Prints a `hubbub.toml` with every key, its meaning and its default.
    Default,
    /// Prints the JSON schema of `hubbub.toml`, for editors.
    Schema,
    /// Prints the page of all limits, `host/docs/limits.md`.
    Limits,
    /// Prints the page of all metrics, `host/docs/metrics.md`.
    Metrics,
}

impl Config {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let text = match self {
            Self::Doc => doc::configuration(),
            Self::Default => doc::default_file(),
            Self::Schema => doc::schema()?,
            Self::Limits => doc::limits(),
            Self::Metrics => doc::metrics(&metrics::all()?),
        };
        Ok(print_raw(&text)?)
    }
}
