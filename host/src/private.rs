//! Files and folders that only the server's own user may read: folders have mode 0700, files 0600. Another mode is corrected,
//! with a log line. Never changes files of another user.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The mode of a folder.
const FOLDER: u32 = 0o700;

/// The mode of a file.
const FILE: u32 = 0o600;

/// The permission bits of other users.
const OTHERS: u32 = 0o077;

/// Creates a folder if there is none, and corrects its mode.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)?;
    mend(path);
    Ok(())
}

/// Options that create a file with the right mode. An existing file keeps its mode: see [`mend`].
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Whether this process's user owns a file or folder.
pub fn is_ours(of: &Metadata) -> bool {
    of.uid() == nix::unistd::geteuid().as_raw()
}

/// Whether no other user has any permission on it.
pub fn is_closed(of: &Metadata) -> bool {
    of.mode() & OTHERS == 0
}

/// Removes the permissions of others from a file or folder. If another user owns it, only logs a warning.
pub fn mend(path: &Path) {
    // A link is not followed, since its target may be anything; a device is left unchanged.
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if !(found.is_file() || found.is_dir()) || is_closed(&found) {
        return;
    }
    let (wanted, was) = (if found.is_dir() { FOLDER } else { FILE }, found.mode() & 0o7777);
    let path_shown = path.display();
    if !is_ours(&found) {
        let owner = found.uid();
        tracing::warn!(path = %path_shown, mode = %format_args!("{was:04o}"), owner, "others may use this, and another user owns it");
        return;
    }
    match fs::set_permissions(path, Permissions::from_mode(wanted)) {
        Ok(()) => tracing::warn!(path = %path_shown, "others could use this: its mode was {was:04o}, and is {wanted:04o} now"),
        Err(error) => {
            tracing::warn!(path = %path_shown, "others may use this, and its mode {was:04o} cannot be changed: {error}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn new_files_are_private_and_open_ones_are_corrected() {
        let scratch = tempfile::tempdir().unwrap();
        let (made, file) = (scratch.path().join("a/b"), scratch.path().join("file"));
        folder(&made).unwrap();
        options().create(true).truncate(false).write(true).open(&file).unwrap();
        assert_eq!((mode(&made), mode(&file)), (0o700, 0o600));
        for (path, open) in [(&made, 0o775), (&file, 0o644)] {
            fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
            mend(path);
        }
        assert_eq!((mode(&made), mode(&file)), (0o700, 0o600));
    }

    #[test]
    fn a_link_is_not_followed_and_a_missing_file_is_no_error() {
        let scratch = tempfile::tempdir().unwrap();
        let (target, link) = (scratch.path().join("target"), scratch.path().join("link"));
        fs::write(&target, "").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        mend(&link);
        mend(&scratch.path().join("absent"));
        assert_eq!(mode(&target), 0o644);
    }
}
