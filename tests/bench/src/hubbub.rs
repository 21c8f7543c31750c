//! Starts Hubbub as an operator would, with plugins and sandbox. It must never get an option without a counterpart in the rivals'
//! chat, except that the rate limit is off, and that the live chat is not stored: the rivals store nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::child::package;

pub(crate) const API_KEY: &str = "dev-api-key";

/// How Hubbub is started.
#[derive(Debug, Clone)]
pub(crate) struct Hubbub {
    pub(crate) binary: PathBuf,
    /// Replaces `dev --no-watch` unless empty.
    pub(crate) args: Vec<String>,
    /// Additional environment, as `KEY=VALUE`.
    pub(crate) env: Vec<String>,
}

impl Hubbub {
    /// All starts of a run share one data folder, so that plugins are compiled once. With `compared` only the rivals' features
    /// are deployed.
    ///
    /// # Errors
    /// The binary is missing.
    pub(crate) fn command(&self, addr: SocketAddr, admin: SocketAddr, data: &Path, compared: bool) -> Result<Command> {
        let root = package().join("../..");
        let binary = root.join(&self.binary);
        ensure!(binary.is_file(), "{} is missing: cargo build --release -p hubbub", self.binary.display());
        let mut command = Command::new(binary);
        if self.args.is_empty() {
            command.args(["dev", "--no-watch"]);
        } else {
            command.args(&self.args);
        }
        command.args(["--listen", &addr.to_string(), "--admin", &admin.to_string()]).arg("--data").arg(data);
        // Variables set in the shell for another server would change the results.
        for name in ["JWT_SECRET", "REDIS_URL", "DATABASE_URL", "KAFKA_BROKERS"] {
            command.env_remove(name);
        }
        std::fs::create_dir_all(data)?;
        if compared {
            // Nothing is built in a folder without plugins: only chat is deployed, as the rivals have nothing else.
            command.current_dir(data).env("HUBBUB_PLUGINS__CHAT__FILE", root.join("target/plugins/chat.wasm").canonicalize()?);
        } else {
            command.current_dir(root);
        }
        command.env("HUBBUB_PLUGINS__CHAT__CONFIG__MESSAGES_PER_MINUTE", "0");
        command.env("HUBBUB_PLUGINS__CHAT__CONFIG__LIVE_HISTORY_DAYS", "0");
        command.envs(self.env.iter().filter_map(|pair| pair.split_once('=')));
        Ok(command)
    }
}
