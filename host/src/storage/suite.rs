//! Tests of the guarantees of every storage, written against the trait. `suite!(open)` runs them on one implementation; `open`
//! returns an empty storage and a value that keeps it alive.

mod blobs;
mod effects;
mod first_replies;
mod keys;
mod outbox;

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

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
            an_add_to_another_value_is_refused,
            appends_are_in_the_order_of_their_effects,
            effects_run_after_the_write_and_before_the_answer,
            a_failed_set_drops_its_effects,
            a_dropped_commit_still_completes,
            an_effect_that_panics_stops_no_other,
            waiting_effects_do_not_block_writes,
            the_outbox_is_in_commit_order,
            a_message_keeps_its_trace_and_its_group_reports_its_start,
            a_message_is_handled_once_for_each_plugin,
            dead_letters_are_kept_once_and_removed,
            a_dead_letter_is_revived_once_for_its_plugin_alone,
            a_revived_dead_letter_keeps_its_trace,
            rows_of_a_topic_are_counted_up_to_a_limit,
            blobs_are_named_values,
            several_blobs_are_written_all_or_none,
            keys_are_listed_in_pages,
            handed_over_rows_move_to_the_other_plugin,
            a_hand_over_keeps_rows_that_the_other_plugin_has,
            a_first_reply_is_stored_once,
            a_first_reply_that_is_too_old_is_replaced,
            past_their_bytes_the_oldest_first_replies_are_dropped,
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
pub(crate) use blobs::*;
pub(crate) use effects::*;
pub(crate) use first_replies::*;
pub(crate) use keys::*;
pub(crate) use outbox::*;
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

async fn keys_of(storage: &dyn Storage, start: &str, end: &str, limit: usize, reverse: bool) -> Vec<String> {
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
        self.0.lock().push(line.into());
    }

    fn effect(&self, line: impl Into<String>) -> Effects {
        let (log, line) = (self.clone(), line.into());
        Box::pin(async move { log.push(line) })
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}
