//! The sources of the plugins as they were last seen, by what they hold. It decides what a report of the file system means, and never
//! builds.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::super::SHARED;
use super::super::contents::{self, Content};
use super::Changed;

/// How deep under a crate's `src` files are noticed, and how many are remembered. What lies deeper or comes later is noticed by
/// the next change of another file.
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 20_000;

/// A file whose time is further back than this when it has changed was given an old time.
const RECENT: Duration = Duration::from_secs(2);

/// More than a tick of a file system's clock.
const TICK: Duration = Duration::from_millis(50);

/// Reports of one file that come closer together than this belong to one save: editors write, then set times and modes.
const ONE_SAVE: Duration = Duration::from_secs(2);

/// The sources as they were last seen. The system also reports that a file was opened, and a compiler opens all of them: a file is
/// read again only where its times or its size differ, and has changed only where its content does.
pub(super) struct Sources {
    root: PathBuf,
    seen: HashMap<PathBuf, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Dir,
    /// `told`: when a report of it was last passed on.
    File {
        stamp: Stamp,
        content: Option<Content>,
        told: Option<Instant>,
    },
}

/// The metadata by which a changed file is found without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of its content or of what is known of it; an editor can set the other time back, and not this one.
    changed: (i64, i64),
}

impl Seen {
    fn told_now(self) -> Self {
        match self {
            Self::Dir => Self::Dir,
            Self::File { stamp, content, .. } => Self::File { stamp, content, told: Some(Instant::now()) },
        }
    }

    fn was_just_told(self) -> bool {
        matches!(self, Self::File { told: Some(at), .. } if at.elapsed() < ONE_SAVE)
    }
}

impl Sources {
    pub(super) fn read(root: PathBuf) -> Self {
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
            let seen = look(&path, None);
            if seen == Some(Seen::Dir) && depth > 0 {
                self.remember(&path, depth - 1);
            }
            self.seen.extend(seen.map(|seen| (path, seen)));
        }
    }

    /// Adds what a report about this path means.
    pub(super) fn look_at(&mut self, path: &Path, changed: &mut Changed) {
        let Some(concern) = self.concerns(path) else { return };
        let before = self.seen.get(path).copied();
        let now = look(path, before);
        let beside_the_crates = path.parent() == Some(&self.root.join("plugins")) && now != Some(Seen::Dir);
        if before == now || (beside_the_crates && now.is_some()) {
            return;
        }
        let same = holds_the_same(before, now);
        let now = if same { now } else { under_a_new_time(path, now) };
        match now {
            Some(now) if self.seen.len() < MAX_FILES => drop(self.seen.insert(path.to_owned(), now.told_now())),
            _ => drop(self.seen.remove(path)),
        }
        if same {
            changed.saved_as_it_was |= !before.is_some_and(Seen::was_just_told);
            return;
        }
        if matches!(concern, Concern::Plugin(_)) && !self.is_used(path, now) {
            return;
        }
        // A folder that appears brings files that nothing is reported about.
        if now == Some(Seen::Dir) {
            self.remember(path, MAX_DEPTH);
        }
        match concern {
            Concern::All => changed.all = true,
            Concern::Plugin(name) => drop(changed.plugins.insert(name)),
        }
    }

    /// Whether a build may read what is at this path in a plugin's folder. A file that is no Rust is read only where Rust names it, or
    /// a folder that it is in: notes beside the sources are no source.
    fn is_used(&self, path: &Path, now: Option<Seen>) -> bool {
        let inner = path.strip_prefix(self.root.join("plugins")).unwrap_or(path);
        let parts: Vec<&str> = inner.iter().filter_map(|part| part.to_str()).collect();
        let (Some((name, [_src, below @ ..])), false) = (parts.split_first(), now == Some(Seen::Dir)) else { return true };
        let dir = self.root.join("plugins").join(name);
        if below.is_empty() || path.extension().is_some_and(|extension| extension == "rs") || dir.join("build.rs").exists() {
            return true;
        }
        let sources = self.seen.keys().filter(|file| file.starts_with(&dir) && file.extension().is_some_and(|e| e == "rs"));
        let mut texts = sources.filter_map(|file| std::fs::read_to_string(file).ok());
        texts.any(|text| below.iter().any(|part| text.contains(part)))
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

/// `None`: it is not there. The content is read only where the stamp is another than before.
fn look(path: &Path, before: Option<Seen>) -> Option<Seen> {
    let metadata = std::fs::metadata(path).ok()?;
    if metadata.is_dir() {
        // A folder's own time changes with every temporary file in it.
        return Some(Seen::Dir);
    }
    let stamp = Stamp {
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let known = match before {
        Some(Seen::File { stamp: known, content, .. }) if known == stamp => Some(content),
        _ => None,
    };
    // Two writes within one tick of the file system's clock have the same times.
    let is_settled = age(changed_at(stamp)) > TICK;
    if known.is_some() && is_settled {
        return before;
    }
    let content = contents::content(path);
    if known == Some(content) { before } else { Some(Seen::File { stamp, content, told: None }) }
}

/// How long ago a time was; zero for one that is still to come.
fn age(time: SystemTime) -> Duration {
    contents::now().duration_since(time).unwrap_or_default()
}

fn changed_at(stamp: Stamp) -> SystemTime {
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(stamp.changed.0).unwrap_or_default())
        + Duration::from_nanos(u64::try_from(stamp.changed.1).unwrap_or_default())
}

fn holds_the_same(before: Option<Seen>, now: Option<Seen>) -> bool {
    match (before, now) {
        (Some(Seen::File { content: before, .. }), Some(Seen::File { content: now, .. })) => before.is_some() && before == now,
        _ => false,
    }
}

/// A file that has changed under an old time is given the time of now: cargo would take it for built already.
fn under_a_new_time(path: &Path, now: Option<Seen>) -> Option<Seen> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    if !matches!(now, Some(Seen::File { .. })) || !modified.is_ok_and(|modified| age(modified) > RECENT) {
        return now;
    }
    contents::renew(path);
    look(path, now)
}
