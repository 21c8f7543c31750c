//! What every storage promises, as tests that know only the trait. `suite!(open)` makes them tests of one implementation; `open`
//! gives an empty storage and what keeps it alive.

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::*;

macro_rules! suite {
    ($open:path) => {
        $crate::storage::suite::suite!(@ $open:
            a_put_is_read_and_a_delete_is_not,
            plugins_do_not_see_each_others_keys,
            a_set_is_written_whole_or_not_at_all,
            a_changed_read_is_a_conflict,
            an_absent_read_is_checked_too,
            sets_that_arrive_together_see_each_other_in_order,
            concurrent_readers_of_one_key_lose_nothing,
            several_keys_are_read_in_their_order,
            scans_go_both_ways,
            an_empty_end_is_the_end_of_the_prefix,
            a_scan_answers_its_limit,
            counters_add_up_and_saturate,
            what_is_no_counter_is_refused,
            appends_are_in_the_order_of_their_effects,
            effects_run_after_the_write_and_before_the_answer,
            a_failed_set_drops_its_effects,
            a_dropped_commit_goes_on,
            an_effect_that_panics_stops_nobody,
            effects_that_wait_do_not_hold_up_the_disk,
            the_outbox_is_in_commit_order,
            a_message_keeps_its_trace_and_its_group_tells_its_begin,
            a_message_is_handled_once_a_plugin,
            dead_letters_are_kept_once_and_removed,
            a_dead_letter_is_revived_for_its_plugin_alone_and_once,
            a_dead_letter_keeps_its_trace_and_is_revived_with_it,
            rows_of_a_topic_are_counted_up_to_a_limit,
            blobs_are_named_values,
            several_blobs_are_written_together_or_not_at_all,
            keys_are_listed_from_one_to_the_next,
            what_is_handed_over_is_the_other_plugins_alone,
            what_the_other_plugin_has_already_stays,
            limits_hold_at_the_limit,
        );
    };
    (@ $open:path: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (storage, _alive) = $open().await;
                $crate::storage::suite::$name(storage).await;
            }
        )*
    };
}
pub(crate) use suite;

pub(crate) fn plugin(name: &str) -> PluginName {
    PluginName::parse(name).unwrap()
}

pub(crate) fn no_effects() -> Effects {
    Box::pin(ready(()))
}

pub(crate) fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn add(key: &str, delta: i64) -> Write {
    Write::Add { key: key.to_owned(), delta }
}

fn append(prefix: &str, value: &str) -> Write {
    Write::Append { prefix: prefix.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

pub(crate) fn writes(writes: impl IntoIterator<Item = Write>) -> WriteSet {
    WriteSet { writes: writes.into_iter().collect(), ..WriteSet::new(plugin("chat")) }
}

pub(crate) fn message(id: &str) -> OutboxMessage {
    OutboxMessage {
        id: id.to_owned(),
        topic: "chat.accepted".to_owned(),
        key: Some("t1".to_owned()),
        tenant: None,
        data: r#"{"threadId":"t1"}"#.to_owned(),
        hops: 1,
        at_ms: 1_700_000_000_000,
        trace: None,
    }
}

pub(crate) async fn commit(storage: &dyn Storage, set: WriteSet) -> Result<(), CommitError> {
    storage.commit(set, no_effects()).await
}

pub(crate) async fn read(storage: &dyn Storage, key: &str) -> Option<String> {
    let value = storage.get(&plugin("chat"), key).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn keys(storage: &dyn Storage, start: &str, end: &str, limit: usize, reverse: bool) -> Vec<String> {
    let found = storage.scan(&plugin("chat"), start, end, limit, reverse).await.unwrap();
    found.into_iter().map(|(key, _)| key).collect()
}

async fn count_of(storage: &dyn Storage, key: &str) -> i64 {
    counter_value(storage.get(&plugin("chat"), key).await.unwrap().as_deref()).unwrap()
}

/// A list that effects write into.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    fn effect(&self, line: impl Into<String>) -> Effects {
        let (log, line) = (self.clone(), line.into());
        Box::pin(async move { log.push(line) })
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

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
    // Names that begin alike: where one ends and its keys begin must not be guessed.
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
    assert!(keys(&*storage, "log:", "", 10, false).await.is_empty());
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
    let gone =
        WriteSet { reads: vec![("a".to_owned(), Some(Fingerprint::of(b"1")))], ..writes([Write::Delete { key: "a".into() }]) };
    commit(&*storage, gone).await.unwrap();
    commit(&*storage, set("3")).await.unwrap();
}

pub(crate) async fn sets_that_arrive_together_see_each_other_in_order(storage: Arc<dyn Storage>) {
    commit(&*storage, writes([put("a", "0")])).await.unwrap();
    // Each rests on what the one before wrote, or on what it would have written; none is polled before all are submitted.
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
    assert_eq!(keys(&*storage, "", "", 100, false).await, all);
    assert_eq!(keys(&*storage, "b", "c", 100, false).await, ["b", "b1", "b2"]);
    assert_eq!(keys(&*storage, "b", "c", 100, true).await, ["b2", "b1", "b"]);
    assert_eq!(keys(&*storage, "b", "c", 2, true).await, ["b2", "b1"]);
    assert_eq!(keys(&*storage, "b", "c", 2, false).await, ["b", "b1"]);
    assert!(keys(&*storage, "c", "b", 100, false).await.is_empty());
    let (key, value) = storage.scan(&plugin("chat"), "b1", "", 1, false).await.unwrap().remove(0);
    assert_eq!((key.as_str(), &value[..]), ("b1", &b"b1"[..]));
}

pub(crate) async fn an_empty_end_is_the_end_of_the_prefix(storage: Arc<dyn Storage>) {
    // The last character there is: what follows its bytes is not text.
    let last = "a\u{10ffff}";
    let longer = "a\u{10ffff}\u{10ffff}z";
    commit(&*storage, writes(["a", "a:", "a;", last, longer, "b"].map(|key| put(key, "")))).await.unwrap();
    assert_eq!(keys(&*storage, "a:", "", 100, false).await, ["a:"]);
    assert_eq!(keys(&*storage, last, "", 100, false).await, [last, longer]);
    assert_eq!(keys(&*storage, "a", "", 100, true).await, [longer, last, "a;", "a:", "a"]);
    assert_eq!(keys(&*storage, "b", "", 100, false).await, ["b"]);
}

pub(crate) async fn a_scan_answers_its_limit(storage: Arc<dyn Storage>) {
    for from in (0..1000).step_by(MAX_SET_WRITES) {
        let some = (from..1000.min(from + MAX_SET_WRITES)).map(|n| put(&format!("k{n:04}"), "v"));
        commit(&*storage, writes(some)).await.unwrap();
    }
    assert_eq!(keys(&*storage, "k", "", 1000, false).await.len(), 1000);
    assert_eq!(keys(&*storage, "k", "", 999, true).await.last().unwrap(), "k0001");
    assert!(keys(&*storage, "k", "", 0, false).await.is_empty());
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

pub(crate) async fn what_is_no_counter_is_refused(storage: Arc<dyn Storage>) {
    commit(&*storage, writes([put("text", "7 bytes")])).await.unwrap();
    let not = |result: Result<(), CommitError>| matches!(result, Err(CommitError::NotACounter { .. }));
    assert!(not(commit(&*storage, writes([add("text", 1)])).await));
    // What the same set wrote before counts, as it does where an earlier set of the group wrote it.
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

pub(crate) async fn effects_run_after_the_write_and_before_the_answer(storage: Arc<dyn Storage>) {
    let log = Log::default();
    let (seen, reader) = (log.clone(), storage.clone());
    let effects = Box::pin(async move { seen.push(read(&*reader, "a").await.unwrap_or_default()) });
    storage.commit(writes([put("a", "written")]), effects).await.unwrap();
    assert_eq!(log.lines(), ["written"]);
}

pub(crate) async fn a_failed_set_drops_its_effects(storage: Arc<dyn Storage>) {
    let log = Log::default();
    let changed = WriteSet { reads: vec![("a".to_owned(), Some(Fingerprint::of(b"never")))], ..writes([put("a", "1")]) };
    let (before, failed, after) = (
        storage.commit(writes([put("b", "")]), log.effect("before")),
        storage.commit(changed, log.effect("failed")),
        storage.commit(writes([put("c", "")]), log.effect("after")),
    );
    assert!(before.await.is_ok());
    assert!(matches!(failed.await, Err(CommitError::Conflict)));
    assert!(after.await.is_ok());
    assert_eq!(log.lines(), ["before", "after"]);
}

pub(crate) async fn a_dropped_commit_goes_on(storage: Arc<dyn Storage>) {
    let log = Log::default();
    for n in 0..10 {
        drop(storage.commit(writes([append("log:", &n.to_string())]), log.effect(n.to_string())));
    }
    storage.commit(writes([append("log:", "last")]), log.effect("last")).await.unwrap();
    let expected: Vec<_> = (0..10).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(log.lines(), expected);
    let history = storage.scan(&plugin("chat"), "log:", "", 100, false).await.unwrap();
    assert!(history.iter().map(|(_, value)| &value[..]).eq(expected.iter().map(String::as_bytes)));
}

pub(crate) async fn an_effect_that_panics_stops_nobody(storage: Arc<dyn Storage>) {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped, as the test wants it");
        }
    }
    let log = Log::default();
    let panics = storage.commit(writes([put("a", "1")]), Box::pin(async { panic!("polled, as the test wants it") }));
    let owned = PanicsWhenDropped;
    let bomb = storage.commit(writes([put("b", "2")]), Box::pin(async move { drop(owned) }));
    let after = storage.commit(writes([put("c", "3")]), log.effect("after"));
    assert!(panics.await.is_ok() && bomb.await.is_ok() && after.await.is_ok());
    assert_eq!(log.lines(), ["after"]);
    assert_eq!(read(&*storage, "a").await.as_deref(), Some("1"));
    assert_eq!(storage.stats().effects_panicked, 2);
}

pub(crate) async fn effects_that_wait_do_not_hold_up_the_disk(storage: Arc<dyn Storage>) {
    let (log, go) = (Log::default(), Arc::new(Notify::new()));
    let slow = {
        let (log, go) = (log.clone(), go.clone());
        Box::pin(async move {
            go.notified().await;
            log.push("slow");
        })
    };
    let mut slow = storage.commit(writes([put("a", "1")]), slow);
    let mut fast = storage.commit(writes([put("b", "2")]), log.effect("fast"));
    // The second write is on the disk while the first one's effects still wait.
    while read(&*storage, "b").await.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(log.lines().is_empty());
    assert!(futures_pending(&mut slow).await && futures_pending(&mut fast).await);
    go.notify_one();
    assert!(fast.await.is_ok() && slow.await.is_ok());
    assert_eq!(log.lines(), ["slow", "fast"]);
}

async fn futures_pending<T>(future: &mut BoxFuture<'_, T>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

pub(crate) async fn a_message_keeps_its_trace_and_its_group_tells_its_begin(storage: Arc<dyn Storage>) {
    let traced = OutboxMessage { trace: Some("00-11-22-01".to_owned()), ..message("m1") };
    let messages = vec![traced.clone(), message("m2")];
    let begun = Arc::default();
    let set = WriteSet { messages, begun: Some(Arc::clone(&begun)), ..WriteSet::new(plugin("chat")) };
    commit(&*storage, set).await.unwrap();
    assert!(begun.get().is_some());
    let rows = storage.outbox_after(0, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.message.clone()).collect::<Vec<_>>(), [traced, message("m2")]);
}

pub(crate) async fn the_outbox_is_in_commit_order(storage: Arc<dyn Storage>) {
    for set in [vec!["m1", "m2"], vec!["m3"]] {
        let messages = set.into_iter().map(message).collect();
        commit(&*storage, WriteSet { messages, ..WriteSet::new(plugin("chat")) }).await.unwrap();
    }
    let rows = storage.outbox_after(0, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.message.clone()).collect::<Vec<_>>(), ["m1", "m2", "m3"].map(message));
    assert!(rows.is_sorted_by(|a, b| a.seq < b.seq));
    assert_eq!(storage.outbox_after(0, 1).await.unwrap(), rows[..1]);
    assert_eq!(storage.outbox_after(rows[1].seq, 10).await.unwrap(), rows[2..]);
    for _ in 0..2 {
        storage.outbox_done(rows[1].seq).await.unwrap();
        assert_eq!(storage.outbox_after(0, 10).await.unwrap(), rows[2..]);
    }
}

pub(crate) async fn a_message_is_handled_once_a_plugin(storage: Arc<dyn Storage>) {
    let log = Log::default();
    let handle = |name: &str, value: &str| {
        let (plugin, id) = (plugin(name), "m1".to_owned());
        let handled = vec![HandledId { plugin: plugin.clone(), id }];
        storage.commit(WriteSet { writes: vec![put("a", value)], handled, ..WriteSet::new(plugin) }, log.effect(value))
    };
    // The first two arrive together.
    let (first, again) = (handle("chat", "first"), handle("chat", "again"));
    assert!(first.await.is_ok());
    assert!(matches!(again.await, Err(CommitError::AlreadyHandled)));
    assert!(matches!(handle("chat", "later").await, Err(CommitError::AlreadyHandled)));
    handle("lms", "other").await.unwrap();
    assert_eq!(log.lines(), ["first", "other"]);
    assert_eq!(read(&*storage, "a").await.as_deref(), Some("first"));
    assert_eq!(storage.stats().already_handled, 2);
    // One that conflicts has not handled its message.
    let set = |seen: Option<Fingerprint>| WriteSet {
        reads: vec![("a".to_owned(), seen)],
        handled: vec![HandledId { plugin: plugin("chat"), id: "m2".to_owned() }],
        ..writes([put("a", "second")])
    };
    assert!(matches!(commit(&*storage, set(None)).await, Err(CommitError::Conflict)));
    commit(&*storage, set(Some(Fingerprint::of(b"first")))).await.unwrap();
    // Nor has a set that would handle one twice.
    let twice = HandledId { plugin: plugin("chat"), id: "m3".to_owned() };
    let set = WriteSet { handled: vec![twice.clone(), twice], ..writes([put("a", "third")]) };
    assert!(matches!(commit(&*storage, set).await, Err(CommitError::AlreadyHandled)));
    assert_eq!(read(&*storage, "a").await.as_deref(), Some("second"));
}

pub(crate) async fn dead_letters_are_kept_once_and_removed(storage: Arc<dyn Storage>) {
    let letter = |id: &str| DeadLetter { plugin: plugin("chat"), message: message(id), error: "trapped".to_owned() };
    for id in ["m1", "m2", "m1"] {
        storage.dead_letter(letter(id)).await.unwrap();
    }
    let kept = storage.dead_letters(0, 10).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.letter.clone()).collect::<Vec<_>>(), ["m1", "m2"].map(letter));
    assert_eq!(storage.dead_letters(kept[0].seq, 10).await.unwrap(), kept[1..]);
    assert!(storage.remove_dead_letter(kept[0].seq).await.unwrap());
    assert!(!storage.remove_dead_letter(kept[0].seq).await.unwrap());
    assert_eq!(storage.dead_letters(0, 10).await.unwrap(), kept[1..]);
}

pub(crate) async fn a_dead_letter_is_revived_for_its_plugin_alone_and_once(storage: Arc<dyn Storage>) {
    storage.dead_letter(DeadLetter { plugin: plugin("chat"), message: message("m"), error: "no".to_owned() }).await.unwrap();
    let messages = vec![message("before")];
    commit(&*storage, WriteSet { messages, ..WriteSet::new(plugin("host")) }).await.unwrap();
    let seq = storage.dead_letters(0, 10).await.unwrap()[0].seq;
    assert!(storage.revive_dead_letter(seq).await.unwrap());
    assert!(!storage.revive_dead_letter(seq).await.unwrap());
    assert!(storage.dead_letters(0, 10).await.unwrap().is_empty());
    let rows = storage.outbox_after(0, 10).await.unwrap();
    assert_eq!(rows.len(), 2, "it is behind what waited: {rows:?}");
    assert_eq!(rows[1].message, message("m").addressed(&plugin("chat")));
    assert_eq!(rows[1].message.address(), (Some("chat"), "chat.accepted"));
    assert_eq!(rows[0].message.address(), (None, "chat.accepted"));
}

pub(crate) async fn a_dead_letter_keeps_its_trace_and_is_revived_with_it(storage: Arc<dyn Storage>) {
    let traced = OutboxMessage { trace: Some("00-11-22-01".to_owned()), ..message("m1") };
    for message in [traced.clone(), message("m2"), OutboxMessage { trace: Some("00-33-44-01".to_owned()), ..traced.clone() }] {
        storage.dead_letter(DeadLetter { plugin: plugin("chat"), message, error: "no".to_owned() }).await.unwrap();
    }
    let kept = storage.dead_letters(0, 10).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.letter.message.clone()).collect::<Vec<_>>(), [traced.clone(), message("m2")]);
    for row in &kept {
        assert!(storage.revive_dead_letter(row.seq).await.unwrap());
    }
    let rows = storage.outbox_after(0, 10).await.unwrap();
    let revived: Vec<_> = rows.into_iter().map(|row| row.message).collect();
    assert_eq!(revived, [traced, message("m2")].map(|message| message.addressed(&plugin("chat"))));
}

pub(crate) async fn rows_of_a_topic_are_counted_up_to_a_limit(storage: Arc<dyn Storage>) {
    let other = OutboxMessage { topic: "other".to_owned(), ..message("o") };
    let messages = vec![message("1"), other, message("2"), message("3")];
    commit(&*storage, WriteSet { messages, ..WriteSet::new(plugin("host")) }).await.unwrap();
    let first = storage.outbox_after(0, 1).await.unwrap()[0].seq;
    assert_eq!(storage.outbox_waiting("chat.accepted", 0, 10).await.unwrap(), 3);
    assert_eq!(storage.outbox_waiting("chat.accepted", first, 10).await.unwrap(), 2);
    assert_eq!(storage.outbox_waiting("chat.accepted", 0, 2).await.unwrap(), 2);
    assert_eq!(storage.outbox_waiting("nothing", 0, 10).await.unwrap(), 0);
}

pub(crate) async fn blobs_are_named_values(storage: Arc<dyn Storage>) {
    assert_eq!(storage.blob("component/1").await.unwrap(), None);
    let large = Bytes::from(vec![7; 3 << 20]);
    for (name, value) in [("component/1", large.clone()), ("component/2", Bytes::new()), ("release/1", Bytes::from_static(b"v1"))]
    {
        storage.put_blob(name.to_owned(), value).await.unwrap();
    }
    storage.put_blob("release/1".to_owned(), Bytes::from_static(b"v2")).await.unwrap();
    assert_eq!(storage.blob("component/1").await.unwrap(), Some(large));
    assert_eq!(storage.blob("release/1").await.unwrap().as_deref(), Some(&b"v2"[..]));
    assert_eq!(storage.blobs("component/", 10).await.unwrap(), ["component/1", "component/2"]);
    assert!(storage.remove_blob("component/1".to_owned()).await.unwrap());
    assert!(!storage.remove_blob("component/1".to_owned()).await.unwrap());
    assert_eq!(storage.blobs("", 10).await.unwrap(), ["component/2", "release/1"]);
    let over = storage.put_blob("big".to_owned(), Bytes::from(vec![0; MAX_BLOB + 1])).await;
    assert!(over.is_err());
}

pub(crate) async fn several_blobs_are_written_together_or_not_at_all(storage: Arc<dyn Storage>) {
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    storage.put_blob("plugin/a".into(), "1".into()).await.unwrap();
    storage.put_blobs(vec![("plugin/a".into(), None), ("plugin/b".into(), value("2")), ("plugin/c".into(), None)]).await.unwrap();
    assert_eq!(storage.blobs("plugin/", 10).await.unwrap(), ["plugin/b"]);
    let too_large = Bytes::from(vec![0; MAX_BLOB + 1]);
    assert!(storage.put_blobs(vec![("plugin/b".into(), None), ("plugin/d".into(), Some(too_large))]).await.is_err());
    assert_eq!(storage.blobs("plugin/", 10).await.unwrap(), ["plugin/b"]);
}

pub(crate) async fn keys_are_listed_from_one_to_the_next(storage: Arc<dyn Storage>) {
    commit(&*storage, writes(["a", "b/1", "b/2", "b/3", "c"].map(|key| put(key, "x")))).await.unwrap();
    let chat = plugin("chat");
    assert_eq!(storage.keys(&chat, "b/", "", 2).await.unwrap(), ["b/1", "b/2"]);
    assert_eq!(storage.keys(&chat, "b/", "b/2", 2).await.unwrap(), ["b/3"]);
    assert_eq!(storage.keys(&chat, "", "b/3", 9).await.unwrap(), ["c"]);
    assert!(storage.keys(&plugin("other"), "", "", 9).await.unwrap().is_empty());
}

/// A set of the plugin `chat` that handles a message.
fn handles(id: &str) -> WriteSet {
    WriteSet { handled: vec![HandledId { plugin: plugin("chat"), id: id.to_owned() }], ..writes([]) }
}

pub(crate) async fn what_is_handed_over_is_the_other_plugins_alone(storage: Arc<dyn Storage>) {
    let (chat, desk) = (plugin("chat"), plugin("desk"));
    let addressed = message("waits").addressed(&chat);
    let topic = message("waits").topic;
    let set = WriteSet { messages: vec![addressed, message("free")], ..writes([put("t/1", "one"), put("u/1", "stays")]) };
    commit(&*storage, set).await.unwrap();
    commit(&*storage, handles("m1")).await.unwrap();
    let letter = DeadLetter { plugin: chat.clone(), message: message("dead"), error: "why".into() };
    storage.dead_letter(letter).await.unwrap();
    let dead = storage.dead_letters(0, 9).await.unwrap()[0].seq;
    let row = storage.outbox_after(0, 9).await.unwrap()[0].seq;
    let handled = storage.handled_after(&chat, "", 9).await.unwrap();
    assert_eq!(handled.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["m1"]);
    let all = HandOver {
        keys: vec!["t/1".into(), "absent".into()],
        handled: handled.clone(),
        letters: vec![dead],
        messages: vec![(row, topic)],
        ..HandOver::new(chat.clone(), desk.clone())
    };
    // The second time, as after a crash that lost the answer, nothing changes.
    for _ in 0..2 {
        storage.hand_over(all.clone()).await.unwrap();
        assert_eq!(storage.get(&desk, "t/1").await.unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!((storage.keys(&chat, "", "", 9).await.unwrap(), read(&*storage, "t/1").await), (vec!["u/1".into()], None));
        assert_eq!(storage.handled_after(&desk, "", 9).await.unwrap(), handled);
        assert!(matches!(commit(&*storage, handles("m1")).await, Err(CommitError::AlreadyHandled)));
        assert_eq!(storage.dead_letters(0, 9).await.unwrap()[0].letter.plugin, desk);
        let rows = storage.outbox_after(0, 9).await.unwrap();
        assert_eq!((rows[0].message.address().0, rows[1].message.address().0), (Some("desk"), None));
    }
}

pub(crate) async fn what_the_other_plugin_has_already_stays(storage: Arc<dyn Storage>) {
    let (chat, desk) = (plugin("chat"), plugin("desk"));
    commit(&*storage, writes([put("t/1", "old"), put("t/2", "old")])).await.unwrap();
    commit(&*storage, WriteSet { writes: vec![put("t/1", "new")], ..WriteSet::new(desk.clone()) }).await.unwrap();
    for plugin in [&chat, &desk] {
        let letter = DeadLetter { plugin: plugin.clone(), message: message("dead"), error: plugin.to_string() };
        storage.dead_letter(letter).await.unwrap();
    }
    let letters = storage.dead_letters(0, 9).await.unwrap().iter().map(|row| row.seq).collect();
    let keys = vec!["t/1".into(), "t/2".into()];
    storage.hand_over(HandOver { keys, letters, ..HandOver::new(chat.clone(), desk.clone()) }).await.unwrap();
    assert_eq!(storage.get(&desk, "t/1").await.unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(storage.keys(&chat, "", "", 9).await.unwrap(), ["t/1"]);
    assert_eq!(storage.keys(&desk, "", "", 9).await.unwrap(), ["t/1", "t/2"]);
    assert_eq!(storage.dead_letters(0, 9).await.unwrap().len(), 2);
}

pub(crate) async fn limits_hold_at_the_limit(storage: Arc<dyn Storage>) {
    let refused = async |set: WriteSet| match commit(&*storage, set).await {
        Ok(()) => None,
        Err(CommitError::Invalid(invalid)) => Some(invalid),
        Err(error) => panic!("{error}"),
    };
    let (key, prefix, value) = (|n| "k".repeat(n), |n| "p".repeat(n - APPEND_DIGITS), |n| "v".repeat(n));
    assert_eq!(refused(writes([put(&key(MAX_KEY), "")])).await, None);
    assert_eq!(refused(writes([put(&key(MAX_KEY + 1), "")])).await, Some(Invalid::Key));
    assert_eq!(refused(writes([put("", "")])).await, Some(Invalid::Key));
    assert_eq!(refused(writes([append(&prefix(MAX_KEY), "")])).await, None);
    assert_eq!(refused(writes([append(&prefix(MAX_KEY + 1), "")])).await, Some(Invalid::Key));
    assert_eq!(refused(writes([put("v", &value(MAX_VALUE))])).await, None);
    assert_eq!(refused(writes([put("v", &value(MAX_VALUE + 1))])).await, Some(Invalid::Value));
    let many = |n: usize| WriteSet { messages: vec![message("m")], ..writes((1..n).map(|n| put(&n.to_string(), ""))) };
    assert_eq!(refused(many(MAX_SET_WRITES)).await, None);
    assert_eq!(refused(many(MAX_SET_WRITES + 1)).await, Some(Invalid::Writes));
    let large = |n: usize| writes((0..4).map(|i| put(&i.to_string(), &value(n / 4 - 1))));
    assert_eq!(refused(large(MAX_SET_BYTES)).await, None);
    assert_eq!(refused(writes((0..5).map(|i| put(&i.to_string(), &value(MAX_VALUE - 1))))).await, Some(Invalid::Bytes));
    let reads = |n: usize| WriteSet { reads: vec![("none".to_owned(), None); n], ..writes([put("r", "")]) };
    assert_eq!(refused(reads(MAX_READS)).await, None);
    assert_eq!(refused(reads(MAX_READS + 1)).await, Some(Invalid::Reads));
    assert_eq!(read(&*storage, "v").await.map(|value| value.len()), Some(MAX_VALUE));
}
