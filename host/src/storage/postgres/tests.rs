//! Tests of PostgreSQL alone: several nodes on one database, outages, and formats.

use std::sync::Arc;
use std::time::Duration;

use ::tests::Postgres as Server;

use super::super::suite::{commit, message, no_effects, plugin, put, read, suite, writes};
use super::super::*;
use super::OpenError;
use crate::clock::Clock;

suite!(empty);

async fn open(url: &str, config: &Config) -> Result<Postgres, OpenError> {
    Postgres::open(&Url::from(url.to_owned()), config, Clock::manual(1_000_000)).await
}

async fn empty() -> (Arc<dyn Storage>, ()) {
    let url = Server::shared().await.empty().await;
    (Arc::new(open(&url, &Config::default()).await.unwrap()), ())
}

/// Nodes that share a new database.
async fn nodes<const N: usize>() -> [Arc<Postgres>; N] {
    nodes_of(Server::shared().await).await
}

async fn nodes_of<const N: usize>(server: &Server) -> [Arc<Postgres>; N] {
    let url = server.empty().await;
    // All at once: the first one creates the tables.
    let config = Config::default();
    let opened = futures_util::future::join_all((0..N).map(|_| open(&url, &config))).await;
    let nodes: Vec<_> = opened.into_iter().map(|node| Arc::new(node.unwrap())).collect();
    nodes.try_into().ok().unwrap()
}

fn append(value: impl ToString) -> WriteSet {
    writes([Write::Append { prefix: "log:".to_owned(), value: value.to_string().into() }])
}

async fn log(storage: &dyn Storage) -> Vec<(String, Bytes)> {
    storage.scan(&plugin("chat"), "log:", "", 1_000_000, false).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_reported_as_not_writable() {
    let server = Server::start().await;
    let url = server.empty().await;
    let storage = open(&url, &Config::default()).await.unwrap();
    storage.writable().await.unwrap();
    // A reading connection exists; a new one would be refused.
    storage.health().await.unwrap();
    let set = async |value: &str| {
        server.sql(&url, &format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await;
        server.sql(&url, "SELECT pg_reload_conf()").await;
    };
    for with_a_commit in [false, true] {
        set("on").await;
        if with_a_commit {
            ::tests::wait::eventually("commits to be refused", async || commit(&storage, append(1)).await.is_err()).await;
        }
        ::tests::wait::eventually("it to be reported", async || storage.writable().await.is_err()).await;
        let error = storage.writable().await.unwrap_err().to_string();
        assert!(error.contains("writes") || error.contains("read-only"), "{error}");
        storage.health().await.expect("it can be read");
        set("off").await;
        ::tests::wait::eventually("it to take writes again", async || storage.writable().await.is_ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_increment_one_counter_without_losses() {
    let nodes = nodes::<3>().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let node = nodes[n % 3].clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                loop {
                    let now = node.get(&plugin("chat"), "n").await.unwrap();
                    let next = counter_value(now.as_deref()).unwrap() + 1;
                    let reads = vec![("n".to_owned(), now.as_deref().map(Fingerprint::of))];
                    let value = Bytes::copy_from_slice(&next.to_le_bytes());
                    let add = Write::Add { key: "m".into(), delta: 1 };
                    match commit(&*node, WriteSet { reads, ..writes([Write::Put { key: "n".into(), value }, add]) }).await {
                        Ok(()) => break,
                        Err(CommitError::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for key in ["n", "m"] {
        assert_eq!(nodes[0].get(&plugin("chat"), key).await.unwrap().as_deref(), Some(&300_i64.to_le_bytes()[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_messages_have_higher_numbers_on_all_nodes() {
    let nodes = nodes::<3>().await;
    let mut tasks = tokio::task::JoinSet::new();
    for (at, node) in nodes.iter().cloned().enumerate() {
        tasks.spawn(async move {
            for n in 0..60 {
                let set = WriteSet { messages: vec![message(&format!("{at}/{n}"))], ..append(n) };
                commit(&*node, set).await.unwrap();
            }
        });
    }
    // A reader that continues from its position must miss none.
    let (mut seen, mut after) = (0, 0);
    while seen < 180 {
        let rows = nodes[0].outbox_after(after, 7).await.unwrap();
        after = rows.last().map_or(after, |row| row.seq);
        seen += rows.len();
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(nodes[1].outbox_after(0, 1000).await.unwrap().len(), seen);
    assert_eq!(log(&*nodes[2]).await.len(), seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_handled_once_in_the_cluster() {
    let nodes = nodes::<3>().await;
    for id in ["m1", "m2", "m3"] {
        let handle = |node: &Arc<Postgres>| {
            let (node, handled) = (node.clone(), vec![HandledId { plugin: plugin("chat"), id: id.to_owned() }]);
            async move { commit(&*node, WriteSet { handled, ..append(id) }).await }
        };
        let outcomes = futures_util::future::join_all(nodes.iter().map(handle)).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    }
    assert_eq!(log(&*nodes[0]).await.len(), 3);
}

#[tokio::test]
async fn only_other_nodes_are_notified_of_a_publish() {
    // Not the shared server: a notification reaches all sessions of a database, so other tests would notify these nodes.
    let server = Server::start().await;
    let [one, other] = nodes_of::<2>(&server).await;
    let (own, theirs) = (one.published().unwrap(), other.published().unwrap());
    // Each is notified once when it begins to listen.
    for published in [&own, &theirs] {
        published.notified().await;
    }
    commit(&*one, WriteSet { messages: vec![message("m1")], ..writes([]) }).await.unwrap();
    theirs.notified().await;
    commit(&*other, WriteSet { messages: vec![message("m2")], ..writes([]) }).await.unwrap();
    own.notified().await;
    // A notification of its own commit would have arrived before this answer.
    commit(&*one, writes([put("a", "1")])).await.unwrap();
    for published in [&own, &theirs] {
        assert!(tokio::time::timeout(Duration::ZERO, published.notified()).await.is_err());
    }
}

#[tokio::test]
async fn text_with_nul_is_stored_unchanged() {
    let (storage, ()) = empty().await;
    let odd = OutboxMessage { key: Some("a\0b".to_owned()), data: "\"\0\"".to_owned(), ..message("\0") };
    let handled = vec![HandledId { plugin: plugin("chat"), id: "\0".to_owned() }];
    commit(&*storage, WriteSet { messages: vec![odd.clone()], handled, ..writes([put("k\0ey", "v")]) }).await.unwrap();
    assert_eq!(read(&*storage, "k\0ey").await.as_deref(), Some("v"));
    assert_eq!(storage.outbox_after(0, 1).await.unwrap()[0].message, odd);
}

#[tokio::test]
async fn a_plugin_is_as_large_as_its_keys_and_values() {
    let [storage] = nodes::<1>().await;
    assert_eq!(storage.size(&plugin("chat")).await.unwrap(), 0);
    commit(&*storage, writes([put("abc", "12345"), put("é", "")])).await.unwrap();
    assert_eq!(storage.size(&plugin("chat")).await.unwrap(), 10);
    assert_eq!(storage.size(&plugin("lms")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_scan_of_too_many_bytes_is_refused_and_keeps_the_connection() {
    let url = Server::shared().await.empty().await;
    let storage = open(&url, &Config { connections: 1, ..Config::default() }).await.unwrap();
    let value = "v".repeat(MAX_VALUE);
    for n in 0..65 {
        commit(&storage, writes([put(&format!("k{n:02}"), &value)])).await.unwrap();
    }
    assert!(storage.scan(&plugin("chat"), "k", "", 100, false).await.is_err());
    assert_eq!(storage.scan(&plugin("chat"), "k", "", 60, false).await.unwrap().len(), 60);
}

#[tokio::test]
async fn a_busy_pool_refuses_and_counts_it() {
    let server = Server::shared().await;
    let url = server.empty().await;
    let config = Config { connections: 1, outage_wait: Duration::from_millis(50), ..Config::default() };
    let storage = Arc::new(open(&url, &config).await.unwrap());
    storage.get(&plugin("chat"), "a").await.unwrap();
    // A lock on the table blocks the only connection during the test.
    let lock = "BEGIN; LOCK hubbub_entries; SELECT pg_sleep(60)";
    let mut holder = tokio::process::Command::new("psql").args(["-q", "-c", lock, &url]).kill_on_drop(true).spawn().unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
        AND relation = 'hubbub_entries'::regclass";
    while server.sql(&url, locked).await != "1" {}
    let (waits, name) = (storage.clone(), plugin("chat"));
    let waiting = tokio::spawn(async move { waits.get(&name, "a").await });
    while storage.stats().connections_busy == 0 {
        let _ = storage.get(&plugin("chat"), "b").await;
    }
    holder.kill().await.unwrap();
    waiting.abort();
}

#[tokio::test]
async fn a_database_without_letter_traces_is_migrated_with_its_rows() {
    let server = Server::shared().await;
    let url = server.empty().await;
    drop(open(&url, &Config::default()).await.unwrap());
    let old = "ALTER TABLE hubbub_dead_letters DROP COLUMN trace; UPDATE hubbub_host SET value = 1 WHERE name = 'format';
        UPDATE hubbub_host SET value = 2 WHERE name = 'sequence'; DROP TABLE hubbub_first_replies";
    server.sql(&url, old).await;
    // Written like by a node of that format, which may still run beside newer ones.
    let write = "INSERT INTO hubbub_dead_letters VALUES (1, 'chat', 'no', 1, 'm0', 'a.b', NULL, NULL, '{}', 0, 1)";
    server.sql(&url, write).await;
    let storage = open(&url, &Config::default()).await.unwrap();
    server.sql(&url, &write.replace("(1, 'chat'", "(2, 'video'")).await;
    let letter = DeadLetter {
        plugin: plugin("chat"),
        message: OutboxMessage { trace: Some("00-11-22-01".to_owned()), ..message("m1") },
        error: "no".to_owned(),
    };
    storage.dead_letter(letter.clone()).await.unwrap();
    let letters = storage.dead_letters(0, 10).await.unwrap();
    let traces: Vec<_> = letters.iter().map(|row| row.letter.message.trace.as_deref()).collect();
    assert_eq!(traces, [None, None, Some("00-11-22-01")]);
    assert_eq!(letters[2].letter, letter);
    // The next start changes nothing.
    assert_eq!(open(&url, &Config::default()).await.unwrap().dead_letters(0, 10).await.unwrap(), letters);
}

#[tokio::test]
async fn a_newer_format_and_a_wrong_password_are_refused() {
    let server = Server::shared().await;
    let url = server.empty().await;
    drop(open(&url, &Config::default()).await.unwrap());
    server.sql(&url, "UPDATE hubbub_host SET value = value + 1 WHERE name = 'format'").await;
    let newer = open(&url, &Config::default()).await.err();
    assert!(matches!(newer, Some(OpenError::NewerFormat { found: 4, reads: 3, .. })), "{newer:?}");
    let error = open(&server.url_with("wrong", ""), &Config::default()).await.err().unwrap();
    assert!(matches!(error, OpenError::Refused { .. }) && !error.to_string().contains("wrong"), "{error}");
    let config = Config { outage_wait: Duration::ZERO, ..Config::default() };
    let error = open("postgres://u:secret@127.0.0.1:1/d", &config).await.err().unwrap();
    assert!(matches!(error, OpenError::Unreachable { .. }) && !error.to_string().contains("secret"), "{error}");
    let error = open("postgres://u:secret@h/d?sslmode=never", &config).await.err().unwrap();
    assert!(matches!(error, OpenError::Url) && !error.to_string().contains("secret"), "{error}");
    assert!(!format!("{:?}", Config { url: Some(Url::from(url)), ..config }).contains("postgres://"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_database_loses_no_commit() {
    let mut server = Server::start().await;
    let url = server.empty().await;
    let config = Config { outage_wait: Duration::from_secs(60), ..Config::default() };
    let storage = Arc::new(open(&url, &config).await.unwrap());
    for round in 0..5 {
        let mut commits = tokio::task::JoinSet::new();
        for n in 0..100 {
            let storage = storage.clone();
            commits.spawn(async move { commit(&*storage, append(format!("{round}/{n}"))).await });
        }
        // In the middle of the commits.
        commits.join_next().await.unwrap().unwrap().unwrap();
        let killed = server.kill9();
        assert!(storage.health().await.is_err());
        server.start_again(killed).await;
        while let Some(done) = commits.join_next().await {
            done.unwrap().unwrap();
        }
        // Each exists once: a commit without an answer was not written again.
        assert_eq!(log(&*storage).await.len(), (round + 1) * 100);
    }
    assert!(storage.stats().outages > 0);
}

#[tokio::test]
async fn commits_are_refused_during_an_outage_and_accepted_after_it() {
    let mut server = Server::start().await;
    let url = server.empty().await;
    let config = Config { outage_wait: Duration::from_millis(100), ..Config::default() };
    let storage = open(&url, &config).await.unwrap();
    commit(&storage, append("before")).await.unwrap();
    let killed = server.kill9();
    for _ in 0..3 {
        assert!(matches!(commit(&storage, append("never")).await, Err(CommitError::Unavailable(_))));
        assert!(storage.get(&plugin("chat"), "a").await.is_err());
    }
    server.start_again(killed).await;
    while commit(&storage, append("after")).await.is_err() {}
    while storage.health().await.is_err() {}
    assert_eq!(log(&storage).await.iter().map(|(_, value)| &value[..]).collect::<Vec<_>>(), [&b"before"[..], b"after"]);
}

#[tokio::test]
async fn closing_finishes_accepted_commits_and_refuses_new_ones() {
    let [storage] = nodes::<1>().await;
    let taken: Vec<_> = (0..50).map(|n| storage.commit(append(n), no_effects())).collect();
    storage.close().await;
    for commit in taken {
        commit.await.unwrap();
    }
    assert!(matches!(commit(&*storage, append("late")).await, Err(CommitError::Unavailable(_))));
}
