//! Plugins made for tests, built from source with the author's own command. Must never be built twice in one run.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use tokio::sync::OnceCell;

use crate::server::binary;

static HOSTILE: OnceCell<PathBuf> = OnceCell::const_new();
static COURSE: OnceCell<PathBuf> = OnceCell::const_new();

/// The component that does everything a plugin must not.
pub async fn hostile() -> PathBuf {
    HOSTILE.get_or_init(|| build("hostile")).await.clone()
}

/// The component that owns `/course/{id}`.
pub async fn course() -> PathBuf {
    COURSE.get_or_init(|| build("course")).await.clone()
}

async fn build(name: &'static str) -> PathBuf {
    tokio::task::spawn_blocking(move || {
        let out = crate::checkout_dir().join("target/fixtures");
        std::fs::create_dir_all(&out).expect("the target folder is ours");
        // Another run of the suite may be building the same.
        let lock = File::create(out.join("lock")).expect("the folder was just made");
        lock.lock().expect("files can be locked here");
        let component = out.join(format!("{name}.wasm"));
        let source = crate::package_dir().join("fixtures").join(name);
        let mut command = Command::new(binary());
        command.args(["plugin", "build"]).arg(source).arg("--out").arg(&component);
        // Beside all else that is built, not among the sources.
        command.env("CARGO_TARGET_DIR", &out);
        let output = command.output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "building the fixture {name}: {said}");
        component
    })
    .await
    .expect("building does not panic otherwise")
}
