//! The last seen state of the plugins' sources. It turns events of the file system into changes, and must never build.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::super::SHARED;
use super::super::contents::{self, Content};
use super::Changed;

/// The depth under a crate's `src` and the number of files that are watched. A change beyond them is built with the next change of
/// another file.
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 20_000;

/// A changed file with a time older than this was given an old time.
const RECENT: Duration = Duration::from_secs(2);

/// Longer than the resolution of a file system's clock.
const TICK: Duration = Duration::from_millis(50);

/// Events of one file within this time belong to one save: editors write, then set times and modes.
const ONE_SAVE: Duration = Duration::from_secs(2);

/// The last seen state of the sources. The system also reports opened files, and a compiler opens all of them: so a file is read
/// again only if its times or size differ, and has changed only if its content differs.
pub(super) struct Sources {
    root: PathBuf,
    seen: HashMap<PathBuf, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Dir,
    /// `reported`: the time of its last reported event.
    File {
        stamp: Stamp,
        content: Option<Content>,
        reported: Option<Instant>,
    },
}

/// The metadata by which a changed file is found without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The time of the last change to content or metadata, which an editor cannot set back.
    changed: (i64, i64),
}

impl Seen {
    fn reported_now(self) -> Self {
        match self {
            Self::Dir => Self::Dir,
            Self::File { stamp, content, .. } => Self::File { stamp, content, reported: Some(Instant::now()) },
        }
    }

    fn was_just_reported(self) -> bool {
        matches!(self, Self::File { reported: Some(at), .. } if at.elapsed() < ONE_SAVE)
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
            if self.concern_of(&path).is_none() || self.seen.len() >= MAX_FILES {
                continue;
            }
            let seen = look(&path, None);
            if seen == Some(Seen::Dir) && depth > 0 {
                self.remember(&path, depth - 1);
            }
            self.seen.extend(seen.map(|seen| (path, seen)));
        }
    }

    /// Adds the change that an event about this path means.
    pub(super) fn look_at(&mut self, path: &Path, changed: &mut Changed) {
        let Some(concern) = self.concern_of(path) else { return };
        let before = self.seen.get(path).copied();
        let now = look(path, before);
        let beside_the_crates = path.parent() == Some(&self.root.join("plugins")) && now != Some(Seen::Dir);
        if before == now || (beside_the_crates && now.is_some()) {
            return;
        }
        let same = has_same_content(before, now);
        let now = if same { now } else { with_new_time(path, now) };
        match now {
            Some(now) if self.seen.len() < MAX_FILES => drop(self.seen.insert(path.to_owned(), now.reported_now())),
            _ => drop(self.seen.remove(path)),
        }
        if same {
            changed.saved_unchanged |= !before.is_some_and(Seen::was_just_reported);
            return;
        }
        if matches!(concern, Concern::Plugin(_)) && !self.is_used(path, now) {
            return;
        }
        // The files of a new folder have no events of their own.
        if now == Some(Seen::Dir) {
            self.remember(path, MAX_DEPTH);
        }
        match concern {
            Concern::All => changed.all = true,
            Concern::Plugin(name) => drop(changed.plugins.insert(name)),
        }
    }

    /// Whether a build may read this path of a plugin's folder. A file that is not Rust counts only if Rust code names it or one of its
    /// folders, as in `include_str!`: notes beside the sources do not.
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

    /// The plugins that a path belongs to; `None`: it is no source.
    fn concern_of(&self, path: &Path) -> Option<Concern> {
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

/// Files that editors create beside an open file: `.x.swp`, `x~`, `#x#`, `4913`, `x.tmp`, `x.bak`, `x.orig`.
fn is_temporary(name: &str) -> bool {
    let ends = ["~", "#", ".tmp", ".bak", ".orig", ".swp", ".part"];
    name.starts_with(['.', '#']) || name == "4913" || ends.iter().any(|end| name.ends_with(end))
}

/// The state of a path; `None`: it does not exist. The content is read only if the stamp has changed.
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
    // Two writes within the clock's resolution have the same times.
    let is_settled = age(changed_at(stamp)) > TICK;
    if known.is_some() && is_settled {
        return before;
    }
    let content = contents::content(path);
    if known == Some(content) { before } else { Some(Seen::File { stamp, content, reported: None }) }
}

/// The age of a time; zero for a time in the future.
fn age(time: SystemTime) -> Duration {
    contents::now().duration_since(time).unwrap_or_default()
}

fn changed_at(stamp: Stamp) -> SystemTime {
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(stamp.changed.0).unwrap_or_default())
        + Duration::from_nanos(u64::try_from(stamp.changed.1).unwrap_or_default())
}

fn has_same_content(before: Option<Seen>, now: Option<Seen>) -> bool {
    match (before, now) {
        (Some(Seen::File { content: before, .. }), Some(Seen::File { content: now, .. })) => before.is_some() && before == now,
        _ => false,
    }
}

/// Gives a changed file with an old time the current time, because cargo would not build it otherwise.
fn with_new_time(path: &Path, now: Option<Seen>) -> Option<Seen> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    if !matches!(now, Some(Seen::File { .. })) || !modified.is_ok_and(|modified| age(modified) > RECENT) {
        return now;
    }
    contents::renew(path);
    look(path, now)
}
