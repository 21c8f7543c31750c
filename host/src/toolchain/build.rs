//! Builds a crate into a component file. A failed build must never replace a good component.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::cargo::{self, CargoError, Compiled, Package, Workspace};
use super::compiler::{Compiler, NoCompiler, Toolchain};
use super::component::{ComponentError, componentize, write_atomically};
use super::{contents, hints};

pub struct Options<'a> {
    /// The component's file; `None`: `plugins/NAME.wasm` in the workspace's target folder.
    pub out: Option<&'a Path>,
    pub toolchain: Toolchain,
    /// Copies cargo's output to standard error while it runs. For a terminal.
    pub show: bool,
    /// Called with one line before something is installed, and with a warning on code that panics in a component.
    pub notify: &'a dyn Fn(&str),
}

/// A component that was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The crate's name.
    pub name: String,
    pub component: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Duration of the build; crates that are compiled together share it.
    pub seconds: f64,
}

/// The result of [`build_all`]: some crates may have failed and others not.
#[derive(Debug, Default)]
pub struct BuiltAll {
    pub built: Vec<Built>,
    pub failures: Vec<BuildError>,
}

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    NoCompiler(#[from] NoCompiler),
    #[error(transparent)]
    Cargo(#[from] CargoError),
    #[error("{} holds no crate of its own", dir.display())]
    NoCrate { dir: PathBuf },
    #[error("the crate `{plugin}` builds no module: its Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]` under [lib]")]
    NoModule { plugin: String },
    /// `stderr` is cargo's; empty if it was shown already. `hint` names the SDK's replacement for something that components lack.
    #[error("{plugins} does not compile{}{stderr}{}", if stderr.is_empty() { "" } else { ":\n" }, as_line(*hint))]
    Compile { plugins: String, stderr: String, hint: Option<&'static str> },
    #[error("`{plugin}` compiles, but {why}")]
    Component { plugin: String, why: ComponentError },
    #[error("{} cannot be used: {why}", path.display())]
    File { path: PathBuf, why: std::io::Error },
}

/// Builds the plugin with its crate in `dir`. Blocks while cargo runs.
pub fn build(dir: &Path, options: &Options<'_>) -> Result<Built, BuildError> {
    let started = Instant::now();
    let dir = &existing(dir)?;
    let compiler = Compiler::find(dir, options.toolchain, options.notify)?;
    let workspace = Workspace::of(compiler, dir)?;
    let no_crate = || BuildError::NoCrate { dir: dir.clone() };
    let package = workspace.packages.iter().find(|package| package.dir() == dir).ok_or_else(no_crate)?;
    let mut all = BuiltAll::default();
    build_together(compiler, &workspace, &[package], options, started, &mut all)?;
    match (all.built.pop(), all.failures.pop()) {
        (Some(built), None) => Ok(built),
        (_, Some(failure)) => Err(failure),
        (None, None) => Err(no_crate()),
    }
}

/// Builds every crate in the folders of `dir/plugins`. Crates of one workspace are compiled together; a failed crate does not stop
/// the others. An error means that no build was started. `options.out` is ignored.
pub fn build_all(dir: &Path, options: &Options<'_>) -> Result<BuiltAll, BuildError> {
    let started = Instant::now();
    let dir = &existing(dir)?;
    let options = &Options { out: None, ..*options };
    let mut waiting = crates_in(&dir.join("plugins"))?;
    let mut all = BuiltAll::default();
    let compiler = match waiting.first() {
        Some(first) => Compiler::find(first, options.toolchain, options.notify)?,
        None => return Ok(all),
    };
    while let Some(first) = waiting.first().cloned() {
        let workspace = match Workspace::of(compiler, &first) {
            Ok(workspace) => workspace,
            Err(error) => {
                all.failures.push(error.into());
                waiting.remove(0);
                continue;
            }
        };
        let here: Vec<&Package> =
            workspace.packages.iter().filter(|package| waiting.iter().any(|dir| package.dir() == dir)).collect();
        if here.is_empty() {
            all.failures.push(BuildError::NoCrate { dir: first.clone() });
        }
        waiting.retain(|dir| *dir != first && !here.iter().any(|package| package.dir() == dir));
        build_together(compiler, &workspace, &here, options, started, &mut all)?;
    }
    Ok(all)
}

/// Compiles crates of one workspace, and makes a component of each that compiled.
fn build_together(
    compiler: Compiler,
    workspace: &Workspace,
    packages: &[&Package],
    options: &Options<'_>,
    started: Instant,
    all: &mut BuiltAll,
) -> Result<(), BuildError> {
    let (packages, without): (Vec<&Package>, Vec<&Package>) = packages.iter().partition(|package| package.is_cdylib());
    all.failures.extend(without.iter().map(|package| BuildError::NoModule { plugin: package.name.clone() }));
    if packages.is_empty() {
        return Ok(());
    }
    contents::refresh(&workspace.build_dir(), &workspace.sources(&packages));
    let Compiled { modules, success, stderr } = cargo::compile(compiler, workspace, &packages, options.show)?;
    let mut failed = Vec::new();
    for package in packages {
        match modules.get(&package.id) {
            Some(module) => match wrap(package, module, workspace, options, started) {
                Ok(built) => all.built.push(built),
                Err(error) => all.failures.push(error),
            },
            None => failed.push(format!("`{}`", package.name)),
        }
    }
    if !failed.is_empty() || !success {
        let hint = hints::of_errors(&stderr);
        let stderr = if options.show { String::new() } else { stderr };
        all.failures.push(BuildError::Compile { plugins: failed.join(", "), stderr, hint });
    }
    Ok(())
}

fn as_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("\n{hint}")).unwrap_or_default()
}

fn wrap(
    package: &Package,
    module: &Path,
    workspace: &Workspace,
    options: &Options<'_>,
    started: Instant,
) -> Result<Built, BuildError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |why| BuildError::File { path, why }
    };
    let plugin = &package.name;
    let bytes = std::fs::read(module).map_err(file_error(module))?;
    if let Some(note) = hints::of_module(&bytes, package.dir()) {
        (options.notify)(&format!("note: `{plugin}`: {note}"));
    }
    let bytes = componentize(&bytes).map_err(|why| BuildError::Component { plugin: plugin.to_owned(), why })?;
    let component = options.out.map_or_else(|| workspace.components().join(format!("{plugin}.wasm")), Path::to_owned);
    write_atomically(&component, &bytes).map_err(file_error(&component))?;
    Ok(Built { name: plugin.to_owned(), component, size: bytes.len() as u64, seconds: started.elapsed().as_secs_f64() })
}

/// The folders in `plugins` that hold a crate, in the order of their names.
fn crates_in(plugins: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let entries = std::fs::read_dir(plugins).map_err(|why| BuildError::File { path: plugins.to_owned(), why })?;
    let mut dirs: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|dir| dir.join("Cargo.toml").is_file()).collect();
    dirs.sort();
    Ok(dirs)
}

/// The absolute folder with links resolved, as cargo prints it.
fn existing(dir: &Path) -> Result<PathBuf, BuildError> {
    dir.canonicalize().map_err(|why| BuildError::File { path: dir.to_owned(), why })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scratch::Scratch;
    use super::*;

    const QUIET: Options<'_> = Options { out: None, toolchain: Toolchain::Auto, show: false, notify: &|_| {} };

    fn manifest(name: &str, kind: &str) -> String {
        format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"{kind}\"]\n")
    }

    #[test]
    fn every_crate_is_tried_and_each_failure_has_its_reason() {
        let scratch = Scratch::new();
        scratch.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\"]\n");
        for (name, kind, code) in [("broken", "cdylib", "fn f() -> u8 { \"a\" }"), ("empty", "cdylib", ""), ("rlib", "rlib", "")]
        {
            scratch.write(&format!("plugins/{name}/Cargo.toml"), &manifest(name, kind));
            scratch.write(&format!("plugins/{name}/src/lib.rs"), code);
        }
        scratch.write("plugins/README.md", "not a plugin");

        let all = build_all(scratch.path(), &QUIET).unwrap();
        assert!(all.built.is_empty());
        let errors: Vec<String> = all.failures.iter().map(ToString::to_string).collect();
        assert!(errors[0].starts_with("the crate `rlib` builds no module"), "{errors:?}");
        assert_eq!(errors[1], "`empty` compiles, but it exports no plugin: does it use #[hubbub_sdk::plugin]?");
        assert!(errors[2].starts_with("`broken` does not compile:\n") && errors[2].contains("mismatched types"), "{errors:?}");
        assert!(!scratch.path().join("target/plugins").exists());
    }

    #[test]
    fn a_folder_without_a_crate_is_named() {
        let scratch = Scratch::new();
        let error = build(&scratch.path().join("nowhere"), &QUIET).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        scratch.write("Cargo.toml", "[workspace]\nmembers = []\n");
        let error = build(scratch.path(), &QUIET).unwrap_err();
        assert!(error.to_string().ends_with("holds no crate of its own"), "{error}");
    }
}
