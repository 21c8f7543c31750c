//! Named values, rows that move to another plugin, and limits.

use bytes::Bytes;
use std::sync::Arc;

use super::*;

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

pub(crate) async fn several_blobs_are_written_all_or_none(storage: Arc<dyn Storage>) {
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    storage.put_blob("plugin/a".into(), "1".into()).await.unwrap();
    storage.put_blobs(vec![("plugin/a".into(), None), ("plugin/b".into(), value("2")), ("plugin/c".into(), None)]).await.unwrap();
    assert_eq!(storage.blobs("plugin/", 10).await.unwrap(), ["plugin/b"]);
    let too_large = Bytes::from(vec![0; MAX_BLOB + 1]);
    assert!(storage.put_blobs(vec![("plugin/b".into(), None), ("plugin/d".into(), Some(too_large))]).await.is_err());
    assert_eq!(storage.blobs("plugin/", 10).await.unwrap(), ["plugin/b"]);
}

pub(crate) async fn keys_are_listed_in_pages(storage: Arc<dyn Storage>) {
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

pub(crate) async fn handed_over_rows_move_to_the_other_plugin(storage: Arc<dyn Storage>) {
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

pub(crate) async fn a_hand_over_keeps_rows_that_the_other_plugin_has(storage: Arc<dyn Storage>) {
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
