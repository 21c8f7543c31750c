//! Checks whether the embedded database can be written: space on the disk, space in the database, and after a failure a commit
//! that changes nothing. Only that commit is synced, and nothing is left behind.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use rusqlite::{Connection, Result, TransactionBehavior};

use super::super::Unavailable;
use crate::private;

/// The space that must be free: enough for a few commits.
const ROOM: usize = 64 << 10;

/// Writes a file beside the database, and removes it. It is not synced, so it mostly never reaches the disk.
pub(super) fn disk(db: &Connection) -> std::result::Result<(), Unavailable> {
    let Some(path) = db.path().map(|file| Path::new(file).with_file_name("trial")) else { return Ok(()) };
    // A file system may store zeros without using space.
    let written =
        private::options().create(true).truncate(true).write(true).open(&path).and_then(|mut file| file.write_all(&[0x5a; ROOM]));
    let removed = fs::remove_file(&path);
    written.and(removed).map_err(|error| {
        let folder = path.parent().unwrap_or(&path);
        Unavailable::new(format!("{} cannot be written: {error}", folder.display()))
    })
}

/// Inserts a row and rolls back. This fails if the database has reached `storage.size`.
pub(super) fn pages(db: &mut Connection) -> Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.prepare_cached("INSERT INTO blobs VALUES ('/trial', zeroblob(?1))")?.execute([ROOM as i64])?;
    transaction.rollback()
}

/// A commit, with its sync, that changes nothing.
pub(super) fn commit(db: &Connection) -> Result<()> {
    db.execute("UPDATE host SET value = value WHERE name = 'sequence'", []).map(drop)
}
