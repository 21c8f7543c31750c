//! Watches the plugins' sources and reports which plugins have changed. It must never build: the receiving task decides.

mod sources;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::SHARED;
use sources::Sources;

/// The time without further events after which a change is reported: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// The changes since the last report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Names of folders under `plugins/`, removed ones included.
    pub plugins: BTreeSet<String>,
    /// Whether the SDK, the contract or the workspace has changed, which all plugins share.
    pub all: bool,
    /// Whether a source was saved with the same content.
    pub saved_unchanged: bool,
}

/// The file system cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be watched for changes: {why}", path.display())]
pub struct WatchError {
    path: PathBuf,
    why: notify_debouncer_mini::notify::Error,
}

/// Watches the sources below a folder, until it is dropped.
pub struct Watcher {
    pending: Arc<Pending>,
    _debouncer: Debouncer<RecommendedWatcher>,
}

/// Changes that are not reported yet. Equal changes are merged, so that the number of plugins bounds them and none is dropped, unlike
/// in a full channel.
#[derive(Default)]
struct Pending {
    changed: Mutex<Changed>,
    arrived: Notify,
}

impl Watcher {
    /// Watches `plugins/*/{src,Cargo.toml,build.rs}` below `root`, and the workspace's `Cargo.toml`, `sdk/src`, `sdk/macros/src` and
    /// `wit` if they exist. Plugins that are created later are included.
    pub fn start(root: &Path) -> Result<Self, WatchError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |why| WatchError { path, why }
        };
        let root = root.canonicalize().map_err(|error| failed(root)(error.into()))?;
        let pending = Arc::new(Pending::default());
        let mut sources = Sources::read(root.clone());
        let reports = Arc::clone(&pending);
        let on_events = move |events: DebounceEventResult| {
            // An error means that events were lost, so that anything may have changed.
            let Ok(events) = events else { return reports.add(Changed { all: true, ..Changed::default() }) };
            let mut changed = Changed::default();
            for event in events {
                sources.look_at(&event.path, &mut changed);
            }
            reports.add(changed);
        };
        let mut debouncer = new_debouncer(QUIET, on_events).map_err(failed(&root))?;
        let mut watch = |path: &Path, mode| debouncer.watcher().watch(path, mode).map_err(failed(path));
        watch(&root.join("plugins"), RecursiveMode::Recursive)?;
        // The folder, not the file: an editor may replace the file, which would end a watch on it.
        watch(&root, RecursiveMode::NonRecursive)?;
        for shared in SHARED.map(|path| root.join(path)).iter().filter(|path| path.is_dir()) {
            watch(shared, RecursiveMode::Recursive)?;
        }
        Ok(Self { pending, _debouncer: debouncer })
    }

    /// Waits for a change, and returns all pending ones. Cancel safe.
    pub async fn changed(&mut self) -> Changed {
        loop {
            let changed = std::mem::take(&mut *self.pending.lock());
            if changed != Changed::default() {
                return changed;
            }
            self.pending.arrived.notified().await;
        }
    }
}

impl Pending {
    fn add(&self, changed: Changed) {
        if changed == Changed::default() {
            return;
        }
        let mut pending = self.lock();
        pending.plugins.extend(changed.plugins);
        pending.all |= changed.all;
        pending.saved_unchanged |= changed.saved_unchanged;
        drop(pending);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scratch::Scratch;
    use super::*;

    /// A checkout with the plugins `a` and `b`.
    fn checkout() -> Scratch {
        let scratch = Scratch::new();
        for file in ["Cargo.toml", "sdk/src/lib.rs", "plugins/a/src/lib.rs", "plugins/a/Cargo.toml", "plugins/b/src/deep/x.rs"] {
            scratch.write(file, "1");
        }
        scratch
    }

    fn plugins(names: &[&str]) -> Changed {
        Changed { plugins: names.iter().map(ToString::to_string).collect(), ..Changed::default() }
    }

    /// The changes after an event about each of these paths.
    fn look(sources: &mut Sources, paths: &[PathBuf]) -> Changed {
        let mut changed = Changed::default();
        for path in paths {
            sources.look_at(path, &mut changed);
        }
        changed
    }

    #[test]
    fn only_changed_content_is_reported() {
        let scratch = checkout();
        let mut sources = Sources::read(scratch.path().to_owned());
        let opened =
            ["Cargo.toml", "plugins/a", "plugins/a/src", "plugins/a/src/lib.rs", "plugins/b/src/deep/x.rs", "sdk/src/lib.rs"];
        assert_eq!(look(&mut sources, &opened.map(|path| scratch.path().join(path))), Changed::default());

        let edited = scratch.write("plugins/b/src/deep/x.rs", "longer");
        assert_eq!(look(&mut sources, std::slice::from_ref(&edited)), plugins(&["b"]));
        assert_eq!(look(&mut sources, std::slice::from_ref(&edited)), Changed::default(), "reported once");
        std::fs::remove_file(&edited).unwrap();
        assert_eq!(look(&mut sources, &[edited]), plugins(&["b"]));
        let shared = scratch.write("sdk/src/rooms.rs", "new");
        assert_eq!(look(&mut sources, &[shared]), Changed { all: true, ..Changed::default() });
    }

    /// The report of a file that was saved without a change.
    fn unchanged() -> Changed {
        Changed { saved_unchanged: true, ..Changed::default() }
    }

    fn set_time(path: &Path, seconds: u64) {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_new_text_with_an_old_time_is_reported_and_gets_a_new_time() {
        let scratch = checkout();
        let file = scratch.path().join("plugins/a/src/lib.rs");
        set_time(&file, 1);
        let mut sources = Sources::read(scratch.path().to_owned());
        // The same length and time as before.
        scratch.write("plugins/a/src/lib.rs", "2");
        set_time(&file, 1);
        assert_eq!(look(&mut sources, std::slice::from_ref(&file)), plugins(&["a"]));
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        assert!(modified.duration_since(std::time::UNIX_EPOCH).unwrap() > Duration::from_secs(1), "cargo compares it");
        assert_eq!(look(&mut sources, &[file]), Changed::default(), "the new time is no change of its own");
    }

    #[test]
    fn a_save_without_a_change_is_reported_as_unchanged() {
        let scratch = checkout();
        let mut sources = Sources::read(scratch.path().to_owned());
        let file = scratch.path().join("plugins/a/src/lib.rs");
        set_time(&file, 1);
        assert_eq!(look(&mut sources, std::slice::from_ref(&file)), unchanged());
        let other = scratch.write("plugins/a/src/.tmp1", "1");
        std::fs::rename(other, &file).unwrap();
        assert_eq!(look(&mut sources, &[file]), Changed::default(), "a part of the same save");
        let other = scratch.path().join("plugins/a/Cargo.toml");
        set_time(&other, 2);
        assert_eq!(look(&mut sources, &[other]), unchanged());
    }

    #[test]
    fn other_files_count_only_if_rust_names_them() {
        let scratch = checkout();
        scratch.write(
            "plugins/a/src/lib.rs",
            "const A: &str = include_str!(\"words.txt\"); const B: &str = include_str!(\"data/x.json\");",
        );
        let mut sources = Sources::read(scratch.path().to_owned());
        let (notes, words) = (scratch.write("plugins/a/src/notes.txt", "x"), scratch.write("plugins/a/src/words.txt", "x"));
        let data = scratch.write("plugins/a/src/data/y.json", "x");
        assert_eq!(look(&mut sources, std::slice::from_ref(&notes)), Changed::default());
        std::fs::remove_file(&notes).unwrap();
        assert_eq!(look(&mut sources, &[notes]), Changed::default());
        assert_eq!(look(&mut sources, &[words]), plugins(&["a"]));
        assert_eq!(look(&mut sources, &[data]), plugins(&["a"]), "in a folder that is named");
        scratch.write("plugins/a/build.rs", "");
        let notes = scratch.write("plugins/a/src/notes.txt", "y");
        assert_eq!(look(&mut sources, &[notes]), plugins(&["a"]), "a build script may read anything");
    }

    #[test]
    fn a_folder_that_is_moved_away_and_back_is_a_change_each_time() {
        let scratch = checkout();
        let mut sources = Sources::read(scratch.path().to_owned());
        let (here, away) = (scratch.path().join("plugins/a"), scratch.path().join("away"));
        std::fs::rename(&here, &away).unwrap();
        assert_eq!(look(&mut sources, std::slice::from_ref(&here)), plugins(&["a"]));
        std::fs::rename(&away, &here).unwrap();
        assert_eq!(look(&mut sources, std::slice::from_ref(&here)), plugins(&["a"]));
        assert_eq!(look(&mut sources, &[here.join("src/lib.rs")]), Changed::default());
    }

    #[test]
    fn files_that_are_no_sources_are_ignored() {
        let scratch = checkout();
        let mut sources = Sources::read(scratch.path().to_owned());
        let others = ["plugins/a/src/.lib.rs.swp", "plugins/a/src/lib.rs~", "plugins/a/src/4913", "plugins/a/target/debug/a.d"];
        let others = others.into_iter().chain([
            "plugins/a/src/.#lib.rs",
            "plugins/a/src/lib.rs.swp",
            "plugins/a/src/.lib.rs.un~",
            "plugins/.DS_Store",
            "plugins/README.md",
            "plugins/a/README.md",
            "target/x",
            "Cargo.lock",
            ".git/index",
            "host/src/main.rs",
        ]);
        let others: Vec<PathBuf> = others.map(|path| scratch.write(path, "x")).collect();
        assert_eq!(look(&mut sources, &others), Changed::default());
    }

    #[tokio::test]
    async fn a_saved_file_is_reported_and_a_read_one_is_not() {
        let scratch = checkout();
        let mut watcher = Watcher::start(scratch.path()).unwrap();
        // The read comes first, so that its report would, too.
        std::fs::read(scratch.path().join("plugins/b/src/deep/x.rs")).unwrap();
        scratch.write("plugins/a/src/lib.rs", "changed");
        assert_eq!(watcher.changed().await, plugins(&["a"]));
        scratch.write("plugins/new/src/lib.rs", "created later");
        assert_eq!(watcher.changed().await, plugins(&["new"]));
    }
}
