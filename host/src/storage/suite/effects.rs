//! Effects of a commit, and their order.

use std::sync::Arc;
use tokio::sync::Notify;

use super::*;

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

pub(crate) async fn a_dropped_commit_still_completes(storage: Arc<dyn Storage>) {
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

pub(crate) async fn an_effect_that_panics_stops_no_other(storage: Arc<dyn Storage>) {
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

pub(crate) async fn waiting_effects_do_not_block_writes(storage: Arc<dyn Storage>) {
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
