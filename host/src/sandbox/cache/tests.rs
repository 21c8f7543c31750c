//! Entries of this server, and foreign ones. The code is never run here.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const STEM: &str = "0123-4567";

struct Folders {
    data: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { data: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> Cache {
        Cache::new(self.cache.path().to_owned(), 2, CacheKey::of_folder(self.data.path()).unwrap())
    }

    fn keep(&self, stem: &str, code: &[u8]) -> PathBuf {
        let made = self.cache.path().join("made.tmp");
        fs::write(&made, code).unwrap();
        self.cache().keep(&made, self.cache.path(), stem).unwrap()
    }

    fn found(&self) -> Option<PathBuf> {
        self.cache().find(self.cache.path(), STEM)
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_entry_is_found_after_a_restart() {
    let folders = Folders::new();
    assert_eq!(folders.found(), None);
    let kept = folders.keep(STEM, b"code");
    assert_eq!(folders.found(), Some(kept));
}

#[test]
fn a_changed_entry_is_removed() {
    let folders = Folders::new();
    let kept = folders.keep(STEM, b"code");
    fs::write(&kept, b"cOde").unwrap();
    assert_eq!((folders.found(), kept.exists()), (None, false));
}

#[test]
fn a_renamed_entry_of_another_component_is_removed() {
    let folders = Folders::new();
    let other = folders.keep("0123-9999", b"code");
    let renamed = folders.cache.path().join(name(&other).replace("0123-9999", STEM));
    fs::rename(other, &renamed).unwrap();
    assert_eq!((folders.found(), renamed.exists()), (None, false));
}

#[test]
fn an_entry_without_a_mac_or_of_another_data_folder_is_removed() {
    let (folders, other) = (Folders::new(), Folders::new());
    let bare = folders.cache.path().join(format!("{STEM}.code"));
    fs::write(&bare, b"code").unwrap();
    let foreign = folders.cache.path().join(name(&other.keep(STEM, b"code")));
    fs::copy(other.found().unwrap(), &foreign).unwrap();
    assert_eq!((folders.found(), bare.exists(), foreign.exists()), (None, false, false));
}

#[test]
fn a_link_is_no_entry() {
    let folders = Folders::new();
    let kept = folders.keep(STEM, b"code");
    let elsewhere = folders.data.path().join("elsewhere");
    fs::rename(&kept, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &kept).unwrap();
    assert_eq!(folders.found(), None);
    assert!(elsewhere.exists());
}

#[test]
fn the_modes_of_own_files_are_repaired() {
    let folders = Folders::new();
    let kept = folders.keep(STEM, b"code");
    set_mode(&kept, 0o644);
    set_mode(folders.cache.path(), 0o755);
    assert!(matches!(folders.cache().place().unwrap(), Place::Kept(_)));
    assert_eq!(folders.found(), Some(kept.clone()));
    assert_eq!((mode(folders.cache.path()), mode(&kept), mode(&folders.data.path().join(KEY))), (0o700, 0o600, 0o600));
}

#[test]
fn a_folder_of_another_user_is_not_used() {
    let folders = Folders::new();
    // Only root can change a folder's owner.
    if std::os::unix::fs::chown(folders.cache.path(), Some(12_345), None).is_err() {
        return;
    }
    let cache = folders.cache();
    let place = cache.place().unwrap();
    assert!(matches!(place, Place::Temporary(_)));
    assert_ne!(place.path(), folders.cache.path());
}

#[test]
fn a_key_that_other_users_could_read_is_replaced() {
    let folders = Folders::new();
    let kept = folders.keep(STEM, b"code");
    let key = folders.data.path().join(KEY);
    let before = fs::read(&key).unwrap();
    set_mode(&key, 0o640);
    assert_eq!((folders.found(), kept.exists()), (None, false));
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(mode(&key), 0o600);
    fs::write(&key, "short").unwrap();
    let _ = folders.cache();
    assert_eq!(fs::read(&key).unwrap().len(), KEY_BYTES);
}

#[test]
fn the_most_recently_used_entries_stay() {
    let folders = Folders::new();
    let age = |path: &Path, seconds: u64| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    };
    let kept: Vec<_> = ["a", "b", "c"].map(|stem| folders.keep(stem, b"code")).into();
    kept.iter().zip([30, 10, 20]).for_each(|(path, seconds)| age(path, seconds));
    folders.cache().remove_old();
    assert_eq!(kept.iter().map(|path| path.exists()).collect::<Vec<_>>(), [true, false, true]);
}
