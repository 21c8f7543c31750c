//! Moves that are interrupted at any point lose nothing, and move nothing else.
#![allow(clippy::unwrap_used)]

use std::task::Poll;

use super::*;
use crate::clock::Clock;
use crate::storage::{DeadLetter, Embedded, HandledId, OutboxMessage, Write, WriteSet};

/// Keys of each kind: more than a batch.
const KEYS: usize = 2 * BATCH + 7;

fn plugin(name: &str) -> PluginName {
    PluginName::parse(name).unwrap()
}

fn threads() -> Move {
    Move { from: plugin("chat"), to: plugin("threads"), prefix: "threads/".into() }
}

fn topic_listeners(chat: &[&str], threads: &[&str]) -> TopicListeners {
    let texts = |topics: &[&str]| topics.iter().map(|topic| (*topic).to_owned()).collect();
    [(plugin("chat"), texts(chat)), (plugin("threads"), texts(threads))].into()
}

fn message(id: &str, topic: &str) -> OutboxMessage {
    let (id, topic, data) = (id.to_owned(), topic.to_owned(), "{}".to_owned());
    OutboxMessage { id, topic, key: None, tenant: None, data, hops: 0, at_ms: 1, trace: None }
}

/// Fills the chat's store: keys that are moved, keys that stay, timers, dead letters, handled ids and waiting messages.
async fn filled(storage: &dyn Storage) {
    let chat = plugin("chat");
    let mut keys: Vec<String> =
        ["messages/1", "thread", "threadz", "%t/acme/messages/1", "%t/acme/x/threads/1"].map(str::to_owned).into();
    keys.push(format!("{HOST_KEYS}timer/{SEPARATOR}other"));
    keys.push(format!("{HOST_KEYS}timer/{SEPARATOR}threads/t1"));
    keys.push(format!("{HOST_KEYS}timer/acme{SEPARATOR}threads/t1"));
    keys.push("%t/acme/threads/1".into());
    keys.extend((0..KEYS).map(|n| format!("threads/{n}")));
    for keys in keys.chunks(200) {
        let writes = keys.iter().map(|key| Write::Put { key: key.clone(), value: "1".into() }).collect();
        storage.commit(WriteSet { writes, ..WriteSet::new(chat.clone()) }, Box::pin(async {})).await.unwrap();
    }
    let mut messages = vec![message("free", "thread.upserted")];
    messages.extend(["thread.upserted", "chat.upserted"].map(|topic| message(topic, topic).addressed(&chat)));
    let handled = (0..KEYS).map(|n| HandledId { plugin: chat.clone(), id: format!("m{n}") }).collect();
    let set = WriteSet { messages, handled, ..WriteSet::new(chat.clone()) };
    storage.commit(set, Box::pin(async {})).await.unwrap();
    for topic in ["thread.upserted", "chat.upserted"] {
        let letter = DeadLetter { plugin: chat.clone(), message: message(&format!("dead {topic}"), topic), error: "why".into() };
        storage.dead_letter(letter).await.unwrap();
    }
}

/// Counts a plugin's keys, handled ids, dead letters and addressed messages.
async fn held(storage: &dyn Storage, name: &str) -> [usize; 4] {
    let plugin = plugin(name);
    let keys = storage.keys(&plugin, "", "", 10 * KEYS).await.unwrap().len();
    let handled = storage.handled_after(&plugin, "", 10 * KEYS).await.unwrap().len();
    let letters = storage.dead_letters(0, 100).await.unwrap();
    let rows = storage.outbox_after(0, 100).await.unwrap();
    let letters = letters.iter().filter(|row| row.letter.plugin == plugin).count();
    [keys, handled, letters, rows.iter().filter(|row| row.message.address().0 == Some(name)).count()]
}

fn opened(dir: &std::path::Path) -> Arc<dyn Storage> {
    Arc::new(Embedded::open(dir, &Default::default(), Clock::manual(0)).unwrap())
}

const BEFORE: [usize; 4] = [KEYS + 9, KEYS, 2, 2];
const MOVED: [usize; 4] = [KEYS + 3, KEYS, 1, 1];
const STAYED: [usize; 4] = [6, KEYS, 1, 1];

#[tokio::test]
async fn keys_and_topics_of_the_new_plugin_are_moved_and_moved_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path());
    filled(&*storage).await;
    let after = topic_listeners(&["chat.upserted"], &["thread.upserted"]);
    run_moves(&storage, &[threads()], &after).await.unwrap();
    assert_eq!((held(&*storage, "chat").await, held(&*storage, "threads").await), (STAYED, MOVED));
    let before = topic_listeners(&["chat.upserted", "thread.upserted"], &[]);
    run_moves(&storage, &[threads().back()], &before).await.unwrap();
    assert_eq!((held(&*storage, "chat").await, held(&*storage, "threads").await), (BEFORE, [0, KEYS, 0, 0]));
}

#[tokio::test]
async fn messages_of_topics_that_both_subscribe_to_are_not_moved() {
    let dir = tempfile::tempdir().unwrap();
    let storage = opened(dir.path());
    filled(&*storage).await;
    let both = ["chat.upserted", "thread.upserted"];
    run_moves(&storage, &[threads()], &topic_listeners(&both, &both)).await.unwrap();
    assert_eq!(held(&*storage, "threads").await, [KEYS + 3, KEYS, 0, 0]);
}

/// Polls a future up to `polls` times, and drops it. True if it has completed.
async fn cut_after<F: Future>(polls: usize, future: F) -> bool {
    let (mut future, mut left) = (Box::pin(future), polls);
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_move_can_be_continued_or_reverted() {
    let after = topic_listeners(&["chat.upserted"], &["thread.upserted"]);
    let before = topic_listeners(&["chat.upserted", "thread.upserted"], &[]);
    for on in [true, false] {
        for polls in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let storage = opened(dir.path());
            filled(&*storage).await;
            let done = cut_after(polls, run_moves(&storage, &[threads()], &after)).await;
            let (one, topic_listeners) = if on { (threads(), &after) } else { (threads().back(), &before) };
            run_moves(&storage, &[one], topic_listeners).await.unwrap();
            let expected = if on { (STAYED, MOVED) } else { (BEFORE, [0, 0, 0, 0]) };
            let found = (held(&*storage, "chat").await, held(&*storage, "threads").await);
            // Copied ids are not removed.
            let found = if on { found } else { (found.0, [found.1[0], 0, found.1[2], found.1[3]]) };
            assert_eq!(found, expected, "cut after {polls} polls");
            if done {
                break;
            }
        }
    }
}
