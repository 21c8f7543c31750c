//! Runs cargo: lists crates and compiles them. Paths must come from cargo's output, never from assumptions about its folders.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::compiler::Compiler;

/// The most bytes of cargo's output in an error. The middle is cut, because the first error and the summary matter.
const MAX_STDERR: usize = 256 * 1024;

/// Why cargo failed or its output could not be parsed.
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

/// The output of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(super) struct Workspace {
    pub(super) packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// The workspace of the crate or workspace in `dir`.
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

    /// The folder of built components.
    pub(super) fn components(&self) -> PathBuf {
        self.target_directory.join("plugins")
    }

    /// A separate target folder. Cargo locks a target folder during a build, so that `hubbub dev` and an author's `cargo test` would
    /// wait for each other. Nothing is compiled twice, because no other build uses this profile and target.
    pub(super) fn build_dir(&self) -> PathBuf {
        self.target_directory.join("plugins-build")
    }

    /// The sources of these crates, and those that a checkout's plugins share.
    pub(super) fn sources(&self, packages: &[&Package]) -> Vec<PathBuf> {
        let own = packages.iter().flat_map(|package| ["src", "build.rs"].map(|part| package.dir().join(part)));
        own.chain(super::SHARED.map(|shared| self.workspace_root.join(shared))).collect()
    }

    /// The profile `plugin` if the workspace has it, else `release`: panics abort on this target anyway.
    fn profile(&self) -> &'static str {
        let manifest = std::fs::read_to_string(self.workspace_root.join("Cargo.toml")).unwrap_or_default();
        let has = |table: toml::Table| table.get("profile").and_then(|p| p.get("plugin")).is_some();
        if manifest.parse().is_ok_and(has) { "plugin" } else { "release" }
    }
}

/// The result of one compilation.
pub(super) struct Compiled {
    /// The module of each crate that compiled, by its package id.
    pub(super) modules: BTreeMap<String, PathBuf>,
    pub(super) success: bool,
    /// Cargo's standard error.
    pub(super) stderr: String,
}

/// Compiles these crates of one workspace in one call, and continues after a crate that fails. `show` also copies cargo's output to
/// standard error.
///
/// Crates that are compiled together unify the features of shared dependencies, so that a crate compiled alone may differ in bytes.
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
        // By id, because a dependency may have the same name.
        command.args(["-p", &package.id]);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(CargoError::Missing)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both pipes are read at once, because cargo blocks on a full pipe.
    let (modules, stderr) = std::thread::scope(|scope| {
        let diagnostics = scope.spawn(|| stderr.map(|pipe| read_stderr(pipe, show)).unwrap_or_default());
        let modules = stdout.map(read_modules).unwrap_or_default();
        (modules, diagnostics.join().unwrap_or_default())
    });
    let status = child.wait().map_err(CargoError::Missing)?;
    Ok(Compiled { modules, success: status.success(), stderr })
}

/// Finds the modules in cargo's messages.
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

/// Collects cargo's standard error, and copies it to this process's if `show`.
fn read_stderr(stderr: impl Read, show: bool) -> String {
    let mut collected = Vec::new();
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut shortened = false;
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if show {
            // A closed standard error must not stop the build.
            let _ = std::io::stderr().write_all(&line);
        }
        if collected.len() + line.len() > MAX_STDERR {
            shortened = true;
            collected.truncate(MAX_STDERR / 2);
        }
        collected.append(&mut line);
    }
    let mut text = String::from_utf8_lossy(&collected).into_owned();
    if shortened {
        text.push_str("(output shortened)\n");
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
    fn cargos_output_is_bounded() {
        let flood = "error: the same again\n".repeat(100_000);
        let text = read_stderr(flood.as_bytes(), false);
        assert!(text.len() <= MAX_STDERR + 100 && text.ends_with("(output shortened)\n"));
        assert_eq!(read_stderr("error: one\n".as_bytes(), false), "error: one\n");
    }
}
