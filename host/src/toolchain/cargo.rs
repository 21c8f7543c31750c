//! Talks to cargo: which crates there are, and compile these. It never looks into cargo's folders: cargo says where things are.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::compiler::Compiler;

/// How much of cargo's words an error keeps, in bytes. Past it the middle is left out: the first error and the summary matter.
const STDERR_KEPT: usize = 256 * 1024;

/// Cargo could not be run, or not be understood.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    #[error("cargo cannot be run: {0}. Install Rust with rustup (https://rustup.rs)")]
    Missing(std::io::Error),
    #[error("{} is no crate that cargo can read:\n{why}", dir.display())]
    NoCrate { dir: PathBuf, why: String },
    #[error("cargo's answer cannot be read: {0}")]
    Unreadable(String),
}

/// A crate of a workspace.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Package {
    pub(super) fn is_cdylib(&self) -> bool {
        self.targets.iter().any(Target::is_cdylib)
    }

    pub(super) fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

impl Target {
    fn is_cdylib(&self) -> bool {
        self.kind.iter().any(|kind| kind == "cdylib")
    }
}

/// What cargo knows of the workspace that a folder is in.
#[derive(Debug, Deserialize)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks for the workspace that the crate or workspace in `dir` belongs to.
    pub(super) fn of(compiler: Compiler, dir: &Path) -> Result<Self, CargoError> {
        let output = compiler
            .cargo()
            .current_dir(dir)
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .stdin(Stdio::null())
            .output()
            .map_err(CargoError::Missing)?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(CargoError::NoCrate { dir: dir.to_owned(), why });
        }
        serde_json::from_slice(&output.stdout).map_err(|error| CargoError::Unreadable(error.to_string()))
    }

    /// Where components go.
    pub(super) fn components(&self) -> PathBuf {
        self.target_directory.join("plugins")
    }

    /// A target folder of our own. Cargo locks one for the length of a build: in the workspace's own, `hubbub dev` and an
    /// author's `cargo test` would wait for each other. Nothing is compiled twice by it, as no other build uses this profile
    /// and target.
    pub(super) fn build_dir(&self) -> PathBuf {
        self.target_directory.join("plugins-build")
    }

    /// Where the sources of these crates are, with what a checkout's plugins share.
    pub(super) fn sources(&self, packages: &[&Package]) -> Vec<PathBuf> {
        let own = packages.iter().flat_map(|package| ["src", "build.rs"].map(|part| package.dir().join(part)));
        own.chain(super::SHARED.map(|shared| self.workspace_root.join(shared))).collect()
    }

    /// The profile `plugin` where the workspace has it. Without it `release` is near enough: this target's panics abort anyway.
    fn profile(&self) -> &'static str {
        let manifest = std::fs::read_to_string(self.workspace_root.join("Cargo.toml")).unwrap_or_default();
        let has = |table: toml::Table| table.get("profile").and_then(|p| p.get("plugin")).is_some();
        if manifest.parse().is_ok_and(has) { "plugin" } else { "release" }
    }
}

/// What one compilation came to.
pub(super) struct Compiled {
    /// The module of each crate that compiled, by its package id.
    pub(super) modules: BTreeMap<String, PathBuf>,
    pub(super) success: bool,
    /// What cargo said.
    pub(super) stderr: String,
}

/// Compiles these crates of one workspace in one call, as far as they compile. `show` also passes cargo's words on to standard
/// error while they come.
///
/// Crates that are compiled together share the features of what they have in common; the same crate compiled alone may differ
/// in its bytes.
pub(super) fn compile(
    compiler: Compiler,
    workspace: &Workspace,
    packages: &[&Package],
    show: bool,
) -> Result<Compiled, CargoError> {
    let mut command = compiler.cargo();
    command.current_dir(&workspace.workspace_root).args(["build", "--lib", "--keep-going"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.args(["--profile", workspace.profile()]).args(compiler.flags());
    command.arg("--target-dir").arg(workspace.build_dir());
    let color = show && std::io::stderr().is_terminal();
    command.arg("--color").arg(if color { "always" } else { "never" });
    for package in packages {
        // The id, since a dependency may have the same name.
        command.args(["-p", &package.id]);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(CargoError::Missing)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both pipes are read at once: cargo would wait for ever on the one that nobody reads.
    let (modules, stderr) = std::thread::scope(|scope| {
        let words = scope.spawn(|| stderr.map(|pipe| listen(pipe, show)).unwrap_or_default());
        let modules = stdout.map(read_modules).unwrap_or_default();
        (modules, words.join().unwrap_or_default())
    });
    let status = child.wait().map_err(CargoError::Missing)?;
    Ok(Compiled { modules, success: status.success(), stderr })
}

/// Picks the modules out of cargo's messages.
fn read_modules(stdout: impl Read) -> BTreeMap<String, PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        package_id: Option<String>,
        target: Option<Target>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    lines
        .filter_map(|line| serde_json::from_str::<Message>(&line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.target.as_ref().is_some_and(Target::is_cdylib))
        .filter_map(|message| {
            let module = message.filenames.into_iter().find(|file| file.extension().is_some_and(|e| e == "wasm"))?;
            Some((message.package_id?, module))
        })
        .collect()
}

/// Collects what cargo says, and shows it on the way.
fn listen(stderr: impl Read, show: bool) -> String {
    let mut kept = Vec::new();
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut left_out = false;
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if show {
            // Nobody to show it to is no reason to stop the build.
            let _ = std::io::stderr().write_all(&line);
        }
        if kept.len() + line.len() > STDERR_KEPT {
            left_out = true;
            kept.truncate(STDERR_KEPT / 2);
        }
        kept.append(&mut line);
    }
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if left_out {
        text.push_str("(some of it is left out)\n");
    }
    text
}

/// See [`super::test`].
pub(super) fn test(dir: &Path) -> Result<bool, CargoError> {
    let status = Command::new("cargo").current_dir(dir).arg("test").status().map_err(CargoError::Missing)?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_from_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"path+file:///p#a@0.1.0","target":{"kind":["cdylib","rlib"]},"filenames":["/t/a.wasm","/t/liba.rlib"]}
{"reason":"compiler-artifact","package_id":"b","target":{"kind":["lib"]},"filenames":["/t/libb.rlib"]}
not json
{"reason":"build-finished","success":true}"#;
        let modules = read_modules(messages.as_bytes());
        assert_eq!(modules.into_iter().collect::<Vec<_>>(), [("path+file:///p#a@0.1.0".into(), PathBuf::from("/t/a.wasm"))]);
    }

    #[test]
    fn what_cargo_says_is_kept_within_bounds() {
        let flood = "error: the same again\n".repeat(100_000);
        let text = listen(flood.as_bytes(), false);
        assert!(text.len() <= STDERR_KEPT + 100 && text.ends_with("(some of it is left out)\n"));
        assert_eq!(listen("error: one\n".as_bytes(), false), "error: one\n");
    }
}
