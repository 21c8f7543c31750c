//! The best-known rival: Socket.IO 4.8 on Node, tuned as its own guide recommends. It must never run on a development build or
//! with other packages than the locked ones.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::child::package;
use crate::token::SECRET;

pub(crate) fn command(addr: SocketAddr) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(package().join("node/server.js")).arg(addr.ip().to_string()).arg(addr.port().to_string());
    // A single server unless the caller sets Redis.
    command.env("NODE_ENV", "production").env("JWT_SECRET", SECRET).env_remove("REDIS_URL");
    Ok(command)
}

/// Installs the locked packages if they are missing or older than the lock file.
///
/// # Errors
/// Node is missing, or its packages cannot be downloaded.
pub(crate) fn install() -> Result<()> {
    let folder = package().join("node");
    let changed = |path| std::fs::metadata(folder.join(path)).and_then(|file| file.modified());
    let installed = changed("node_modules/.package-lock.json");
    if installed.is_ok_and(|installed| changed("package-lock.json").is_ok_and(|locked| locked <= installed)) {
        return Ok(());
    }
    crate::log_progress("npm ci in tests/bench/node: installs Socket.IO for Node as a rival");
    let done = Command::new("npm")
        .args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .status()
        .context("npm does not run: the Node rival needs Node 18 or newer; skip it with --only hubbub,native,floor")?;
    ensure!(done.success(), "npm ci failed ({done}); skip Node with --only hubbub,native,floor");
    Ok(())
}
