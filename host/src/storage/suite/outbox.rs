//! The outbox, handled ids and dead letters.

use std::sync::Arc;

use super::*;

pub(crate) async fn a_message_keeps_its_trace_and_its_group_reports_its_start(storage: Arc<dyn Storage>) {
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

pub(crate) async fn a_message_is_handled_once_for_each_plugin(storage: Arc<dyn Storage>) {
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
    // A set that conflicts has not handled its message.
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

pub(crate) async fn a_dead_letter_is_revived_once_for_its_plugin_alone(storage: Arc<dyn Storage>) {
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

pub(crate) async fn a_revived_dead_letter_keeps_its_trace(storage: Arc<dyn Storage>) {
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
