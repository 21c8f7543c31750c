//! Files and folders that only the server's own user may read: folders have mode 0700, files 0600. One that was made with another
//! mode is mended, with a log line. Never touches what another user owns.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The mode of a folder.
const FOLDER: u32 = 0o700;

/// The mode of a file.
const FILE: u32 = 0o600;

/// The bits that let others in.
const OTHERS: u32 = 0o077;

/// Makes a folder where there is none, and mends its mode.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)?;
    mend(path);
    Ok(())
}

/// Options that make a file with the right mode. One that exists keeps its mode: see [`mend`].
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Whether a file or folder is this process's user's.
pub fn is_ours(of: &Metadata) -> bool {
    of.uid() == nix::unistd::geteuid().as_raw()
}

/// Whether no other user has any right on it.
pub fn is_closed(of: &Metadata) -> bool {
    of.mode() & OTHERS == 0
}

/// Takes away what others may do with a file or folder. Where it is another user's, it stays as it is, and the log says so.
pub fn mend(path: &Path) {
    // A link is not followed, since what it names may be anything; a device stays as it is.
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
    fn what_is_made_is_closed_to_others_and_what_is_open_is_mended() {
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
    fn a_link_is_not_followed_and_nothing_is_no_error() {
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
