//! Notices that a plugin's source has changed. It builds nothing: it only says which, to one task that decides.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use tokio::sync::Notify;

/// A change is told once nothing more has happened to the file for so long: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// How deep under a crate's `src` files are noticed, and how many are remembered. What lies deeper or comes later is noticed by
/// the next change of another file.
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 20_000;

/// Folders, under the watched one, whose change concerns every plugin.
const SHARED: [&str; 3] = ["sdk/src", "sdk/macros/src", "wit"];

/// What has changed since the last time it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The folders' names under `plugins/`, also of those that have gone.
    pub plugins: BTreeSet<String>,
    /// What all plugins share has changed: the SDK, the contract, or the workspace.
    pub all: bool,
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

/// Changes that wait to be taken. Bounded by the number of plugins: the same change twice is one, so none is ever dropped, as it
/// would be by a channel that is full.
#[derive(Default)]
struct Pending {
    changed: Mutex<Changed>,
    arrived: Notify,
}

impl Watcher {
    /// Watches `plugins/*/{src,Cargo.toml,build.rs}` below `root`, and where they are there `sdk/src`, `sdk/macros/src`, `wit` and
    /// the workspace's `Cargo.toml`. Plugins that are made later are noticed too.
    pub fn start(root: &Path) -> Result<Self, WatchError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |why| WatchError { path, why }
        };
        let root = root.canonicalize().map_err(|error| failed(root)(error.into()))?;
        let pending = Arc::new(Pending::default());
        let mut sources = Sources::read(root.clone());
        let told = Arc::clone(&pending);
        let on_events = move |events: DebounceEventResult| {
            // An error means that events were lost: then everything may have changed.
            let Ok(events) = events else { return told.add(Changed { all: true, ..Changed::default() }) };
            let mut changed = Changed::default();
            for event in events {
                sources.look_at(&event.path, &mut changed);
            }
            told.add(changed);
        };
        let mut debouncer = new_debouncer(QUIET, on_events).map_err(failed(&root))?;
        let mut watch = |path: &Path, mode| debouncer.watcher().watch(path, mode).map_err(failed(path));
        watch(&root.join("plugins"), RecursiveMode::Recursive)?;
        // The folder, not the file: an editor that replaces the file would end the watch of it.
        watch(&root, RecursiveMode::NonRecursive)?;
        for shared in SHARED.map(|path| root.join(path)).iter().filter(|path| path.is_dir()) {
            watch(shared, RecursiveMode::Recursive)?;
        }
        Ok(Self { pending, _debouncer: debouncer })
    }

    /// Waits for a change, and takes all there are. Cancel safe.
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
        drop(pending);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        // A set of names is never half changed.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sources as they were last seen. The system also reports that a file was opened, and a compiler opens all of them: only a
/// file that differs from what is remembered has changed.
struct Sources {
    root: PathBuf,
    seen: HashMap<PathBuf, Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Dir,
    File { modified: Option<SystemTime>, size: u64 },
}

impl Sources {
    fn read(root: PathBuf) -> Self {
        let mut sources = Self { root, seen: HashMap::new() };
        for folder in ["plugins"].into_iter().chain(SHARED) {
            sources.remember(&sources.root.join(folder), MAX_DEPTH);
        }
        sources.look_at(&sources.root.join("Cargo.toml"), &mut Changed::default());
        sources
    }

    fn remember(&mut self, dir: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if self.concerns(&path).is_none() || self.seen.len() >= MAX_FILES {
                continue;
            }
            let stamp = stamp(&path);
            if stamp == Some(Stamp::Dir) && depth > 0 {
                self.remember(&path, depth - 1);
            }
            self.seen.extend(stamp.map(|stamp| (path, stamp)));
        }
    }

    /// Adds what a report about this path means.
    fn look_at(&mut self, path: &Path, changed: &mut Changed) {
        let Some(concern) = self.concerns(path) else { return };
        let now = stamp(path);
        let beside_the_crates = path.parent() == Some(&self.root.join("plugins")) && now != Some(Stamp::Dir);
        if self.seen.get(path).copied() == now || (beside_the_crates && now.is_some()) {
            return;
        }
        match now {
            Some(now) if self.seen.len() < MAX_FILES => drop(self.seen.insert(path.to_owned(), now)),
            _ => drop(self.seen.remove(path)),
        }
        // A folder that appears brings files that nothing is reported about.
        if now == Some(Stamp::Dir) {
            self.remember(path, MAX_DEPTH);
        }
        match concern {
            Concern::All => changed.all = true,
            Concern::Plugin(name) => drop(changed.plugins.insert(name)),
        }
    }

    /// What a path belongs to; `None`: to no source.
    fn concerns(&self, path: &Path) -> Option<Concern> {
        let path = path.strip_prefix(&self.root).ok()?;
        let mut parts = Vec::new();
        for part in path.iter() {
            let part = part.to_str()?;
            if is_temporary(part) {
                return None;
            }
            parts.push(part);
        }
        match parts.as_slice() {
            ["Cargo.toml"] => Some(Concern::All),
            ["plugins", name] | ["plugins", name, "src" | "Cargo.toml" | "build.rs"] | ["plugins", name, "src", ..] => {
                Some(Concern::Plugin((*name).to_owned()))
            }
            _ if SHARED.iter().any(|shared| path.starts_with(shared)) => Some(Concern::All),
            _ => None,
        }
    }
}

enum Concern {
    All,
    Plugin(String),
}

/// What editors leave beside a file while it is open: `.x.swp`, `x~`, `#x#`, `4913`, `x.tmp`, `x.bak`, `x.orig`.
fn is_temporary(name: &str) -> bool {
    let ends = ["~", "#", ".tmp", ".bak", ".orig", ".swp", ".part"];
    name.starts_with(['.', '#']) || name == "4913" || ends.iter().any(|end| name.ends_with(end))
}

/// `None`: it is not there.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    // A folder's own time changes with every temporary file in it.
    Some(if metadata.is_dir() { Stamp::Dir } else { Stamp::File { modified: metadata.modified().ok(), size: metadata.len() } })
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
        Changed { plugins: names.iter().map(ToString::to_string).collect(), all: false }
    }

    /// What a report about each of these paths comes to.
    fn look(sources: &mut Sources, paths: &[PathBuf]) -> Changed {
        let mut changed = Changed::default();
        for path in paths {
            sources.look_at(path, &mut changed);
        }
        changed
    }

    #[test]
    fn only_what_differs_from_before_has_changed() {
        let scratch = checkout();
        let mut sources = Sources::read(scratch.path().to_owned());
        let opened =
            ["Cargo.toml", "plugins/a", "plugins/a/src", "plugins/a/src/lib.rs", "plugins/b/src/deep/x.rs", "sdk/src/lib.rs"];
        assert_eq!(look(&mut sources, &opened.map(|path| scratch.path().join(path))), Changed::default());

        let edited = scratch.write("plugins/b/src/deep/x.rs", "longer");
        assert_eq!(look(&mut sources, std::slice::from_ref(&edited)), plugins(&["b"]));
        assert_eq!(look(&mut sources, std::slice::from_ref(&edited)), Changed::default(), "told once");
        std::fs::remove_file(&edited).unwrap();
        assert_eq!(look(&mut sources, &[edited]), plugins(&["b"]));
        let shared = scratch.write("sdk/src/rooms.rs", "new");
        assert_eq!(look(&mut sources, &[shared]), Changed { all: true, ..Changed::default() });
    }

    #[test]
    fn what_is_no_source_is_passed_over() {
        let scratch = checkout();
        let mut sources = Sources::read(scratch.path().to_owned());
        let others = ["plugins/a/src/.lib.rs.swp", "plugins/a/src/lib.rs~", "plugins/a/src/4913", "plugins/a/target/debug/a.d"];
        let others = others.into_iter().chain([
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
    async fn a_saved_file_is_told_and_a_read_one_is_not() {
        let scratch = checkout();
        let mut watcher = Watcher::start(scratch.path()).unwrap();
        // Read first, written after: had the reading been told, it would come first.
        std::fs::read(scratch.path().join("plugins/b/src/deep/x.rs")).unwrap();
        scratch.write("plugins/a/src/lib.rs", "changed");
        assert_eq!(watcher.changed().await, plugins(&["a"]));
        scratch.write("plugins/new/src/lib.rs", "made later");
        assert_eq!(watcher.changed().await, plugins(&["new"]));
    }
}
