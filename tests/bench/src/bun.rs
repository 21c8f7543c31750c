//! The fastest rival in JavaScript: Socket.IO 4.8 on Bun with Bun's own engine. It must never run with another Bun than the locked
//! one, or through a launcher: a launcher's CPU and memory would be measured instead.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::child::package;
use crate::node;

pub(crate) fn command(addr: SocketAddr) -> Result<Command> {
    Ok(node::serve(Command::new(binary()?), "bun", addr))
}

/// npm installs only the package with the binary for this machine.
fn binary() -> Result<PathBuf> {
    let packages = package().join("bun/node_modules/@oven");
    let entries = std::fs::read_dir(&packages).context("Bun's packages are not installed")?;
    let mut binaries = entries.filter_map(|entry| Some(entry.ok()?.path().join("bin/bun")));
    binaries.find(|path| path.is_file()).context("Bun has no binary for this machine")
}
