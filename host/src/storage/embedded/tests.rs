//! Tests of the embedded storage alone: one process a directory, crashes, a full disk, its queue.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::super::suite::{commit, message, no_effects, plugin, put, read, suite, writes};
use super::super::*;
use super::Export;
use crate::clock::Clock;

mod handled;

suite!(empty);

/// A directory that is removed after the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("hubbub-storage-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(dir: &Path, config: &Config) -> Embedded {
    Embedded::open(dir, config, Clock::manual(1_000_000)).unwrap()
}

async fn empty() -> (Arc<dyn Storage>, Dir) {
    let dir = Dir::new();
    (Arc::new(open(&dir.0, &Config::default())), dir)
}

/// The file itself, while it is not in use.
fn database(dir: &Dir) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.0.join("storage.sqlite")).unwrap()
}

async fn reopen(storage: Embedded, dir: &Dir) -> Embedded {
    storage.close().await;
    drop(storage);
    open(&dir.0, &Config::default())
}

fn append(value: impl ToString) -> WriteSet {
    writes([Write::Append { prefix: "log:".to_owned(), value: value.to_string().into() }])
}

async fn log(storage: &dyn Storage) -> Vec<(String, Bytes)> {
    storage.scan(&plugin("chat"), "log:", "", 1_000_000, false).await.unwrap()
}

#[tokio::test]
async fn commits_survive_a_restart() {
    let dir = Dir::new();
    let storage = open(&dir.0, &Config::default());
    let set = WriteSet { messages: vec![message("m1")], ..append("one") };
    commit(&storage, set).await.unwrap();
    let (before, seq) = (log(&storage).await, storage.outbox_after(0, 1).await.unwrap()[0].seq);
    let storage = reopen(storage, &dir).await;
    assert_eq!(log(&storage).await, before);
    commit(&storage, WriteSet { messages: vec![message("m2")], ..append("two") }).await.unwrap();
    assert!(log(&storage).await[1].0 > before[0].0);
    assert!(storage.outbox_after(seq, 1).await.unwrap()[0].seq > seq);
}

#[tokio::test]
async fn a_file_without_the_newer_tables_gets_them() {
    let dir = Dir::new();
    open(&dir.0, &Config::default()).close().await;
    let old = "DROP TABLE outbox_traces; DROP TRIGGER letter_gone; DROP TABLE letter_traces; DROP TABLE first_replies;
        INSERT INTO dead_letters VALUES (1, 'chat', 'no', 1, 'm0', 'a.b', NULL, NULL, '{}', 0, 1);
        INSERT INTO outbox VALUES (2, 'm0', 'a.b', NULL, NULL, '{}', 0, 1);
        UPDATE host SET value = 2 WHERE name = 'sequence'";
    database(&dir).execute_batch(old).unwrap();
    let export = Export::open(&dir.0).unwrap();
    assert_eq!((export.outbox(0).unwrap().len(), export.dead_letters(0).unwrap().len()), (1, 1), "it can be exported");
    assert!(export.first_replies(0).unwrap().is_empty());
    drop(export);
    let storage = open(&dir.0, &Config::default());
    let traced = OutboxMessage { trace: Some("00-11-22-01".to_owned()), ..message("m1") };
    commit(&storage, WriteSet { messages: vec![traced.clone()], ..append("one") }).await.unwrap();
    let letter = DeadLetter { plugin: plugin("chat"), message: traced.clone(), error: "no".to_owned() };
    storage.dead_letter(letter.clone()).await.unwrap();
    let storage = reopen(storage, &dir).await;
    assert_eq!(storage.outbox_after(2, 1).await.unwrap()[0].message, traced);
    let letters = storage.dead_letters(0, 10).await.unwrap();
    assert_eq!((letters[0].letter.message.trace.as_ref(), &letters[1].letter), (None, &letter));
    storage.close().await;
    drop(storage);
    let moved = Export::open(&dir.0).unwrap().dead_letters(1).unwrap();
    assert_eq!(moved[0].letter, letter);
}

#[tokio::test]
async fn the_trace_of_a_removed_letter_is_removed() {
    let dir = Dir::new();
    let storage = open(&dir.0, &Config { dead_letters: 3, ..Config::default() });
    for id in ["m1", "m2", "m3", "m4"] {
        let message = OutboxMessage { trace: Some("00-11-22-01".to_owned()), ..message(id) };
        storage.dead_letter(DeadLetter { plugin: plugin("chat"), message, error: String::new() }).await.unwrap();
    }
    let kept = storage.dead_letters(0, 10).await.unwrap();
    assert!(storage.remove_dead_letter(kept[0].seq).await.unwrap());
    assert!(storage.revive_dead_letter(kept[1].seq).await.unwrap());
    storage.close().await;
    drop(storage);
    let traces = database(&dir).query_row("SELECT group_concat(seq) FROM letter_traces", [], |row| row.get::<_, String>(0));
    assert_eq!(traces.unwrap(), kept[2].seq.to_string());
}

#[tokio::test]
async fn closing_finishes_accepted_commits_and_refuses_new_ones() {
    let dir = Dir::new();
    let storage = open(&dir.0, &Config::default());
    let taken: Vec<_> = (0..50).map(|n| storage.commit(append(n), no_effects())).collect();
    storage.close().await;
    for commit in taken {
        commit.await.unwrap();
    }
    assert!(matches!(commit(&storage, append("late")).await, Err(CommitError::Unavailable(_))));
    storage.close().await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let dir = Dir::new();
    let first = open(&dir.0, &Config::default());
    let second = Embedded::open(&dir.0, &Config::default(), Clock::manual(0)).err();
    assert!(matches!(second, Some(OpenError::InUse(_))), "{second:?}");
    first.close().await;
    drop(first);
    open(&dir.0, &Config::default());
}

#[tokio::test]
async fn a_directory_that_another_process_uses_is_refused() {
    let dir = Dir::new();
    let mut child = child(&dir.0);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| acked(&line.unwrap()).is_some()));
    let second = Embedded::open(&dir.0, &Config::default(), Clock::manual(0)).err();
    assert!(matches!(second, Some(OpenError::InUse(_))), "{second:?}");
}

#[tokio::test]
async fn errors_of_opening_give_the_reason() {
    let open = |dir: &Path| Embedded::open(dir, &Config::default(), Clock::manual(0)).err().unwrap();
    let dir = Dir::new();
    fs::create_dir_all(&dir.0).unwrap();
    let file = dir.0.join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file), OpenError::NotWritable { .. }));

    let garbage = dir.0.join("garbage");
    fs::create_dir_all(&garbage).unwrap();
    fs::write(garbage.join("storage.sqlite"), "no database, but long enough to have a header".repeat(100)).unwrap();
    assert!(matches!(open(&garbage), OpenError::Corrupt { .. }));

    let foreign = dir.0.join("foreign");
    fs::create_dir_all(&foreign).unwrap();
    let db = rusqlite::Connection::open(foreign.join("storage.sqlite")).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(open(&foreign), OpenError::Corrupt { .. }));

    let newer = dir.0.join("newer");
    let storage = Embedded::open(&newer, &Config::default(), Clock::manual(0)).unwrap();
    storage.close().await;
    drop(storage);
    let db = rusqlite::Connection::open(newer.join("storage.sqlite")).unwrap();
    db.execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(matches!(open(&newer), OpenError::NewerFormat { found: 2, .. }));
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let dir = Dir::new();
    let storage = open(&dir.0, &Config { size: 1 << 20, ..Config::default() });
    storage.writable().await.unwrap();
    let value = "v".repeat(100_000);
    let mut kept = Vec::new();
    let refused = loop {
        let key = kept.len().to_string();
        match commit(&storage, writes([put(&key, &value)])).await {
            Ok(()) => kept.push(key),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::Unavailable(_)), "{refused}");
    assert!(kept.len() > 4 && storage.stats().groups_failed == 1);
    // Acknowledged writes are there, and nothing of the refused one.
    for key in &kept {
        assert_eq!(read(&storage, key).await.as_ref(), Some(&value));
    }
    assert_eq!(read(&storage, &kept.len().to_string()).await, None);
    // The last probe succeeded, but the failed commit is newer.
    let error = storage.writable().await.unwrap_err();
    assert!(error.to_string().contains("full") && storage.stats().failing, "{error}");
    for key in &kept {
        commit(&storage, writes([Write::Delete { key: key.clone() }])).await.unwrap();
    }
    commit(&storage, writes([put("again", &value)])).await.unwrap();
    assert!(!storage.stats().failing);
    ::tests::wait::eventually("it to take writes", async || storage.writable().await.is_ok()).await;
}

#[tokio::test]
async fn a_group_that_is_not_written_acknowledges_nothing() {
    let dir = Dir::new();
    let storage = open(&dir.0, &Config::default());
    let ran = Arc::new(AtomicU64::new(0));
    let handle = |n: usize| {
        let ran = ran.clone();
        let handled = vec![HandledId { plugin: plugin("chat"), id: "m1".to_owned() }];
        let effects = Box::pin(async move {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        storage.commit(WriteSet { handled, ..append(n) }, effects)
    };
    let other = rusqlite::Connection::open(dir.0.join("storage.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (first, second, letter) = (handle(1), handle(2), storage.outbox_done(1));
    // The second must not be refused as handled, since the first one failed.
    assert!(matches!(first.await, Err(CommitError::Unavailable(_))));
    assert!(matches!(second.await, Err(CommitError::Unavailable(_))));
    assert!(letter.await.is_err());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert!(log(&storage).await.is_empty());
    handle(3).await.unwrap();
    assert_eq!((ran.load(Ordering::Relaxed), log(&storage).await.len()), (1, 1));
}

#[tokio::test]
async fn a_full_queue_refuses_after_its_wait() {
    let dir = Dir::new();
    let config = Config { queue: 2, group: 1, queue_wait: std::time::Duration::from_millis(20), ..Config::default() };
    let storage = Arc::new(open(&dir.0, &config));
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let stuck = storage.commit(append("first"), Box::pin(async move { gate.notified().await }));
    let mut more = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let storage = storage.clone();
        more.spawn(async move { commit(&*storage, append("more")).await });
    }
    // No commit is acknowledged while the first one's effects run, so the first to end was refused.
    let refused = more.join_next().await.unwrap().unwrap();
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    go.notify_one();
    stuck.await.unwrap();
    let taken = more.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(storage.stats().queue_full as usize, 20 - taken);
    assert_eq!(log(&*storage).await.len(), 1 + taken);
}

#[tokio::test]
async fn a_full_queue_counts_bytes() {
    let dir = Dir::new();
    let config = Config { queue_bytes: 100_000, ..Config::default() };
    let storage = open(&dir.0, &config);
    // Each is larger than the queue, so they are written one by one.
    let all: Vec<_> =
        (0..10).map(|n| storage.commit(writes([put(&n.to_string(), &"v".repeat(200_000))]), no_effects())).collect();
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn the_oldest_dead_letter_is_removed_over_the_limit() {
    let dir = Dir::new();
    let storage = open(&dir.0, &Config { dead_letters: 2, ..Config::default() });
    for id in ["m1", "m2", "m3"] {
        let letter = DeadLetter { plugin: plugin("chat"), message: message(id), error: String::new() };
        storage.dead_letter(letter).await.unwrap();
    }
    let kept: Vec<_> = storage.dead_letters(0, 10).await.unwrap().into_iter().map(|row| row.letter.message.id).collect();
    assert_eq!(kept, ["m2", "m3"]);
    assert_eq!(storage.stats().dead_letters_dropped, 1);
}

#[tokio::test]
async fn the_log_does_not_grow_for_ever() {
    let dir = Dir::new();
    let config = Config { log: 256 << 10, ..Config::default() };
    let storage = open(&dir.0, &config);
    for n in 0..200 {
        commit(&storage, writes([put(&n.to_string(), &"v".repeat(20_000))])).await.unwrap();
    }
    let log = fs::metadata(dir.0.join("storage.sqlite-wal")).unwrap().len();
    assert!(log < 1 << 20, "{log} bytes of log");
    assert!(storage.stats().checkpoints > 5 && storage.stats().checkpoints_failed == 0);
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    let dir = Dir::new();
    let (mut acked_before, mut keys_before) = (0, Vec::new());
    for round in 0..20 {
        let mut child = child(&dir.0);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        // Kills the child at some point after this number of acknowledgements.
        let wanted = acked_before + 1 + round * 7;
        let mut last = 0;
        for line in lines.by_ref() {
            last = acked(&line.unwrap()).unwrap_or(last);
            if last >= wanted {
                break;
            }
        }
        assert!(last >= wanted, "the child ended by itself after {last}");
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        // The remaining lines of its output.
        for line in lines {
            last = line.ok().as_deref().and_then(acked).unwrap_or(last);
        }
        let storage = open(&dir.0, &Config::default());
        let entries = log(&storage).await;
        assert!(entries.len() as u64 >= last, "round {round}: {last} acknowledged, {} there", entries.len());
        assert!(entries.iter().enumerate().all(|(n, (_, value))| value[..] == *n.to_string().as_bytes()));
        assert_eq!(storage.outbox_after(0, 1_000_000).await.unwrap().len(), entries.len(), "a set was cut");
        assert!(entries.iter().map(|(key, _)| key).zip(&keys_before).all(|(now, before)| now == before));
        (acked_before, keys_before) = (entries.len() as u64, entries.into_iter().map(|(key, _)| key).collect());
        storage.close().await;
    }
}

const CHILD: &str = "HUBBUB_TEST_STORAGE_CHILD";

/// A process that is killed after the test.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this test program again as [`writes_until_killed`].
fn child(dir: &Path) -> Child {
    let name = format!("{}::writes_until_killed", module_path!().split_once("::").map_or("", |(_, rest)| rest));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name, "--nocapture", "--test-threads=1"]).env(CHILD, dir);
    Child(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

/// The number of acknowledged records in a line of the child.
fn acked(line: &str) -> Option<u64> {
    line.strip_prefix("acked ")?.parse().ok()
}

/// Not a test by itself: run by [`child`]. It writes numbered records, eight at a time, and prints how many are acknowledged.
#[tokio::test]
async fn writes_until_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let storage = open(Path::new(&dir), &Config::default());
    println!();
    for n in (log(&storage).await.len()..).step_by(8) {
        let set = |n: usize| WriteSet { messages: vec![message(&n.to_string())], ..append(n) };
        let together: Vec<_> = (n..n + 8).map(|n| storage.commit(set(n), no_effects())).collect();
        for (done, commit) in together.into_iter().enumerate() {
            commit.await.unwrap();
            println!("acked {}", n + done + 1);
        }
    }
}
