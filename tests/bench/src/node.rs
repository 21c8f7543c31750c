//! The rival everybody knows: Socket.IO 4.8 on Node, tuned as its own guide says. It must never run on a development build or on packages
//! other than the locked ones.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::child::package;
use crate::token::SECRET;

pub(crate) fn command(addr: SocketAddr) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(package().join("node/server.js")).arg(addr.ip().to_string()).arg(addr.port().to_string());
    // By itself, unless it is told otherwise.
    command.env("NODE_ENV", "production").env("JWT_SECRET", SECRET).env_remove("REDIS_URL");
    Ok(command)
}

/// Installs the locked packages where they are missing, or older than the lock.
///
/// # Errors
/// There is no Node, or its packages cannot be had.
pub(crate) fn install() -> Result<()> {
    let folder = package().join("node");
    let changed = |path| std::fs::metadata(folder.join(path)).and_then(|file| file.modified());
    let installed = changed("node_modules/.package-lock.json");
    if installed.is_ok_and(|installed| changed("package-lock.json").is_ok_and(|locked| locked <= installed)) {
        return Ok(());
    }
    crate::say("npm ci in tests/bench/node: Socket.IO for Node, to compare with");
    let done = Command::new("npm")
        .args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .status()
        .context("npm cannot be run: the Node rival needs Node 18 or newer; leave it out with --only hubbub,native,floor")?;
    ensure!(done.success(), "npm ci failed ({done}); leave Node out with --only hubbub,native,floor");
    Ok(())
}
