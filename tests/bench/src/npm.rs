//! The locked npm packages of the rivals in JavaScript. It must never install others, or anything outside the checkout.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::child::package;
use crate::server::Kind;

/// Installs the packages of `kind` into the folder with its name, if they are missing or older than the lock file.
///
/// # Errors
/// npm is missing, or a package cannot be downloaded.
pub(crate) fn install(kind: Kind) -> Result<()> {
    let name = kind.name();
    let folder = package().join(name);
    let changed = |path| std::fs::metadata(folder.join(path)).and_then(|file| file.modified());
    let installed = changed("node_modules/.package-lock.json");
    if installed.is_ok_and(|installed| changed("package-lock.json").is_ok_and(|locked| locked <= installed)) {
        return Ok(());
    }
    crate::log_progress(&format!("npm ci in tests/bench/{name}: installs the rival {name}"));
    let done = Command::new("npm")
        .args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status()
        .context("npm does not run: the rivals node and bun need Node 18 or newer; skip them with --only hubbub,native,floor")?;
    ensure!(done.success(), "npm ci failed ({done}); skip node and bun with --only hubbub,native,floor");
    Ok(())
}
