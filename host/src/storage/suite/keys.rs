//! Keys: reads, scans, counters and appends.

use bytes::Bytes;
use std::sync::Arc;

use super::*;

pub(crate) async fn a_put_is_read_and_a_delete_is_not(storage: Arc<dyn Storage>) {
    assert_eq!(read(&*storage, "a").await, None);
    commit(&*storage, writes([put("a", "1"), put("a", "2")])).await.unwrap();
    assert_eq!(read(&*storage, "a").await.as_deref(), Some("2"));
    commit(&*storage, writes([Write::Delete { key: "a".into() }, Write::Delete { key: "never".into() }])).await.unwrap();
    assert_eq!(read(&*storage, "a").await, None);
    commit(&*storage, writes([put("empty", "")])).await.unwrap();
    assert_eq!(read(&*storage, "empty").await.as_deref(), Some(""));
}

pub(crate) async fn plugins_do_not_see_each_others_keys(storage: Arc<dyn Storage>) {
    // Names with a common prefix: the boundary between a name and its keys must be exact.
    for (name, key) in [("a", "bc"), ("ab", "c"), ("abc", "x")] {
        let set = WriteSet { writes: vec![put(key, name)], ..WriteSet::new(plugin(name)) };
        commit(&*storage, set).await.unwrap();
    }
    let found = storage.scan(&plugin("ab"), "", "", 10, false).await.unwrap();
    assert_eq!(found, [("c".to_owned(), Bytes::from_static(b"ab"))]);
    assert_eq!(storage.get(&plugin("abc"), "c").await.unwrap(), None);
}

pub(crate) async fn a_set_is_written_whole_or_not_at_all(storage: Arc<dyn Storage>) {
    commit(&*storage, writes([put("text", "no number")])).await.unwrap();
    let set = WriteSet { messages: vec![message("m1")], ..writes([put("a", "1"), append("log:", "x"), add("text", 1)]) };
    let refused = commit(&*storage, set).await.unwrap_err();
    assert!(matches!(refused, CommitError::NotACounter { ref key } if key == "text"), "{refused}");
    assert_eq!(read(&*storage, "a").await, None);
    assert!(keys_of(&*storage, "log:", "", 10, false).await.is_empty());
    assert!(storage.outbox_after(0, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_changed_read_is_a_conflict(storage: Arc<dyn Storage>) {
    commit(&*storage, writes([put("a", "1")])).await.unwrap();
    let seen = Some(Fingerprint::of(b"1"));
    let set = |value: &str| WriteSet { reads: vec![("a".to_owned(), seen)], ..writes([put("a", value)]) };
    commit(&*storage, set("2")).await.unwrap();
    assert!(matches!(commit(&*storage, set("3")).await, Err(CommitError::Conflict)));
    assert_eq!(read(&*storage, "a").await.as_deref(), Some("2"));
    assert_eq!(storage.stats().conflicts, 1);
}

pub(crate) async fn an_absent_read_is_checked_too(storage: Arc<dyn Storage>) {
    let set = |value: &str| WriteSet { reads: vec![("a".to_owned(), None)], ..writes([put("a", value)]) };
    commit(&*storage, set("1")).await.unwrap();
    assert!(matches!(commit(&*storage, set("2")).await, Err(CommitError::Conflict)));
    let deleted =
        WriteSet { reads: vec![("a".to_owned(), Some(Fingerprint::of(b"1")))], ..writes([Write::Delete { key: "a".into() }]) };
    commit(&*storage, deleted).await.unwrap();
    commit(&*storage, set("3")).await.unwrap();
}

pub(crate) async fn sets_that_arrive_together_see_each_other_in_order(storage: Arc<dyn Storage>) {
    commit(&*storage, writes([put("a", "0")])).await.unwrap();
    // Each depends on the writes of one before it, or on those of a failed one; none is polled before all are submitted.
    let step = |from: &str, to: &str| {
        let reads = vec![("a".to_owned(), Some(Fingerprint::of(from.as_bytes())))];
        storage.commit(WriteSet { reads, ..writes([put("a", to)]) }, no_effects())
    };
    let (one, lost, two, three) = (step("0", "1"), step("0", "x"), step("1", "2"), step("2", "3"));
    let (three, two, lost, one) = (three.await, two.await, lost.await, one.await);
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert!(matches!(lost, Err(CommitError::Conflict)));
    assert_eq!(read(&*storage, "a").await.as_deref(), Some("3"));
}

pub(crate) async fn concurrent_readers_of_one_key_lose_nothing(storage: Arc<dyn Storage>) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let storage = storage.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                loop {
                    let now = storage.get(&plugin("chat"), "n").await.unwrap();
                    let next = counter_value(now.as_deref()).unwrap() + 1;
                    let reads = vec![("n".to_owned(), now.as_deref().map(Fingerprint::of))];
                    let value = Bytes::copy_from_slice(&next.to_le_bytes());
                    let set = WriteSet { reads, ..writes([Write::Put { key: "n".into(), value }]) };
                    match commit(&*storage, set).await {
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
    assert_eq!(count_of(&*storage, "n").await, 200);
}

pub(crate) async fn several_keys_are_read_in_their_order(storage: Arc<dyn Storage>) {
    let mut set = WriteSet::new(plugin("chat"));
    set.writes = vec![put("a", "1"), put("b", "2")];
    storage.commit(set, no_effects()).await.unwrap();
    let keys = ["b", "none", "a", "b"].map(str::to_owned);
    let found = storage.get_many(&plugin("chat"), &keys).await.unwrap();
    assert_eq!(found, [Some("2".into()), None, Some("1".into()), Some("2".into())]);
    assert_eq!(storage.get_many(&plugin("other"), &keys).await.unwrap(), [None, None, None, None]);
    assert_eq!(storage.get_many(&plugin("chat"), &[]).await.unwrap(), []);
}

pub(crate) async fn scans_go_both_ways(storage: Arc<dyn Storage>) {
    let all = ["a", "b", "b1", "b2", "c", "é"];
    commit(&*storage, writes(all.iter().rev().map(|key| put(key, key)))).await.unwrap();
    assert_eq!(keys_of(&*storage, "", "", 100, false).await, all);
    assert_eq!(keys_of(&*storage, "b", "c", 100, false).await, ["b", "b1", "b2"]);
    assert_eq!(keys_of(&*storage, "b", "c", 100, true).await, ["b2", "b1", "b"]);
    assert_eq!(keys_of(&*storage, "b", "c", 2, true).await, ["b2", "b1"]);
    assert_eq!(keys_of(&*storage, "b", "c", 2, false).await, ["b", "b1"]);
    assert!(keys_of(&*storage, "c", "b", 100, false).await.is_empty());
    let (key, value) = storage.scan(&plugin("chat"), "b1", "", 1, false).await.unwrap().remove(0);
    assert_eq!((key.as_str(), &value[..]), ("b1", &b"b1"[..]));
}

pub(crate) async fn an_empty_end_is_the_end_of_the_prefix(storage: Arc<dyn Storage>) {
    // The last character there is: the bytes after it are not text.
    let last = "a\u{10ffff}";
    let longer = "a\u{10ffff}\u{10ffff}z";
    commit(&*storage, writes(["a", "a:", "a;", last, longer, "b"].map(|key| put(key, "")))).await.unwrap();
    assert_eq!(keys_of(&*storage, "a:", "", 100, false).await, ["a:"]);
    assert_eq!(keys_of(&*storage, last, "", 100, false).await, [last, longer]);
    assert_eq!(keys_of(&*storage, "a", "", 100, true).await, [longer, last, "a;", "a:", "a"]);
    assert_eq!(keys_of(&*storage, "b", "", 100, false).await, ["b"]);
}

pub(crate) async fn a_scan_answers_its_limit(storage: Arc<dyn Storage>) {
    for from in (0..1000).step_by(MAX_SET_WRITES) {
        let some = (from..1000.min(from + MAX_SET_WRITES)).map(|n| put(&format!("k{n:04}"), "v"));
        commit(&*storage, writes(some)).await.unwrap();
    }
    assert_eq!(keys_of(&*storage, "k", "", 1000, false).await.len(), 1000);
    assert_eq!(keys_of(&*storage, "k", "", 999, true).await.last().unwrap(), "k0001");
    assert!(keys_of(&*storage, "k", "", 0, false).await.is_empty());
}

pub(crate) async fn counters_add_up_and_saturate(storage: Arc<dyn Storage>) {
    let adding: Vec<_> = (0..100).map(|n| storage.commit(writes([add("n", n), add("m", -1)]), no_effects())).collect();
    for added in adding {
        added.await.unwrap();
    }
    assert_eq!((count_of(&*storage, "n").await, count_of(&*storage, "m").await), (4950, -100));
    commit(&*storage, writes([add("n", i64::MAX), add("m", i64::MIN)])).await.unwrap();
    assert_eq!((count_of(&*storage, "n").await, count_of(&*storage, "m").await), (i64::MAX, i64::MIN));
    commit(&*storage, writes([Write::Delete { key: "n".into() }, add("n", 7), add("n", 1)])).await.unwrap();
    assert_eq!(count_of(&*storage, "n").await, 8);
}

pub(crate) async fn an_add_to_another_value_is_refused(storage: Arc<dyn Storage>) {
    commit(&*storage, writes([put("text", "7 bytes")])).await.unwrap();
    let not = |result: Result<(), CommitError>| matches!(result, Err(CommitError::NotACounter { .. }));
    assert!(not(commit(&*storage, writes([add("text", 1)])).await));
    // Writes of the same set count, like those of an earlier set of the group.
    assert!(not(commit(&*storage, writes([put("new", "text"), add("new", 1)])).await));
    let (first, second) =
        (storage.commit(writes([put("other", "text")]), no_effects()), storage.commit(writes([add("other", 1)]), no_effects()));
    assert!(first.await.is_ok() && not(second.await));
    commit(&*storage, writes([put("text", "8 bytes!"), add("text", 0)])).await.unwrap();
}

pub(crate) async fn appends_are_in_the_order_of_their_effects(storage: Arc<dyn Storage>) {
    let log = Log::default();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..100 {
        let (storage, log) = (storage.clone(), log.clone());
        tasks.spawn(async move {
            for n in 0..10 {
                let line = format!("{writer}/{n}");
                storage.commit(writes([append("log:", &line)]), log.effect(&line)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let history = storage.scan(&plugin("chat"), "log:", "", 2000, false).await.unwrap();
    let values: Vec<_> = history.iter().map(|(_, value)| String::from_utf8(value.to_vec()).unwrap()).collect();
    assert_eq!(values.len(), 1000);
    assert_eq!(values, log.lines());
    let digits = |key: &str| key.strip_prefix("log:").unwrap().len() == APPEND_DIGITS;
    assert!(history.iter().all(|(key, _)| digits(key)));
    let stats = storage.stats();
    assert!(stats.groups < stats.sets, "{} commits shared no sync", stats.sets);
}
