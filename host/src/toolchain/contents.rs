//! Makes cargo rebuild by content. Cargo compares modification times, so it misses a new text with an old time: from an editor that
//! keeps times, a restored backup, or a shared folder with a slow clock. It must never change a file's text.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::component::write_atomically;

/// The hash of a source file.
pub(super) type Content = [u8; 32];

/// The largest file that is hashed. For a larger file, size and time are hashed instead.
const MAX_FILE: u64 = 8 << 20;

/// The depth of folders and the number of files that are searched.
const MAX_DEPTH: usize = 16;
const MAX_FILES: usize = 20_000;

/// The file in the build folder with the hashes of the last build.
const HASHES: &str = "contents.json";

/// Hashes a file. `None`: it cannot be read.
pub(super) fn content(path: &Path) -> Option<Content> {
    let mut file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let mut hasher = Sha256::new();
    if metadata.len() > MAX_FILE {
        hasher.update(format!("{} {:?}", metadata.len(), metadata.modified().ok()));
        return Some(hasher.finalize().into());
    }
    let mut buffer = [0; 16 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(hasher.finalize().into()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Sets a file's time to now, so that cargo builds it again.
pub(super) fn renew(path: &Path) {
    // On an error the file keeps its time, and cargo may miss the change.
    let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(now()));
}

/// The file system's clock, which cargo compares times with.
#[expect(clippy::disallowed_methods, reason = "the file system's clock is what its times are compared with")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

#[derive(Default, Serialize, Deserialize)]
struct Hashes {
    files: BTreeMap<PathBuf, String>,
}

/// Before a build: sets the time to now of each file in `sources` with another content than at the last build but no later time.
pub(super) fn refresh(build_dir: &Path, sources: &[PathBuf]) {
    let path = build_dir.join(HASHES);
    let last = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut hashes: Hashes = serde_json::from_str(&text).unwrap_or_default();
    let mut found = Vec::new();
    sources.iter().for_each(|source| collect(source, MAX_DEPTH, &mut found));
    for file in found {
        let Some(content) = content(&file) else { continue };
        let content: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
        let known = hashes.files.insert(file.clone(), content.clone());
        let is_old = || fs::metadata(&file).and_then(|metadata| metadata.modified()).ok() <= last;
        if known.is_some_and(|known| known != content) && is_old() {
            renew(&file);
        }
    }
    hashes.files.retain(|file, _| file.exists());
    // Without the hashes the next build compares times only, as cargo does.
    if let Ok(text) = serde_json::to_vec(&hashes) {
        let _ = write_atomically(&path, &text);
    }
}

fn collect(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(metadata) = fs::metadata(path) else { return };
    if metadata.is_file() && found.len() < MAX_FILES {
        found.push(path.to_owned());
    }
    let entries = if metadata.is_dir() && depth > 0 { fs::read_dir(path).ok() } else { None };
    for entry in entries.into_iter().flatten().flatten() {
        collect(&entry.path(), depth - 1, found);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::super::scratch::Scratch;
    use super::*;

    fn modified(path: &Path) -> SystemTime {
        fs::metadata(path).unwrap().modified().unwrap()
    }

    fn set(path: &Path, time: SystemTime) {
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_new_text_with_an_old_time_gets_a_new_time() {
        let scratch = Scratch::new();
        let (file, other) = (scratch.write("src/lib.rs", "one"), scratch.write("src/deep/other.rs", "same"));
        let (old, build) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1), scratch.path().join("target"));
        for file in [&file, &other] {
            set(file, old);
        }
        let sources = [scratch.path().join("src")];
        refresh(&build, &sources);
        assert_eq!([&file, &other].map(|file| modified(file)), [old, old], "there is no earlier build");

        scratch.write("src/lib.rs", "two");
        set(&file, old);
        refresh(&build, &sources);
        assert!(modified(&file) > old, "its content changed");
        assert_eq!(modified(&other), old, "its content is the same");
        set(&file, old);
        refresh(&build, &sources);
        assert_eq!(modified(&file), old, "it was built already");
    }

    #[test]
    fn a_time_later_than_the_build_stays() {
        let scratch = Scratch::new();
        let (file, build) = (scratch.write("lib.rs", "one"), scratch.path().join("target"));
        refresh(&build, std::slice::from_ref(&file));
        scratch.write("lib.rs", "two");
        let later = now() + Duration::from_secs(3600);
        set(&file, later);
        refresh(&build, std::slice::from_ref(&file));
        assert_eq!(modified(&file), later);
    }
}
