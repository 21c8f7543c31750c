//! Hubbub itself, as an operator would start it, plugins and sandbox included. It must never be given an option that its rivals' chat has no
//! counterpart of, but the rate limit off.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::child::{free_addr, package};

pub(crate) const API_KEY: &str = "dev-api-key";

/// How to start it.
#[derive(Debug, Clone)]
pub(crate) struct Hubbub {
    pub(crate) binary: PathBuf,
    /// Replaces `dev --no-watch` where it is not empty.
    pub(crate) args: Vec<String>,
    /// More environment, as `KEY=VALUE`.
    pub(crate) env: Vec<String>,
}

impl Hubbub {
    /// One data folder serves all the starts of a run, so that plugins are compiled once. `compared`: with no more than the rivals
    /// have.
    ///
    /// # Errors
    /// The binary is missing.
    pub(crate) fn command(&self, addr: SocketAddr, data: &Path, compared: bool) -> Result<Command> {
        let root = package().join("../..");
        let binary = root.join(&self.binary);
        ensure!(binary.is_file(), "{} is not there: cargo build --release -p hubbub", self.binary.display());
        let mut command = Command::new(binary);
        if self.args.is_empty() {
            command.args(["dev", "--no-watch"]);
        } else {
            command.args(&self.args);
        }
        command.args(["--listen", &addr.to_string(), "--admin", &free_addr()?.to_string()]).arg("--data").arg(data);
        // What the shell has set for another server would change what is measured.
        for name in ["JWT_SECRET", "REDIS_URL", "DATABASE_URL", "KAFKA_BROKERS"] {
            command.env_remove(name);
        }
        std::fs::create_dir_all(data)?;
        if compared {
            // In a folder without plugins nothing is built: chat alone is deployed, as the rivals have nothing else.
            command.current_dir(data).env("HUBBUB_PLUGINS__CHAT__FILE", root.join("target/plugins/chat.wasm").canonicalize()?);
        } else {
            command.current_dir(root);
        }
        command.env("HUBBUB_PLUGINS__CHAT__CONFIG__MESSAGES_PER_MINUTE", "0");
        command.envs(self.env.iter().filter_map(|pair| pair.split_once('=')));
        Ok(command)
    }
}
