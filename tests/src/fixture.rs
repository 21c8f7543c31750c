//! Plugins made for tests, built from source with `hubbub plugin build`. Must never be built twice in one run.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::{Mutex, OnceCell};

use crate::server::binary;

static HOSTILE: OnceCell<PathBuf> = OnceCell::const_new();
static PLUGINS: OnceCell<BTreeMap<String, PathBuf>> = OnceCell::const_new();
static COURSE: OnceCell<PathBuf> = OnceCell::const_new();
static TIMED: OnceCell<PathBuf> = OnceCell::const_new();
static HEIR: OnceCell<PathBuf> = OnceCell::const_new();
/// The versions are built one after the other, because they are the same crate.
static VERSIONED: Mutex<BTreeMap<String, PathBuf>> = Mutex::const_new(BTreeMap::new());
static FRAGILE: Mutex<BTreeMap<String, PathBuf>> = Mutex::const_new(BTreeMap::new());

/// The plugin that does everything a plugin must not do.
pub async fn hostile() -> PathBuf {
    HOSTILE.get_or_init(|| build("hostile")).await.clone()
}

/// The plugin that owns `/course/{id}`.
pub async fn course() -> PathBuf {
    COURSE.get_or_init(|| build("course")).await.clone()
}

/// The plugin that sets timers and does what its input asks for when they fire.
pub async fn timed() -> PathBuf {
    TIMED.get_or_init(|| build("timed")).await.clone()
}

/// The same plugin under another name, which takes over some of its timers.
pub async fn heir() -> PathBuf {
    HEIR.get_or_init(|| build_as("timed", "heir", &[("TIMED_NAME", "heir")])).await.clone()
}

/// The plugin with this version in its description.
pub async fn versioned(version: &str) -> PathBuf {
    version_of(&VERSIONED, "versioned", "VERSIONED", version).await
}

/// The plugin that fails in the way that its input asks for, built as this version.
pub async fn fragile(version: &str) -> PathBuf {
    version_of(&FRAGILE, "fragile", "FRAGILE", version).await
}

async fn version_of(all: &Mutex<BTreeMap<String, PathBuf>>, name: &'static str, variable: &str, version: &str) -> PathBuf {
    let mut built = all.lock().await;
    if let Some(component) = built.get(version) {
        return component.clone();
    }
    let component = build_as(name, &format!("{name}-{version}"), &[(variable, version)]).await;
    built.insert(version.to_owned(), component.clone());
    component
}

/// A component that was built for version 0.1.0 of the contract.
pub fn built_for_0_1(name: &str) -> PathBuf {
    crate::package_dir().join("fixtures/0.1.0").join(format!("{name}.wasm"))
}

/// The same component with another digest, so that it is compiled again.
pub fn uncached(component: &[u8], number: u32) -> Vec<u8> {
    // A custom section: its length, its name's length and its name, which must be text.
    let name = format!("{number:08x}");
    [component, &[0, 9, 8], name.as_bytes()].concat()
}

/// The checkout's own plugins by name, in the place where `hubbub plugin build` puts them.
pub async fn plugins() -> &'static BTreeMap<String, PathBuf> {
    let build = || async {
        tokio::task::spawn_blocking(|| {
            let _one_at_a_time = lock();
            let folders = std::fs::read_dir(crate::checkout_dir().join("plugins")).expect("the checkout has plugins");
            folders.map(|folder| own(&folder.expect("a folder's entry").path())).collect()
        })
        .await
        .expect("building does not panic otherwise")
    };
    PLUGINS.get_or_init(build).await
}

/// Builds one of the checkout's own plugins.
fn own(source: &Path) -> (String, PathBuf) {
    let name = source.file_name().expect("a folder has a name").to_string_lossy().into_owned();
    let component = crate::checkout_dir().join(format!("target/plugins/{name}.wasm"));
    // The path is given, because `CARGO_TARGET_DIR` would change it and an outdated file could be used.
    built(Command::new(binary()).args(["plugin", "build"]).arg(source).arg("--out").arg(&component), &name);
    (name, component)
}

async fn build(name: &'static str) -> PathBuf {
    build_as(name, name, &[]).await
}

async fn build_as(name: &'static str, file: &str, env: &[(&str, &str)]) -> PathBuf {
    let component = folder().join(format!("{file}.wasm"));
    let env: Vec<(String, String)> = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    tokio::task::spawn_blocking(move || {
        let _one_at_a_time = lock();
        let source = crate::package_dir().join("fixtures").join(name);
        let mut command = Command::new(binary());
        command.args(["plugin", "build"]).arg(source).arg("--out").arg(&component);
        // In the target folder, not among the sources.
        built(command.envs(env).env("CARGO_TARGET_DIR", folder()), name);
        component
    })
    .await
    .expect("building does not panic otherwise")
}

fn built(command: &mut Command, name: &str) {
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "building {name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The folder for components made for tests.
fn folder() -> PathBuf {
    crate::checkout_dir().join("target/fixtures")
}

/// Held while building, because another run of the suite may build the same component.
fn lock() -> File {
    std::fs::create_dir_all(folder()).expect("the target folder is ours");
    let lock = File::create(folder().join("lock")).expect("the folder was just made");
    lock.lock().expect("files can be locked here");
    lock
}
