//! Compiled components on the disk. An entry is used only if this server has written it: its name contains an HMAC-SHA256 of its
//! bytes, with a key in the data folder. Any other entry is removed with a log line and compiled anew.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::{constant_time, hmac};

use super::SandboxError;
use crate::private;

/// The key's file in the data folder.
const KEY: &str = "cache.key";

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// The suffix of an entry's name.
const ENDING: &str = ".code";

/// The key that authenticates entries. It is never printed or passed to another process.
pub struct CacheKey(hmac::Key);

impl CacheKey {
    /// The key of a data folder, created if there is none. A key that other users could read is replaced.
    pub fn of_folder(data: &Path) -> io::Result<Self> {
        private::folder(data)?;
        let path = data.join(KEY);
        if let Some(key) = read(&path)? {
            return Ok(Self::of(&key));
        }
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        // Renamed when complete: after a crash there is a whole key or none.
        let part = path.with_extension("part");
        let _ = fs::remove_file(&part);
        let mut file = private::options().write(true).create_new(true).open(&part)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        Ok(Self::of(&key))
    }

    /// A key that only this process uses.
    pub fn passing() -> Result<Self, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Ok(Self::of(&key))
    }

    fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn tag(&self, stem: &str, code: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        // The stem always has the same length: no two entries authenticate the same bytes.
        context.update(stem.as_bytes());
        context.update(code);
        context.sign()
    }
}

/// The key's bytes. None: there is no trustworthy key.
fn read(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.is_file() || !private::is_ours(&found) || !private::is_closed(&found) {
        tracing::warn!(path = %path.display(), "other users could read or write this key: it is replaced, and components are compiled anew");
        fs::remove_file(path)?;
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    fs::File::open(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.try_into().ok())
}

/// The folder of compiled components.
pub(super) struct Cache {
    /// Empty: nothing is stored.
    folder: PathBuf,
    most: usize,
    key: CacheKey,
}

/// The folder that a component is compiled to.
pub(super) enum Place<'a> {
    Kept(&'a Path),
    /// Removed with this value.
    Temporary(tempfile::TempDir),
}

impl Place<'_> {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

impl Cache {
    pub(super) fn new(folder: PathBuf, most: usize, key: CacheKey) -> Self {
        Self { folder, most: most.max(1), key }
    }

    pub(super) fn broken(&self, error: &io::Error) -> SandboxError {
        SandboxError::Cache { cache: self.folder.clone(), why: error.to_string() }
    }

    /// The folder, if only this user can access it; else a temporary one.
    pub(super) fn place(&self) -> io::Result<Place<'_>> {
        if self.folder.as_os_str().is_empty() {
            return Ok(Place::Temporary(tempfile::tempdir()?));
        }
        private::folder(&self.folder)?;
        let found = fs::metadata(&self.folder)?;
        if private::is_ours(&found) && private::is_closed(&found) {
            return Ok(Place::Kept(&self.folder));
        }
        tracing::warn!(
            cache = %self.folder.display(),
            "other users can access the folder of compiled components (sandbox.cache): it is not used, and nothing is stored"
        );
        Ok(Place::Temporary(tempfile::tempdir()?))
    }

    /// The file of a component that was compiled before. `stem` names the component and the engine.
    pub(super) fn find(&self, folder: &Path, stem: &str) -> Option<PathBuf> {
        entries(folder).find(|path| name(path).starts_with(stem) && self.is_genuine(path, stem))
    }

    fn is_genuine(&self, path: &Path, stem: &str) -> bool {
        let Ok(found) = fs::symlink_metadata(path) else { return false };
        let is_file = found.is_file() && private::is_ours(&found);
        let is_genuine = is_file
            && fs::read(path).is_ok_and(|code| {
                let expected = entry(stem, &self.key.tag(stem, &code));
                constant_time::verify_slices_are_equal(expected.as_bytes(), name(path).as_bytes()).is_ok()
            });
        if is_genuine {
            private::mend(path);
        } else {
            tracing::warn!(entry = %path.display(), "this server has not compiled this entry, or it was changed: it is removed and compiled anew");
            let _ = fs::remove_file(path);
        }
        is_genuine
    }

    /// Moves a compiled file into the folder. Returns its new path.
    pub(super) fn keep(&self, made: &Path, folder: &Path, stem: &str) -> io::Result<PathBuf> {
        let kept = folder.join(entry(stem, &self.key.tag(stem, &fs::read(made)?)));
        fs::rename(made, &kept)?;
        Ok(kept)
    }

    /// Removes the least recently used entries.
    pub(super) fn remove_old(&self) {
        let mut files: Vec<_> = entries(&self.folder)
            .filter_map(|path| Some((fs::metadata(&path).and_then(|data| data.modified()).ok()?, path)))
            .collect();
        files.sort();
        for (_, path) in files.iter().take(files.len().saturating_sub(self.most)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten();
    found.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| name(path).ends_with(ENDING))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn entry(stem: &str, tag: &hmac::Tag) -> String {
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{stem}-{tag}{ENDING}")
}

#[cfg(test)]
mod tests;
