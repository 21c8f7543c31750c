//! Opens a data directory: the lock, the file, its format, the recovery. Never changes a file of an unknown format.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::super::Config;
use super::first_replies;
use super::rows::Sequence;
use crate::private;

/// The format that this code writes, and the newest that it reads. Incremented by a change that an older host would misread.
const FORMAT: i32 = 1;

/// Marks the file as a storage of this server: `hubb` as a number.
const APPLICATION: i32 = 0x6875_6262;

pub(super) const FILE: &str = "storage.sqlite";
const LOCK: &str = "storage.lock";

/// Bytes of a page of the database.
pub(super) const PAGE: usize = 4096;

/// The most prepared statements of a connection: more than there are.
pub(super) const STATEMENTS: usize = 64;

const SCHEMA: &str = "
CREATE TABLE entries (plugin TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (plugin, key)) STRICT, WITHOUT ROWID;
CREATE TABLE handled (plugin TEXT NOT NULL, id TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (plugin, id)) STRICT, WITHOUT ROWID;
CREATE INDEX handled_at ON handled (at_ms);
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, topic TEXT NOT NULL, key TEXT, tenant TEXT, data TEXT NOT NULL,
    hops INTEGER NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE dead_letters (
    seq INTEGER PRIMARY KEY, plugin TEXT NOT NULL, error TEXT NOT NULL, died_at_ms INTEGER NOT NULL,
    id TEXT NOT NULL, topic TEXT NOT NULL, key TEXT, tenant TEXT, data TEXT NOT NULL,
    hops INTEGER NOT NULL, at_ms INTEGER NOT NULL, UNIQUE (plugin, id)
) STRICT;
CREATE TABLE blobs (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE host (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO host VALUES ('sequence', 0);
";

/// Traces of messages and letters, in separate tables, so that an older host can ignore them. A letter's trace is deleted by a
/// trigger; the traces of messages are deleted together with the rows of the outbox.
const TRACES: &str = "
CREATE TABLE IF NOT EXISTS outbox_traces (seq INTEGER PRIMARY KEY, parent TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS letter_traces (seq INTEGER PRIMARY KEY, parent TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS letter_gone AFTER DELETE ON dead_letters BEGIN DELETE FROM letter_traces WHERE seq = OLD.seq; END;
";

/// Tables that are absent in a file written before traces were stored.
const TRACE_TABLES: [&str; 2] = ["outbox_traces", "letter_traces"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another process: stop it, or use another --data directory", .0.display())]
    InUse(PathBuf),
    #[error("{} cannot be written: {reason}", path.display())]
    NotWritable { path: PathBuf, reason: String },
    #[error("{} is damaged, or is not a storage of this server: {reason}. Restore it from a backup, or move it away to start with an empty one", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("{} has format {found}; this server reads up to format {FORMAT}. Run the newer server that wrote it", path.display())]
    NewerFormat { path: PathBuf, found: i32 },
    #[error("there is no embedded database at {}", .0.display())]
    Absent(PathBuf),
    #[error("storage cannot start: {0}")]
    Start(String),
}

/// Keeps other processes out of a directory until it is dropped.
#[derive(Debug)]
pub(super) struct DirLock(#[expect(dead_code, reason = "closing the file is what ends the lock")] File);

pub(super) struct Opened {
    pub(super) db: Connection,
    pub(super) file: PathBuf,
    pub(super) sequence: Sequence,
    pub(super) lock: DirLock,
}

pub(super) fn open(dir: &Path, config: &Config) -> Result<Opened, OpenError> {
    let unwritable = |e: io::Error| OpenError::NotWritable { path: dir.to_owned(), reason: e.to_string() };
    private::folder(dir).map_err(unwritable)?;
    // If its parent loses a new directory in a power cut, everything in it is lost.
    if let Some(parent) = dir.canonicalize().map_err(unwritable)?.parent() {
        // Not every file system syncs directories, and not every parent may be read.
        let _ = File::open(parent).and_then(|parent| parent.sync_all());
    }
    let lock = lock(dir)?;
    let file = dir.join(FILE);
    close_to_others(&file).map_err(unwritable)?;
    let failed = |e: rusqlite::Error| explain(&file, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(&file, flags).map_err(failed)?;
    check_format(&db, &file)?;
    tune(&db, config).map_err(failed)?;
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::Start(format!("the file system of {} cannot hold a write-ahead log", dir.display())));
    }
    create(&mut db).map_err(failed)?;
    let sequence = start_sequence(&db).map_err(failed)?;
    // The remains of a crash in the log are synced again before anything is written after them: pages that a failing disk did not
    // accept may still be in the kernel's memory and look written.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    Ok(Opened { db, file, sequence, lock })
}

/// Creates the database's file if there is none, and repairs its mode and that of the files beside it. SQLite gives new files the
/// mode of this one.
fn close_to_others(file: &Path) -> io::Result<()> {
    private::options().create(true).append(true).open(file)?;
    for beside in [FILE, "storage.sqlite-wal", "storage.sqlite-shm", "storage.sqlite-journal", LOCK] {
        private::mend(&file.with_file_name(beside));
    }
    Ok(())
}

pub(super) fn lock(dir: &Path) -> Result<DirLock, OpenError> {
    let path = dir.join(LOCK);
    let unwritable = |e: io::Error| OpenError::NotWritable { path: path.clone(), reason: e.to_string() };
    let file = private::options().create(true).truncate(false).write(true).open(&path).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(DirLock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(e)) => Err(unwritable(e)),
    }
}

/// Checks the format before anything is written.
pub(super) fn check_format(db: &Connection, file: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| db.query_row(pragma, [], |row| row.get::<_, i32>(0)).map_err(|e| explain(file, &e));
    let (application, format) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let empty = number("SELECT count(*) FROM sqlite_schema")? == 0;
    if format > FORMAT && application == APPLICATION {
        return Err(OpenError::NewerFormat { path: file.to_owned(), found: format });
    }
    if !empty && application != APPLICATION {
        return Err(OpenError::Corrupt { path: file.to_owned(), reason: "another program wrote it".to_owned() });
    }
    Ok(())
}

fn tune(db: &Connection, config: &Config) -> rusqlite::Result<()> {
    db.pragma_update(None, "page_size", PAGE as i64)?;
    // A write-ahead log that is synced at every commit: one sync a group, and only whole commits after a power cut.
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -kib(config.cache / 2))?;
    // A log that was long is truncated again.
    db.pragma_update(None, "journal_size_limit", config.log.saturating_mul(4).min(1 << 40) as i64)?;
    if config.size > 0 {
        db.query_row(&format!("PRAGMA max_page_count = {}", (config.size / PAGE as u64).max(1)), [], |_| Ok(()))?;
    }
    db.busy_timeout(std::time::Duration::from_secs(1))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Bytes in the unit of SQLite's `cache_size`, with a minimum.
pub(super) fn kib(bytes: usize) -> i64 {
    i64::try_from((bytes >> 10).max(64)).unwrap_or(i64::MAX)
}

fn create(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    let empty = transaction.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(())).optional()?.is_none();
    if empty {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.execute_batch(TRACES)?;
    transaction.execute_batch(first_replies::TABLE)?;
    transaction.commit()
}

/// Adds empty in-memory tables to a read-only connection if its file lacks them.
pub(super) fn stand_in(db: &Connection) -> rusqlite::Result<()> {
    let is_absent = |table: &str| {
        db.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1")
            .and_then(|mut named| named.exists([table]))
            .map(|exists| !exists)
    };
    if is_absent("first_replies")? {
        let table = first_replies::TABLE.split_once(';').map_or("", |(table, _)| table);
        db.execute_batch(&table.replacen("TABLE", "TEMP TABLE", 1))?;
    }
    for table in TRACE_TABLES {
        if is_absent(table)? {
            db.execute_batch(&format!("CREATE TEMP TABLE {table} (seq INTEGER PRIMARY KEY, parent TEXT NOT NULL) STRICT"))?;
        }
    }
    Ok(())
}

/// Reads the start of the sequence, and writes it back: a read-only file is detected here.
fn start_sequence(db: &Connection) -> rusqlite::Result<Sequence> {
    let reserved: i64 = db.query_row("SELECT value FROM host WHERE name = 'sequence'", [], |row| row.get(0))?;
    db.execute("UPDATE host SET value = ?1 WHERE name = 'sequence'", [reserved])?;
    Ok(Sequence::starting_at(reserved.unsigned_abs()))
}

pub(super) fn explain(file: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, reason) = (file.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { path, reason },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::DiskFull
            // There is no room for the index of the log.
            | ErrorCode::SystemIoFailure,
        ) => OpenError::NotWritable { path, reason },
        // A missing table: another program has changed the file.
        Some(ErrorCode::Unknown) => OpenError::Corrupt { path, reason },
        _ => OpenError::Start(reason),
    }
}
