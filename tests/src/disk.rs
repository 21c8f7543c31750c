//! A small disk for one test that can be filled and freed. Must never outlive its value.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Scratch;

/// A file system in memory.
#[derive(Debug)]
pub struct SmallDisk {
    scratch: Scratch,
}

impl SmallDisk {
    /// Mounts one. Returns `None` and prints a note if this process may not mount; `make test` and CI run as root.
    pub fn of_mebibytes(size: u32) -> Option<Self> {
        let scratch = Scratch::new();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"]).arg(scratch.path());
        if !mount.output().is_ok_and(|done| done.status.success()) {
            eprintln!("NOT TESTED: a full disk needs a mount, and this user may not mount");
            return None;
        }
        Some(Self { scratch })
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Fills the disk to the last byte.
    pub fn fill(&self) {
        for block in [1 << 16, 1 << 12] {
            // The loop ends at the first block that does not fit.
            let mut file = std::fs::File::options().create(true).append(true).open(self.filler()).expect("a file can be made");
            while std::io::Write::write_all(&mut file, &vec![0x5a; block]).is_ok() {}
        }
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("fill")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Unmount lazily: a server that still uses it ends a moment later.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
